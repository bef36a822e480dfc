"""The shapes that figures take, on named tables. Steps are on a log axis of step + 1, so that step 0 is there.

A click on a mark, or the page's own menus, set `focus_size` and `focus_seed`; what is not singled out fades.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import altair as alt

STEP_TITLE = "Training step + 1 (log scale)"
PARAMETERS_TITLE = "Parameters (log scale)"
_IS_POWER_OF_TEN = "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6"
_SHORT = "datum.value < 1 ? format(datum.value, '~g') : replace(format(datum.value, '~s'), 'G', 'B')"
POWERS_OF_TEN = f"{_IS_POWER_OF_TEN} ? ({_SHORT}) : ''"
THINNED = f"datum.label ? ({_SHORT}) : ''"  # Vega itself leaves labels empty where they would crowd
_GRADIENT = alt.Legend(type="gradient")
_IN_FOCUS = {
    "size": "(!focus_size || datum.size == focus_size)",
    "seed": "(!focus_seed || datum.seed == focus_seed)",
}


@cache
def named(table: str) -> alt.NamedData:
    """A reference to a table. One object a table: Altair tells by identity that layers share their data."""
    return alt.NamedData(name=table)


def log_x(field: str, title: str, *, labels: str = POWERS_OF_TEN, **scale: Any) -> alt.X:
    return alt.X(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="log", nice=False, padding=6, **scale),
        axis=alt.Axis(labelExpr=labels),
    )


def log_y(field: str, title: str, **scale: Any) -> alt.Y:
    lines = alt.when(_IS_POWER_OF_TEN).then(alt.value(1)).otherwise(alt.value(0))
    axis = alt.Axis(labelExpr=THINNED, gridOpacity=lines)
    return alt.Y(
        f"{field}:Q", title=title, scale=alt.Scale(type="log", **({"nice": False, "padding": 8} | scale)), axis=axis
    )


def step_x(field: str = "step_modded", **scale: Any) -> alt.X:
    return log_x(field, STEP_TITLE, **scale)


def parameters_x() -> alt.X:
    return log_x("n_params", PARAMETERS_TITLE, labels=THINNED)


def value_y(field: str, title: str, *, zero: bool = False, **scale: Any) -> alt.Y:
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(zero=zero, **scale))


def share_y(field: str, title: str) -> alt.Y:
    """From none to all, in per cent."""
    return alt.Y(f"{field}:Q", title=title, axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))


def by_size(sizes: Sequence[str]) -> alt.Color:
    """The colour of a size, the same in every figure; the page explains it in buttons, a picture in a legend."""
    return alt.Color("size:O", title="Size", scale=alt.Scale(domain=list(sizes)))


def shown(full: float, faded: float, *columns: str) -> Any:
    """Opacity `full` where the row's size and seed (of `columns`) are in focus, else `faded`."""
    return alt.condition(" && ".join(_IN_FOCUS[column] for column in columns), alt.value(full), alt.value(faded))


def focusable(chart: Any) -> Any:
    """`chart` with the parameters that its fading marks refer to."""
    return chart.add_params(alt.param(name="focus_size", value=""), alt.param(name="focus_seed", value=""))


def tips(*fields: tuple[str, str] | tuple[str, str, str]) -> list[alt.Tooltip]:
    """Tooltips: (field with type, title) and a number format where one is due."""
    return [alt.Tooltip(shorthand, title=title, **_format(*how)) for shorthand, title, *how in fields]


def _format(format: str = "") -> Any:
    return {"format": format} if format else {}


def panels(chart: Any, column: str, order: Sequence[str], *, title: str | None = None, columns: int = 2) -> Any:
    """Small multiples, a panel for each value of `column`, in `order`."""
    header = alt.Header(title=title)
    return chart.facet(facet=alt.Facet(f"{column}:N", sort=list(order), header=header), columns=columns)


def guide(table: str, panel: str = "", **at: float) -> Any:
    """A dotted line at `x` or `y`, once a panel; its data are the panels', so that it can stand in small multiples."""
    base = alt.Chart(named(table)).transform_aggregate(rows="count()", groupby=[panel] if panel else [])
    return base.mark_rule(strokeDash=[2, 3], style="soft").encode(
        **{axis: alt.datum(value) for axis, value in at.items()}
    )


def hoverable(chart: Any, x: Any, y: Any, tooltip: list[alt.Tooltip], **encodings: Any) -> Any:
    """Invisible wide points under a curve: what the pointer finds."""
    return chart.mark_point(size=140, opacity=0, filled=True).encode(x=x, y=y, tooltip=tooltip, **encodings)


def band_and_line(table: str, x: Any, *, where: str = "", **encodings: Any) -> Any:
    """A fitted line with its interval: columns `fit`, `lower`, `upper`."""
    base = alt.Chart(named(table))
    base = base.transform_filter(where) if where else base
    band = base.mark_area(opacity=0.14, style="soft").encode(x=x, y=alt.Y("lower:Q"), y2="upper:Q", **encodings)
    line = base.mark_line(strokeWidth=1.8, style="ink", strokeDash=[6, 3]).encode(x=x, y="fit:Q", **encodings)
    return band + line


def tiles(table: str, x: alt.X, y: alt.Y, color: alt.Color, tooltip: list[alt.Tooltip], **encodings: Any) -> Any:
    return alt.Chart(named(table)).mark_rect().encode(x=x, y=y, color=color, tooltip=tooltip, **encodings)


def sequential(field: str, title: str, **scale: Any) -> alt.Color:
    """From paper to ink: for what has a zero and no sign."""
    return alt.Color(f"{field}:Q", title=title, scale=alt.Scale(range="heatmap", **scale), legend=_GRADIENT)


def diverging(field: str, title: str, **scale: Any) -> alt.Color:
    """Two hues around 0: for what has a sign."""
    colours = alt.Scale(range="diverging", domainMid=0, interpolate="rgb", **scale)
    return alt.Color(f"{field}:Q", title=title, scale=colours, legend=_GRADIENT)


def against_chance(
    table: str, x: str, x_title: str, y: str, order: Sequence[str], y_title: str, tooltip: list[alt.Tooltip]
) -> Any:
    """What was observed (a dot) on what chance gives (a bar: central 95 %, with a tick at its mean)."""
    base = alt.Chart(named(table))
    rows = alt.Y(f"{y}:N", sort=list(order), title=y_title)
    bar = base.mark_bar(height=11, opacity=0.35, style="soft").encode(
        x=alt.X("chance_lower:Q", title=x_title), x2="chance_upper:Q", y=rows, tooltip=tooltip
    )
    middle = base.mark_tick(thickness=1.5, height=13, style="soft").encode(x="chance:Q", y=rows)
    dot = base.mark_point(size=75, filled=True, opacity=1, style="accent").encode(x=f"{x}:Q", y=rows, tooltip=tooltip)
    return bar + middle + dot


def tidy(spec: dict[str, Any]) -> dict[str, Any]:
    """A chart's specification without its own configuration, which the theme replaces."""
    return {key: value for key, value in spec.items() if key not in ("config", "$schema", "usermeta")}

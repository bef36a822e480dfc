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
POWERS_OF_TEN = "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6 ? format(datum.value, '~s') : ''"
_IN_FOCUS = {
    "size": "(!focus_size || datum.size == focus_size)",
    "seed": "(!focus_seed || datum.seed == focus_seed)",
}


@cache
def named(table: str) -> alt.NamedData:
    """A reference to a table. One object a table: Altair tells by identity that layers share their data."""
    return alt.NamedData(name=table)


def log_x(field: str, title: str, **scale: Any) -> alt.X:
    return alt.X(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="log", nice=False, padding=6, **scale),
        axis=alt.Axis(labelExpr=POWERS_OF_TEN),
    )


def log_y(field: str, title: str, **scale: Any) -> alt.Y:
    axis = alt.Axis(labelExpr=POWERS_OF_TEN)
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(type="log", **scale), axis=axis)


def step_x(field: str = "step_modded", **scale: Any) -> alt.X:
    return log_x(field, STEP_TITLE, **scale)


def parameters_x() -> alt.X:
    return log_x("n_params", PARAMETERS_TITLE)


def value_y(field: str, title: str, *, zero: bool = False, **scale: Any) -> alt.Y:
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(zero=zero, **scale))


def by_size(sizes: Sequence[str]) -> alt.Color:
    """The colour of a size, the same in every figure."""
    return alt.Color("size:O", scale=alt.Scale(domain=list(sizes)), legend=alt.Legend(title="Size"))


def shown(full: float, faded: float, *columns: str) -> Any:
    """Opacity `full` where the row's size and seed (of `columns`) are in focus, else `faded`."""
    return alt.condition(" && ".join(_IN_FOCUS[column] for column in columns), alt.value(full), alt.value(faded))


def focusable(chart: Any) -> Any:
    """`chart` with the parameters that its fading marks refer to."""
    return chart.add_params(alt.param(name="focus_size", value=""), alt.param(name="focus_seed", value=""))


def tips(*fields: tuple[str, str] | tuple[str, str, str]) -> list[alt.Tooltip]:
    """Tooltips: (field with type, title) and a number format where one is due."""
    return [
        alt.Tooltip(field[0], title=field[1], **({"format": field[2]} if len(field) > 2 else {})) for field in fields
    ]


def panels(chart: Any, column: str, order: Sequence[str], *, title: str | None = None, columns: int = 2) -> Any:
    """Small multiples, a panel for each value of `column`, in `order`."""
    header = alt.Header(title=title)
    return chart.facet(facet=alt.Facet(f"{column}:N", sort=list(order), header=header), columns=columns)


def mark_step(table: str, step: int) -> Any:
    """A dotted line at a step; it takes its place from data, so that it can stand in small multiples."""
    return alt.Chart(named(table)).mark_rule(strokeDash=[2, 3], style="soft").encode(x=alt.datum(step + 1))


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
    return alt.Color(f"{field}:Q", title=title, scale=alt.Scale(range="heatmap", **scale))


def diverging(field: str, title: str, **scale: Any) -> alt.Color:
    """Two hues around 0: for what has a sign."""
    return alt.Color(f"{field}:Q", title=title, scale=alt.Scale(range="diverging", domainMid=0, **scale))


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

"""The shapes that figures take, on named tables.

A click on a mark, or the page's own menus, set `focus_size` and `focus_seed`; what is not singled out fades.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import altair as alt

from headway.reporting.charts import axes

SMALL_HEIGHT = 110  # pixels of a small chart beside a line of the summary
_GRADIENT = alt.Legend(type="gradient")
_IN_FOCUS = {
    "size": "(!focus_size || datum.size == focus_size)",
    "seed": "(!focus_seed || datum.seed == focus_seed)",
}


@cache
def named(table: str) -> alt.NamedData:
    """A reference to a table. One object a table: Altair tells by identity that layers share their data."""
    return alt.NamedData(name=table)


def base(table: str, where: str = "") -> alt.Chart:
    """A chart on the rows of a table, or on those that `where` picks."""
    chart = alt.Chart(named(table))
    return chart.transform_filter(where) if where else chart


# Colour, focus, tooltips -------------------------------------------------------------------------------------


def by_size(sizes: Sequence[str]) -> alt.Color:
    """The colour of a size, the same in every figure; the page explains it in buttons, a picture in a legend."""
    return alt.Color("size:O", title="Size", scale=alt.Scale(domain=list(sizes)))


def by_number(column: str, numbers: Sequence[int]) -> alt.Color:
    """Low numbers dark, high ones light; at most eight of them in the legend."""
    shown_numbers = list(numbers)[:: -(-len(numbers) // 8)]
    legend = alt.Legend(type="symbol", symbolType="stroke", symbolStrokeWidth=3, values=shown_numbers, format="d")
    scale = alt.Scale(range="ramp", domain=[0, max(1, numbers[-1])])
    return alt.Color(f"{column}:Q", title=column.capitalize(), scale=scale, legend=legend)


def by_name(field: str, title: str, colours: dict[str, str]) -> alt.Color:
    """A colour for each of a few names, with a legend."""
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{field}:N", title=title, scale=scale, legend=alt.Legend(orient="top"))


def sequential(field: str, title: str, **scale: Any) -> alt.Color:
    """From paper to ink: for what has a zero and no sign."""
    return alt.Color(f"{field}:Q", title=title, scale=alt.Scale(range="heatmap", **scale), legend=_GRADIENT)


def diverging(field: str, title: str, **scale: Any) -> alt.Color:
    """Two hues around 0: for what has a sign."""
    colours = alt.Scale(range="diverging", domainMid=0, interpolate="rgb", **scale)
    return alt.Color(f"{field}:Q", title=title, scale=colours, legend=_GRADIENT)


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


# Shapes ------------------------------------------------------------------------------------------------------


def panels(chart: Any, column: str, order: Sequence[str], *, title: str | None = None, columns: int = 2) -> Any:
    """Small multiples, a panel for each value of `column`, in `order`."""
    header = alt.Header(title=title)
    return chart.facet(facet=alt.Facet(f"{column}:N", sort=list(order), header=header), columns=columns)


def guide(table: str, panel: str = "", **at: float) -> Any:
    """A dotted line at `x` or `y`, once a panel; its data are the panels', so that it can stand in small multiples."""
    rows = alt.Chart(named(table)).transform_aggregate(rows="count()", groupby=[panel] if panel else [])
    return rows.mark_rule(strokeDash=[2, 3], style="soft").encode(
        **{axis: alt.datum(value) for axis, value in at.items()}
    )


def hoverable(chart: Any, x: Any, y: Any, tooltip: list[alt.Tooltip], **encodings: Any) -> Any:
    """Invisible wide points under a curve: what the pointer finds."""
    return chart.mark_point(size=140, opacity=0, filled=True).encode(x=x, y=y, tooltip=tooltip, **encodings)


def lines(
    table: str, x: Any, y: Any, tooltip: list[alt.Tooltip], *, by: str, width: float = 1.5, **encodings: Any
) -> Any:
    """A curve for each value of `by`, with what the pointer finds of it."""
    chart = base(table)
    curves = chart.mark_line(strokeWidth=width).encode(x=x, y=y, detail=f"{by}:N", **encodings)
    return alt.layer(curves, hoverable(chart, x, y, tooltip, detail=f"{by}:N"))


def band(chart: Any, x: Any, *, opacity: Any, interpolate: str = "linear", **encodings: Any) -> Any:
    """The area between the columns `lower` and `upper`."""
    area = chart.mark_area(interpolate=interpolate)
    return area.encode(x=x, y=alt.Y("lower:Q"), y2="upper:Q", opacity=opacity, **encodings)


def band_and_line(table: str, x: Any) -> Any:
    """A fitted line with its interval: columns `fit`, `lower`, `upper`."""
    chart = base(table)
    area = chart.mark_area(opacity=0.14, style="soft").encode(x=x, y=alt.Y("lower:Q"), y2="upper:Q")
    line = chart.mark_line(strokeWidth=1.8, style="ink", strokeDash=[6, 3]).encode(x=x, y="fit:Q")
    return area + line


def size_means(chart: Any, x: Any, y: Any, sizes: Sequence[str], *, dots: bool = False, **line: Any) -> Any:
    """The mean of each size with the band of `lower` and `upper`."""
    color = by_size(sizes)
    point = alt.OverlayMarkDef(size=24, filled=True) if dots else alt.Undefined
    area = band(chart, x, color=color, opacity=shown(0.17, 0.03, "size"), interpolate=line.get("interpolate", "linear"))
    means = chart.mark_line(strokeWidth=2.2, point=point, **line).encode(
        x=x, y=y, color=color, opacity=shown(1, 0.13, "size")
    )
    return area + means


def run_dots(chart: Any, x: Any, y: Any, sizes: Sequence[str], tooltip: list[alt.Tooltip], size: int = 70) -> Any:
    """A dot for each run in the colour of its size."""
    return chart.mark_point(size=size, filled=True).encode(
        x=x, y=y, color=by_size(sizes), tooltip=tooltip, opacity=shown(0.8, 0.1, "size", "seed")
    )


def run_spans(
    table: str, x: alt.X, end: str, seeds: Sequence[str], sizes: Sequence[str], tooltip: list[alt.Tooltip]
) -> Any:
    """A bar from `x` to the column `end` for each run, a row a seed and a panel a size."""
    bars = (
        base(table)
        .mark_bar(height=7, cornerRadius=3)
        .encode(
            x=x,
            x2=f"{end}:Q",
            y=axes.seed_y(seeds),
            color=by_size(sizes),
            tooltip=tooltip,
            opacity=shown(0.9, 0.12, "size", "seed"),
        )
        .properties(height=alt.Step(15))
    )
    return focusable(panels(bars, "size", sizes))


def tiles(table: str, x: alt.X, y: alt.Y, color: alt.Color, tooltip: list[alt.Tooltip], **encodings: Any) -> Any:
    return base(table).mark_rect().encode(x=x, y=y, color=color, tooltip=tooltip, **encodings)


# Chance ------------------------------------------------------------------------------------------------------

GREY = "Grey bars show the central 95% of what chance gives, with a tick at its mean."
CHANCE_TIPS = (
    ("chance:Q", "by chance", ".3~f"),
    ("chance_lower:Q", "chance, from", ".3~f"),
    ("chance_upper:Q", "to", ".3~f"),
)
TEST_TIPS = (*CHANCE_TIPS, ("p:Q", "p", ".2~g"))


def against_chance(
    table: str, x: str, x_title: str, y: str, order: Sequence[str], y_title: str, tooltip: list[alt.Tooltip]
) -> Any:
    """What was observed (a dot) on what chance gives (a bar: central 95%, with a tick at its mean)."""
    chart = base(table)
    rows = axes.rows_y(y, order, y_title)
    bar = chart.mark_bar(height=11, opacity=0.35, style="soft").encode(
        x=alt.X("chance_lower:Q", title=x_title), x2="chance_upper:Q", y=rows, tooltip=tooltip
    )
    middle = chart.mark_tick(thickness=1.5, height=13, style="soft").encode(x="chance:Q", y=rows)
    dot = chart.mark_point(size=75, filled=True, opacity=1, style="accent").encode(x=f"{x}:Q", y=rows, tooltip=tooltip)
    return bar + middle + dot


def shares_and_chance(
    table: str, x: alt.X, y: str, tooltip: list[alt.Tooltip], *, ranges: bool, where: str = ""
) -> Any:
    """Bars of shares of runs on what chance gives: its 95% range as a rule, or its mean as a dashed line."""
    chart = base(table, where)
    width: dict[str, Any] = {"width": 18} if ranges else {}
    bars = chart.mark_bar(opacity=0.85, style="accent", **width).encode(
        x=x, y=alt.Y(f"{y}:Q", title="Share of runs", axis=alt.Axis(format="%")), tooltip=tooltip
    )
    if ranges:
        rule = chart.mark_rule(strokeWidth=2, style="soft")
        return bars + rule.encode(x=x, y="chance_lower:Q", y2="chance_upper:Q", tooltip=tooltip)
    return bars + chart.mark_line(strokeDash=[3, 3], style="soft", strokeWidth=1.2).encode(x=x, y="chance:Q")


def tidy(spec: dict[str, Any]) -> dict[str, Any]:
    """A chart's specification without its own configuration, which the theme replaces."""
    return {key: value for key, value in spec.items() if key not in ("config", "$schema", "usermeta")}

"""Kinds of charts, drawn from named tables.

A click on a mark, or a button of the page, sets `focus_size` and `focus_seed`. Marks of other sizes and seeds fade.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import altair as alt

from headway.reporting.charts import axes

SMALL_HEIGHT = 110  # pixels of a small chart beside a line of the summary
_GRADIENT = alt.Legend(type="gradient")
_DATUM = {"x": alt.XDatum, "y": alt.YDatum}
_IN_FOCUS = {
    "size": "(!focus_size || datum.size == focus_size)",
    "seed": "(!focus_seed || datum.seed == focus_seed)",
}


@cache
def named(table: str) -> alt.NamedData:
    """A reference to a table. It is one object per table, because Altair compares the data of layers by identity."""
    return alt.NamedData(name=table)


def base(table: str, where: str = "") -> alt.Chart:
    """A chart of a table's rows, or of those that `where` selects."""
    chart = alt.Chart(named(table))
    return chart.transform_filter(where) if where else chart


# Colour, focus, tooltips -------------------------------------------------------------------------------------


def by_size(sizes: Sequence[str]) -> alt.Color:
    """The colour of a size, the same in every figure. The page explains it with buttons, an exported picture with a legend."""
    return alt.Color("size:O", title="Size", scale=alt.Scale(domain=list(sizes)))


def by_number(column: str, numbers: Sequence[int]) -> alt.Color:
    """Colours for numbers, from dark (low) to light (high). The legend shows at most eight."""
    shown_numbers = list(numbers)[:: -(-len(numbers) // 8)]
    legend = alt.Legend(type="symbol", symbolType="stroke", symbolStrokeWidth=3, values=shown_numbers, format="d")
    scale = alt.Scale(range="ramp", domain=[0, max(1, numbers[-1])])
    return alt.Color(f"{column}:Q", title=column.capitalize(), scale=scale, legend=legend)


def by_name(field: str, title: str, colours: dict[str, str]) -> alt.Color:
    """One colour for each of a few names, with a legend."""
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{field}:N", title=title, scale=scale, legend=alt.Legend(orient="top"))


def sequential(field: str, title: str, **scale: Any) -> alt.Color:
    """Colour scale from the background to dark, for values of one sign."""
    return alt.Color(f"{field}:Q", title=title, scale=alt.Scale(range="heatmap", **scale), legend=_GRADIENT)


def diverging(field: str, title: str, **scale: Any) -> alt.Color:
    """Colour scale with two hues around 0, for values with a sign."""
    colours = alt.Scale(range="diverging", domainMid=0, interpolate="rgb", **scale)
    return alt.Color(f"{field}:Q", title=title, scale=colours, legend=_GRADIENT)


def shown(full: float, faded: float, *columns: str) -> Any:
    """Opacity `full` where the row's size and seed (of `columns`) are in focus, else `faded`."""
    in_focus = " && ".join(_IN_FOCUS[column] for column in columns)
    return alt.OpacityValue(faded, condition={"test": in_focus, "value": full})


def focusable(chart: Any) -> Any:
    """`chart` with the parameters that its fading marks refer to."""
    whole = chart.copy(deep=False)  # add_params would copy every part
    before = [] if chart.params is alt.Undefined else chart.params
    whole.params = [*before, *(alt.VariableParameter(name, value="") for name in ("focus_size", "focus_seed"))]
    return whole


def tips(*fields: tuple[str, str] | tuple[str, str, str]) -> list[alt.Tooltip]:
    """Tooltips from (field with type, title) or (field with type, title, number format)."""
    return [alt.Tooltip(shorthand, title=title, **_format(*how)) for shorthand, title, *how in fields]


def _format(format: str = "") -> Any:
    return {"format": format} if format else {}


# Shapes ------------------------------------------------------------------------------------------------------


def panels(chart: Any, column: str, order: Sequence[str], *, title: str | None = None, columns: int = 2) -> Any:
    """Small multiples: one panel for each value of `column`, in `order`."""
    header = alt.Header(title=title)
    return chart.facet(facet=alt.Facet(f"{column}:N", sort=list(order), header=header), columns=columns)


def guide(table: str, panel: str = "", **at: float) -> Any:
    """A dotted line at `x` or `y`, once in each panel. It uses the panels' own data, as small multiples require."""
    rows = alt.Chart(named(table)).transform_aggregate(rows="count()", groupby=[panel] if panel else [])
    return rows.mark_rule(strokeDash=[2, 3], style="soft").encode(
        **{axis: _DATUM[axis](value) for axis, value in at.items()}
    )


def hoverable(chart: Any, x: Any, y: Any, tooltip: list[alt.Tooltip], **encodings: Any) -> Any:
    """Invisible wide points on a curve, so that the pointer finds it easily."""
    return chart.mark_point(size=140, opacity=0, filled=True).encode(x=x, y=y, tooltip=tooltip, **encodings)


def lines(
    table: str, x: Any, y: Any, tooltip: list[alt.Tooltip], *, by: str, width: float = 1.5, **encodings: Any
) -> Any:
    """One curve for each value of `by`, with tooltips."""
    chart = base(table)
    curves = chart.mark_line(strokeWidth=width).encode(x=x, y=y, detail=alt.Detail(f"{by}:N"), **encodings)
    return alt.layer(curves, hoverable(chart, x, y, tooltip, detail=alt.Detail(f"{by}:N")))


def band(chart: Any, x: Any, *, opacity: Any, interpolate: str = "linear", **encodings: Any) -> Any:
    """The area between the columns `lower` and `upper`."""
    area = chart.mark_area(interpolate=interpolate)
    return area.encode(x=x, y=alt.Y("lower:Q"), y2=alt.Y2("upper:Q"), opacity=opacity, **encodings)


def band_and_line(table: str, x: Any, y: Any, where: str = "") -> Any:
    """A fitted line with its interval: columns `lower`, `upper`, and that of `y`."""
    chart = base(table, where)
    area = chart.mark_area(opacity=0.14, style="soft", clip=True).encode(x=x, y=alt.Y("lower:Q"), y2=alt.Y2("upper:Q"))
    return area + chart.mark_line(strokeWidth=1.8, style="ink").encode(x=x, y=y)


def size_means(chart: Any, x: Any, y: Any, sizes: Sequence[str], *, dots: bool = False, **line: Any) -> Any:
    """The mean of each size, with a band from `lower` to `upper`."""
    color = by_size(sizes)
    point = alt.OverlayMarkDef(size=24, filled=True) if dots else alt.Undefined
    area = band(chart, x, color=color, opacity=shown(0.17, 0.03, "size"), interpolate=line.get("interpolate", "linear"))
    means = chart.mark_line(strokeWidth=2.2, point=point, **line).encode(
        x=x, y=y, color=color, opacity=shown(1, 0.13, "size")
    )
    return area + means


def run_dots(chart: Any, x: Any, y: Any, sizes: Sequence[str], tooltip: list[alt.Tooltip], size: int = 70) -> Any:
    """One dot for each run, in the colour of its size."""
    return chart.mark_point(size=size, filled=True).encode(
        x=x, y=y, color=by_size(sizes), tooltip=tooltip, opacity=shown(0.8, 0.1, "size", "seed")
    )


def run_spans(
    table: str,
    x: alt.X,
    end: str,
    seeds: Sequence[str],
    sizes: Sequence[str],
    tooltip: list[alt.Tooltip],
    behind: Sequence[Any] = (),
) -> Any:
    """One bar for each run, from `x` to the column `end`, on the layers `behind`. Rows are seeds, panels are sizes."""
    bars = (
        base(table)
        .mark_bar(height=7, cornerRadius=3)
        .encode(
            x=x,
            x2=alt.X2(f"{end}:Q"),
            y=axes.seed_y(seeds),
            color=by_size(sizes),
            tooltip=tooltip,
            opacity=shown(0.9, 0.12, "size", "seed"),
        )
    )
    return focusable(panels(alt.layer(*behind, bars).properties(height=alt.Step(15)), "size", sizes))


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
    """Observed values as dots, over bars of what is expected by chance (central 95%, with a tick at the mean)."""
    chart = base(table)
    rows = axes.rows_y(y, order, y_title)
    bar = chart.mark_bar(height=11, opacity=0.35, style="soft").encode(
        x=alt.X("chance_lower:Q", title=x_title), x2=alt.X2("chance_upper:Q"), y=rows, tooltip=tooltip
    )
    middle = chart.mark_tick(thickness=1.5, height=13, style="soft").encode(x=alt.X("chance:Q"), y=rows)
    dot = chart.mark_point(size=75, filled=True, opacity=1, style="accent").encode(
        x=alt.X(f"{x}:Q"), y=rows, tooltip=tooltip
    )
    return bar + middle + dot


def shares_and_chance(
    table: str, x: alt.X, y: str, tooltip: list[alt.Tooltip], *, ranges: bool, where: str = ""
) -> Any:
    """Shares of runs as bars, with what is expected by chance: its 95% range as a thin line, or its mean as a dashed line."""
    chart = base(table, where)
    width: dict[str, Any] = {"width": 18} if ranges else {}
    bars = chart.mark_bar(opacity=0.85, style="accent", **width).encode(
        x=x, y=alt.Y(f"{y}:Q", title="Share of runs", axis=alt.Axis(format="%")), tooltip=tooltip
    )
    if ranges:
        rule = chart.mark_rule(strokeWidth=2, style="soft")
        return bars + rule.encode(x=x, y=alt.Y("chance_lower:Q"), y2=alt.Y2("chance_upper:Q"), tooltip=tooltip)
    return bars + chart.mark_line(strokeDash=[3, 3], style="soft", strokeWidth=1.2).encode(x=x, y=alt.Y("chance:Q"))


def tidy(spec: dict[str, Any]) -> dict[str, Any]:
    """A chart's specification without its own configuration, which the theme replaces."""
    return {key: value for key, value in spec.items() if key not in ("config", "$schema", "usermeta")}

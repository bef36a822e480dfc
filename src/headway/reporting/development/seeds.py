"""How many seeds are enough, and what the fitted relations say of sizes to come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.development.frames import APART
from headway.reporting.numbers import ends
from headway.reporting.parts import Figure, Item, Layout, Missing, Section, Table

_OUTCOMES = ["onset", "peak", "slope"]


def how_many(context: Context) -> Section:
    return context.section("seeds", "How many seeds are enough?", _seed_items(context), about="seeds")


def _seed_items(context: Context) -> Iterator[Item]:
    yield _widths(context)
    yield _relation_widths(context)
    yield _detection(context)
    yield _needed(context)


def _by_outcome(chart: Any) -> Any:
    """A panel for onset, peak and slope."""
    return forms.panels(chart.properties(height=190), "outcome", _OUTCOMES, columns=3)


def _layout(*, own_axes: bool) -> Layout:
    return Layout(panels=3, panel_width=190, max_columns=3, own_axes=own_axes)


_WIDTHS = (
    ("n_seeds:Q", "seeds"),
    ("width:Q", "mean width over subsets", ".3~g"),
    ("width_lower:Q", "80% of subsets: from", ".3~g"),
    ("width_upper:Q", "to", ".3~g"),
    ("expected_width:Q", "expected", ".3~g"),
)
_DOTS_AND_LINES = "Dots are mean widths over subsets of the seeds there are, dashed lines what to expect of more. "


def _widths(context: Context) -> Figure:
    table = "size_intervals"
    chart = forms.base(table)
    x, y = axes.seeds_x("Seeds"), axes.log_y("expected_width", "Width of the 95% interval")
    color = forms.by_size(context.sizes)
    expected = chart.mark_line(strokeDash=[4, 3], strokeWidth=1.2).encode(
        x=x, y=y, color=color, opacity=forms.shown(0.8, 0.08, "size")
    )
    found = chart.mark_point(size=36, filled=True).encode(
        x=x, y=alt.Y("width:Q"), color=color, opacity=forms.shown(0.95, 0.1, "size")
    )
    tooltip = forms.tips(("size:N", "size"), *_WIDTHS)
    hover = forms.hoverable(chart, x, "expected_width:Q", tooltip, detail=alt.Detail("size:N"))
    return Figure(
        name="seed-intervals",
        title="More seeds narrow the interval of a size’s mean",
        sentence=f"{_DOTS_AND_LINES}Onset is in log10 steps.",
        alt="Interval width against number of seeds, a panel for onset, peak and slope, a line a size.",
        chart=forms.focusable(_by_outcome(alt.layer(expected, found, hover)).resolve_scale(y="independent")),
        tables=(table,),
        layout=_layout(own_axes=True),
        legend=True,
    )


def _relation_widths(context: Context) -> Figure:
    table = "relation_intervals"
    chart = forms.base(table)
    x, y = axes.seeds_x("Seeds of every size"), axes.log_y("expected_width", "Width of the 95% interval")
    expected = chart.mark_line(strokeDash=[4, 3], strokeWidth=1.2, style="ink").encode(x=x, y=y)
    found = chart.mark_point(size=36, filled=True, style="accent").encode(x=x, y=alt.Y("width:Q"))
    hover = forms.hoverable(chart, x, "expected_width:Q", forms.tips(*_WIDTHS))
    return Figure(
        name="relation-intervals",
        title="More seeds narrow the interval of the relation to size",
        sentence="The relation is the slope of a straight line through all runs on log10(parameters). "
        f"{_DOTS_AND_LINES.strip()}",
        alt="Interval width of the coefficient of size against number of seeds, a panel for onset, peak and slope.",
        chart=_by_outcome(alt.layer(expected, found, hover)).resolve_scale(y="independent"),
        tables=(table,),
        layout=_layout(own_axes=True),
    )


def _detection(context: Context) -> Figure:
    table = "seed_detection"
    pairs = context.levels(table, "pair") if context.has(table) else []
    x = alt.X("n_seeds:O", title="Seeds of each size", axis=alt.Axis(labelAngle=0, labelOverlap="greedy"))
    y = axes.rows_y("pair", pairs)
    share = forms.sequential("share_detected", "Share of subsets", domain=[0, 1])
    tooltip = forms.tips(("pair:N", "sizes"), ("n_seeds:Q", "seeds"), ("share_detected:Q", "told apart in", ".0%"))
    chart = forms.tiles(table, x, y, share, tooltip).properties(height=alt.Step(22))
    return Figure(
        name="seed-detection",
        title="How many seeds tell two sizes apart?",
        sentence="Each row is a pair of sizes. A tile is the share of subsets of so many seeds in which a t test tells them apart "
        "(5% level).",
        alt="Tiles of the share of subsets in which two sizes differ, by pair and number of seeds; panels are outcomes.",
        chart=forms.panels(chart, "outcome", _OUTCOMES, columns=3),
        tables=(table,),
        layout=_layout(own_axes=False),
    )


def _needed(context: Context) -> Item:
    return context.missing("Seeds needed", "seed_power") or Table(
        "seeds-needed",
        "Seeds needed to tell two sizes apart",
        context.tables["seed_power"],
        {
            "outcome": "Outcome",
            "pair": "Sizes",
            "difference": "Difference",
            "lower": "95% from",
            "upper": "to",
            "effect": "Effect (Hedges’ g)",
            "p": "p (Welch)",
            "p_holm": "p (Holm)",
            "seeds_needed": "Seeds needed",
            "seeds_needed_lower": "from",
            "seeds_needed_upper": "to ",
        },
        "Seeds of each size for a power of 80% at the 5% level. A dash stands for more than 1,000.",
        folded=True,
    )


def sizes_to_come(context: Context) -> Section:
    return context.section("sizes-to-come", "What of larger models?", _size_items(context), about="extrapolation")


def _size_items(context: Context) -> Iterator[Item]:
    parts = (
        ("onset", "onset", "m_step", "Mean onset step (log scale)", True),
        ("peak", "peaks", "max_attn", f"Peak: {context.axis}", False),
        ("slope", "slopes", "estimate", "Slope: rise per tenfold of step + 1", False),
    )
    for outcome, points, column, axis, log in parts:
        title = f"{outcome.capitalize()}, carried on to larger sizes"
        if context.has(f"extrapolation_{outcome}", points):
            yield _extrapolated(context, title, outcome, points, column, axis, log)
        else:
            yield Missing(title, context.reason(f"beyond.extrapolation.{outcome}"))


def _extrapolated(context: Context, title: str, outcome: str, points: str, column: str, axis: str, log: bool) -> Figure:
    table = f"extrapolation_{outcome}"
    chart = forms.base(table)
    x = axes.parameters_x()
    # no onset comes before the first step, however far down the intervals reach, and where they reach far beyond the last
    # step that was measured they say nothing
    last = ends(context.tables["runs"]["last_step"])[1] + 1
    y = axes.log_y(column, axis, domainMin=1, domainMax=10 * last) if log else axes.value_y(column, axis)
    of_size = chart.mark_area(opacity=0.16, style="soft", clip=True).encode(
        x=x, y=alt.Y("lower:Q"), y2=alt.Y2("upper:Q")
    )
    dotted = chart.mark_line(strokeDash=[1, 3], strokeWidth=1.4, style="ink", clip=True)
    of_run = [dotted.encode(x=x, y=alt.Y(f"{end}:Q")) for end in ("run_lower", "run_upper")]
    tooltip = forms.tips(
        ("n_params:Q", "parameters", ".3~s"),
        ("fit:Q", "predicted", ".4~g"),
        ("lower:Q", "mean of a size: from", ".4~g"),
        ("upper:Q", "to", ".4~g"),
        ("run_lower:Q", "one run: from", ".4~g"),
        ("run_upper:Q", "to ", ".4~g"),
    )
    inside = (
        chart.transform_filter("!datum.extrapolated")
        .mark_line(strokeWidth=2, style="ink")
        .encode(x=x, y=alt.Y("fit:Q"))
    )
    outside = chart.transform_filter("datum.extrapolated").mark_line(strokeWidth=1.6, strokeDash=[5, 4], style="accent")
    about = forms.tips(("run:N", "run"), (f"{column}:Q", axis, ".4~g"))
    dots = forms.run_dots(forms.base(points), axes.parameters_x(APART), y, context.sizes, about, size=45)
    hover = forms.hoverable(chart, x, "fit:Q", tooltip)
    return Figure(
        name=f"to-come-{outcome}",
        title=title,
        sentence="The dashed part lies beyond the sizes measured: a guess that the line holds. "
        "The band is the 95% prediction of a size’s mean. Dotted lines are that of one run if the line is right.",
        alt=f"{axis} against parameters, extrapolated with prediction intervals.",
        chart=forms.focusable(alt.layer(of_size, *of_run, inside, outside.encode(x=x, y=alt.Y("fit:Q")), hover, dots)),
        tables=(table, points),
        legend=True,
    )

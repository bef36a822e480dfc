"""Sections of the chapter: trajectories by level, onsets, peaks and abilities, and what these runs can tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import polars as pl

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.parts import Control, Figure, Item, Section, Table

_ROW = 26  # pixels of a comparison


def slug(factor: str) -> str:
    """A factor's name in addresses."""
    return factor.replace("_", "-")


def _factors(context: Context) -> dict[str, list[str]]:
    found: dict[str, list[str]] = context.values["factors"]
    return found


def _words(factor: str) -> str:
    return factor.replace("_", " ")


def _outcome(context: Context, table: str) -> Control:
    """A menu of the outcomes; the score is the first."""
    return Control("outcome_title", "Outcome", _titles(context, table)[0])


def _titles(context: Context, table: str) -> list[str]:
    there = set(context.tables[table]["outcome"].unique())
    return [str(one["title"]) for name, one in context.values["outcomes"].items() if name in there]


def _by_level(context: Context, factor: str, *, explained: bool = False) -> alt.Color:
    """The colours of a factor's levels, from light to dark in their order; `explained` by a legend, unless rows name them."""
    levels = _factors(context)[factor]
    legend = alt.Legend(orient="top", symbolType="stroke", symbolStrokeWidth=3) if explained else None
    return alt.Color("level:O", title=_words(factor).capitalize(), scale=alt.Scale(domain=levels), legend=legend)


def over_steps(context: Context) -> Section:
    items: list[Item] = []
    for factor in _factors(context):
        items.append(_trajectories(context, factor))
        if context.has("data"):
            items.append(_data(context, factor))
    return context.section("over-steps", "How does each level develop?", items, about="windows")


def _trajectories(context: Context, factor: str) -> Figure:
    where = f"datum.factor == '{factor}'"
    x, y = axes.step_x(), axes.value_y("value", "Value")
    color = _by_level(context, factor, explained=True)
    tooltip = forms.tips(
        ("run:N", "run"), ("level:N", _words(factor)), ("step:Q", "step", ",d"), ("value:Q", "value", ".3~g")
    )
    runs = forms.base("trajectories", where)
    thin = runs.mark_line(strokeWidth=1, opacity=0.45).encode(x=x, y=y, color=color, detail=alt.Detail("run:N"))
    means = forms.base("trajectory_means", where).mark_line(strokeWidth=3).encode(x=x, y=y, color=color)
    hover = forms.hoverable(runs, x, y, tooltip, detail=alt.Detail("run:N"))
    return Figure(
        name=f"trajectories-{slug(factor)}",
        title=f"Every run, by {_words(factor)}",
        sentence="Thin lines are runs, thick lines the means of a level. A score is that of the run’s largest head.",
        alt=f"Curves over training steps, a thin one for each run, coloured by {_words(factor)}.",
        chart=alt.layer(thin, means, hover),
        tables=("trajectories", "trajectory_means"),
        controls=(_outcome(context, "trajectories"),),
    )


def _data(context: Context, factor: str) -> Figure:
    levels = _factors(context)[factor]
    rows = forms.base("data", f"datum.factor == '{factor}'")
    x, y = axes.step_x(), axes.value_y("value", "Mean over the steps to the next checkpoint")
    tooltip = forms.tips(
        ("level:N", _words(factor)), ("step:Q", "from step", ",d"), ("value:Q", "value", ".3~g"), ("n_runs:Q", "runs")
    )
    # Levels that read the same lie on one line: the later ones are drawn thinner, so that all are seen.
    width = alt.StrokeWidth("level:O", scale=alt.Scale(domain=levels, range=[5, 1.6]), legend=None)
    color = _by_level(context, factor, explained=True)
    lines = rows.mark_line(interpolate="step-after").encode(x=x, y=y, color=color, strokeWidth=width)
    return Figure(
        name=f"data-{slug(factor)}",
        title=f"What runs read, by {_words(factor)}",
        sentence="Statistics of the batches from each checkpoint to the next, as means over the runs of a level. N-grams are of 4 "
        "tokens.",
        alt=f"A stepped line over training steps for each level of {_words(factor)}.",
        chart=alt.layer(lines, forms.hoverable(rows, x, y, tooltip)),
        tables=("data",),
        controls=(context.control("data", "statistic", "Statistic"),),
    )


def onsets(context: Context) -> Section:
    items: list[Item] = []
    if context.has("onsets"):
        items += [_onsets(context, factor) for factor in _factors(context)]
        items += [_ratios(context)] if context.has("ratios") else []
    missing = context.missing("Onsets", "onsets")
    return context.section(
        "onsets", "Which causes shift the onset?", items or ([missing] if missing else []), about="onset"
    )


def _onsets(context: Context, factor: str) -> Figure:
    levels = _factors(context)[factor]
    where = f"datum.factor == '{factor}'"
    chart = forms.base("onsets", where)
    tooltip = forms.tips(
        ("run:N", "run"), ("reached:N", "it has"), ("from_step:Q", "after step", ",d"), ("to_step:Q", "by step", ",d")
    )
    y = axes.rows_y("level", levels, _words(factor).capitalize())
    offset = alt.YOffset("place:O")
    most = max(context.tables["runs"][factor].value_counts()["count"].to_list())
    x = alt.X("start:Q", title=axes.STEP_TITLE, scale=alt.Scale(type="log", nice=False, padding=6))
    bars = chart.transform_filter("datum.to_step != null").mark_bar(height=7, cornerRadius=3).encode(
        x=x, x2=alt.X2("end:Q"), y=y, yOffset=offset, color=_by_level(context, factor), tooltip=tooltip
    )  # fmt: skip
    open_ends = chart.transform_filter("datum.to_step == null").mark_point(
        shape="triangle-right", size=60, filled=True, opacity=0.9
    ).encode(x=x, y=y, yOffset=offset, color=_by_level(context, factor), tooltip=tooltip)  # fmt: skip
    return Figure(
        name=f"onsets-{slug(factor)}",
        title=f"The onset of each run, by {_words(factor)}",
        sentence="A bar runs from the last checkpoint before a run’s onset to the first after it. Triangles are runs without an "
        "onset by their last step.",
        alt=f"Bars of the interval of each run’s onset, in rows by {_words(factor)}.",
        chart=alt.layer(bars, open_ends).properties(height=max(60, 12 * most * len(levels))),
        tables=("onsets",),
        controls=(_outcome(context, "onsets"),),
    )


def _ratios(context: Context) -> Figure:
    tooltip = forms.tips(
        ("comparison:N", "levels"),
        ("estimate:Q", "factor", ".3~g"),
        ("lower:Q", "95%: from", ".3~g"),
        ("upper:Q", "to", ".3~g"),
        ("p_corrected:Q", "p, corrected", ".2~g"),
        ("detectable:Q", "factor that these runs can tell", ".3~g"),
    )
    return _forest(
        context,
        "ratios",
        name="onset-ratios",
        title="By what factor the onset differs between levels",
        sentence="Right of 1, the first level’s onset is later. Lines are 95% intervals. An interval without a dot has one end: "
        "no run of one of the levels has an onset.",
        x=alt.X(
            "drawn_lower:Q",
            title="Onset, as a multiple (log scale)",
            scale=alt.Scale(type="log", nice=False, padding=10),
        ),
        none=1.0,
        tooltip=tooltip,
    )


def _forest(
    context: Context, table: str, *, name: str, title: str, sentence: str, x: alt.X, none: float, tooltip: Any
) -> Figure:
    """Estimates with intervals, one row for each comparison of levels, around the value of no effect."""
    chart = forms.base(table)
    order = context.levels(table, "comparison")
    y = axes.rows_y("comparison", order)
    lines = chart.mark_rule(strokeWidth=2, style="ink").encode(x=x, x2=alt.X2("drawn_upper:Q"), y=y, tooltip=tooltip)
    dots = chart.transform_filter("datum.dot != null").mark_point(size=75, filled=True, opacity=1, style="accent")
    dots = dots.encode(x=alt.X("dot:Q"), y=y, tooltip=tooltip)
    return Figure(
        name=name,
        title=title,
        sentence=sentence,
        alt="Dots with intervals, one row for each comparison of two levels.",
        chart=alt.layer(forms.guide(table, x=none), lines, dots).properties(height=max(60, _ROW * len(order))),
        tables=(table,),
        controls=(_outcome(context, table),),
    )


def values(context: Context) -> Section:
    items: list[Item] = []
    if context.has("means", "values"):
        items += [_values(context, factor) for factor in _factors(context)]
    if context.has("differences"):
        tooltip = forms.tips(
            ("comparison:N", "levels"),
            ("estimate:Q", "difference", ".3~g"),
            ("lower:Q", "95%: from", ".3~g"),
            ("upper:Q", "to", ".3~g"),
            ("p_corrected:Q", "p, corrected", ".2~g"),
            ("detectable:Q", "difference that these runs can tell", ".3~g"),
        )
        items.append(
            _forest(
                context,
                "differences",
                name="value-differences",
                title="Differences between levels",
                sentence="Right of 0, the first level’s mean is higher. Lines are 95% intervals.",
                x=alt.X("drawn_lower:Q", title="Difference of means"),
                none=0.0,
                tooltip=tooltip,
            )
        )
    missing = context.missing("Means of levels", "means")
    items = items or ([missing] if missing else [])
    return context.section("values", "Which causes change how far it goes?", items, about="values")


def _values(context: Context, factor: str) -> Figure:
    levels = _factors(context)[factor]
    where = f"datum.factor == '{factor}'"
    x = alt.X("level:N", sort=levels, title=_words(factor).capitalize(), axis=alt.Axis(labelAngle=0))
    tooltip = forms.tips(("run:N", "run"), ("value:Q", "value", ".3~g"))
    runs = forms.base("values", where).mark_point(size=45, filled=True, opacity=0.6).encode(
        x=x, y=axes.value_y("value", "Value"), color=_by_level(context, factor), tooltip=tooltip
    )  # fmt: skip
    means = forms.base("means", where)
    spans = means.mark_rule(strokeWidth=2.5, style="ink").encode(x=x, y=alt.Y("lower:Q"), y2=alt.Y2("upper:Q"))
    ticks = means.mark_tick(thickness=3, width=26, style="ink").encode(x=x, y=alt.Y("mean:Q"))
    return Figure(
        name=f"values-{slug(factor)}",
        title=f"Peak or final value of each run, by {_words(factor)}",
        sentence="Dots are runs. Ticks are the levels’ means with 95% intervals, averaged over the levels of the other factors. "
        "A score is taken at its peak, an ability at the last step.",
        alt=f"Dots of runs and means with intervals, by {_words(factor)}.",
        chart=alt.layer(runs, spans, ticks),
        tables=("values", "means"),
        controls=(_outcome(context, "values"),),
    )


_HEADINGS = {
    "comparison": "Levels",
    "outcome_title": "Outcome",
    "what": "What",
    "estimate": "Factor or difference",
    "lower": "95% from",
    "upper": "to",
    "p": "p",
    "p_corrected": "p, corrected",
    "detectable": "These runs can tell",
}


def told(context: Context) -> Section:
    return context.section(
        "told", "What can these runs tell?", list(_table(context)), about="power", lead=_interactions(context)
    )


def _interactions(context: Context) -> Sequence[str]:
    return [finding.text for finding in context.result.findings("interactions")]


def _table(context: Context) -> Iterator[Item]:
    if context.has("effects"):
        frame = pl.concat(
            [context.tables[name] for name in ("ratios", "differences") if context.has(name)], how="diagonal"
        )
        yield Table(
            name="comparisons",
            title="All comparisons",
            frame=frame,
            headings=_HEADINGS,
            sentence="Of onsets the factor is shown, of peaks and abilities the difference. p is corrected over all comparisons of "
            "one outcome by Holm’s method. The last column is the smallest effect found with a power of 80%.",
            folded=frame.height > 12,
        )

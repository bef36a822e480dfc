"""Onset: as published, and with the intervals that the grid of steps leaves."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt

from headway.reporting.charts import forms
from headway.reporting.development.context import Context
from headway.reporting.development.growth import against_size
from headway.reporting.parts import Control, Figure, Item, Layout, Section

TOLD = "half of rise"  # the definition that the study's sentence is about


def onset(context: Context) -> Section:
    return context.section(
        "onset", "Do larger models start earlier?", [context.finding("onset")], _onset_items(context)
    )


def _onset_items(context: Context) -> Iterator[Item]:
    yield against_size(
        context,
        "onset-by-size",
        "onset",
        "onset_line",
        "m_step",
        "Onset of every run",
        "Mean onset step (log scale)",
        "Each dot is a run: the first step whose slope passes a threshold, averaged over 15 thresholds.",
        log=True,
    )
    yield context.model(
        "lmm.onset", "Onset and size", "A mixed model of log10(onset) on log10(parameters), seeds as random intercepts."
    )
    yield _thresholds(context)
    yield _emergence(context)
    yield _derivatives(context)
    yield context.model(
        "gam.growth", "One curve for all runs", "An additive model of the largest head’s score on log10(step + 1)."
    )


def _thresholds(context: Context) -> Figure:
    base = alt.Chart(forms.named("thresholds"))
    x = alt.X("threshold:Q", title="Threshold of the slope")
    y = forms.log_y("step_modded", "First step past it, + 1")
    tooltip = forms.tips(("run:N", "run"), ("threshold:Q", "threshold"), ("step:Q", "first step past it", ",d"))
    lines = base.mark_line(strokeWidth=1.3, interpolate="step-after").encode(
        x=x, y=y, detail="seed:N", color=forms.by_size(context.sizes), opacity=forms.shown(0.65, 0.08, "size", "seed")
    )
    chart = alt.layer(lines, forms.hoverable(base, x, y, tooltip, detail="seed:N")).properties(height=170)
    return Figure(
        name="onset-thresholds",
        title="Onset at each threshold",
        sentence=(
            "The published onset is the mean height of a line; where lines jump, the choice of thresholds decides it."
        ),
        alt="Step lines of the first step past each slope threshold, a panel a size, a line a seed.",
        chart=forms.focusable(forms.panels(chart, "size", context.sizes)),
        tables=("thresholds",),
        layout=Layout(panels=len(context.sizes), panel_width=230, max_columns=2),
    )


def _emergence(context: Context) -> Figure:
    base = alt.Chart(forms.named("emergence"))
    x = forms.parameters_x()
    y = forms.log_y("step_modded", "Step + 1 (log scale)")
    color = forms.by_size(context.sizes)
    tooltip = forms.tips(
        ("run:N", "run"),
        ("what:N", "step of the"),
        ("step:Q", "step", ",.0f"),
        ("lower:Q", "from", ",.0f"),
        ("upper:Q", "to", ",.0f"),
    )
    spans = base.mark_rule(strokeWidth=1.2).encode(
        x=x, y="lower_modded:Q", y2="upper_modded:Q", color=color, opacity=forms.shown(0.3, 0.04, "size", "seed")
    )
    dots = base.mark_point(size=60, filled=True).encode(
        x=x, y=y, color=color, tooltip=tooltip, opacity=forms.shown(0.85, 0.08, "size", "seed")
    )
    order = ["largest fitted value", "largest derivative"]
    return Figure(
        name="emergence",
        title="‘Emergence step’ from each run’s smooth curve: as published, and where the curve is steepest",
        sentence=(
            "The published step is that of the largest fitted value, by which growth has stopped; beside it, with its "
            "95 % interval, the step of the largest derivative, which is where growth is fastest."
        ),
        alt="Two panels of emergence steps against parameters: largest fitted value, and largest derivative.",
        chart=forms.focusable(forms.panels((spans + dots).properties(height=250), "what", order)),
        tables=("emergence",),
        layout=Layout(panels=2, panel_width=280, max_columns=2),
        legend=True,
    )


def _derivatives(context: Context) -> Figure:
    base = alt.Chart(forms.named("emergence_curves"))
    x = forms.step_x()
    y = forms.value_y("derivative", "Rise per tenfold of step + 1")
    color = forms.by_size(context.sizes)
    tooltip = forms.tips(
        ("run:N", "run"),
        ("step_modded:Q", "step + 1", ",.0f"),
        ("derivative:Q", "derivative", ".3~g"),
        ("derivative_lower:Q", "from", ".3~g"),
        ("derivative_upper:Q", "to", ".3~g"),
    )
    lines = base.mark_line(strokeWidth=1.3).encode(
        x=x, y=y, detail="seed:N", color=color, opacity=forms.shown(0.6, 0.07, "size", "seed")
    )
    zero = forms.guide("emergence_curves", "size", y=0)
    hover = base.mark_point(size=50, opacity=0).encode(x=x, y=y, tooltip=tooltip, detail="seed:N")
    chart = alt.layer(zero, lines, hover).properties(height=170)
    return Figure(
        name="derivatives",
        title="How fast each run grows, and when",
        sentence="Lines are the derivatives of the runs’ smooth curves; growth is fastest where a line is highest.",
        alt="Curves of the derivative over training steps, a panel a size, a line a seed.",
        chart=forms.focusable(forms.panels(chart, "size", context.sizes)),
        tables=("emergence_curves",),
        layout=Layout(panels=len(context.sizes), panel_width=230, max_columns=2),
    )


def intervals(context: Context) -> Section:
    return context.section(
        "onset-intervals",
        "How exactly is the onset known?",
        context.beyond("onset_intervals"),
        _interval_items(context),
        part="onset_intervals",
    )


def _interval_items(context: Context) -> Iterator[Item]:
    definitions = _definitions(context)
    first = TOLD if TOLD in definitions else next(iter(definitions), None)
    control = (Control("definition", "Onset is", first),) if first else ()
    yield _spans(context, control)
    yield _shares(context, control)
    yield _by_definition(context, definitions)
    yield _relations(context, definitions)


def _definitions(context: Context) -> list[str]:
    if not context.has("onset_spans"):
        return []
    return context.tables["onset_spans"]["definition"].unique(maintain_order=True).to_list()


def _spans(context: Context, control: tuple[Control, ...]) -> Figure:
    base = alt.Chart(forms.named("onset_spans"))
    tooltip = forms.tips(
        ("run:N", "run"), ("lower:Q", "after step", ",d"), ("upper:Q", "by step", ",d"), ("censoring:N", "censoring")
    )
    bars = (
        base.mark_bar(height=7, cornerRadius=3)
        .encode(
            x=alt.X(
                "start:Q",
                title=forms.STEP_TITLE,
                scale=alt.Scale(type="log", nice=False, padding=6),
                axis=alt.Axis(labelExpr=forms.POWERS_OF_TEN),
            ),
            x2="end:Q",
            y=alt.Y("seed:N", title="Seed", sort=context.seeds),
            color=forms.by_size(context.sizes),
            tooltip=tooltip,
            opacity=forms.shown(0.9, 0.12, "size", "seed"),
        )
        .properties(height=alt.Step(15))
    )
    return Figure(
        name="onset-spans",
        title="The onset of each run lies somewhere in its bar",
        sentence=(
            "A bar runs from the last step before the onset to the first step at which it is seen; wide bars "
            "are gaps in the grid."
        ),
        alt="Bars of the interval of each run’s onset on the step axis, a panel a size.",
        chart=forms.focusable(forms.panels(bars, "size", context.sizes)),
        tables=("onset_spans",),
        controls=control,
        layout=Layout(panels=len(context.sizes), panel_width=230, max_columns=2),
    )


def _shares(context: Context, control: tuple[Control, ...]) -> Figure:
    base = alt.Chart(forms.named("onset_shares"))
    x = forms.step_x()
    color = forms.by_size(context.sizes)
    y = forms.share_y("share", "Share of runs")
    tooltip = forms.tips(
        ("size:N", "size"),
        ("step:Q", "by step", ",d"),
        ("share:Q", "share of runs", ".0%"),
        ("lower:Q", "from", ".0%"),
        ("upper:Q", "to", ".0%"),
    )
    band = base.mark_area(interpolate="step-after").encode(
        x=x, y=alt.Y("lower:Q"), y2="upper:Q", color=color, opacity=forms.shown(0.13, 0.02, "size")
    )
    line = base.mark_line(interpolate="step-after", strokeWidth=2.2).encode(
        x=x, y=y, color=color, opacity=forms.shown(1, 0.12, "size")
    )
    return Figure(
        name="onset-shares",
        title="Share of runs that have started by each step",
        sentence="Each line rises from none to all of a size’s runs; bands are 95 % intervals from resampling seeds.",
        alt="Step lines of the share of runs with onset by each training step, one a size.",
        chart=forms.focusable(alt.layer(band, line, forms.hoverable(base, x, "share:Q", tooltip, detail="size:N"))),
        tables=("onset_shares",),
        controls=control,
        legend=True,
    )


def _by_definition(context: Context, definitions: list[str]) -> Figure:
    base = alt.Chart(forms.named("onset_sizes"))
    y = alt.Y("definition:N", sort=definitions, title=None)
    offset = alt.YOffset("size:O", scale=alt.Scale(domain=context.sizes))
    color = forms.by_size(context.sizes)
    tooltip = forms.tips(
        ("size:N", "size"),
        ("definition:N", "onset is"),
        ("median_lower:Q", "median after step", ",d"),
        ("median_upper:Q", "median by step", ",d"),
        ("lower:Q", "95 %: after step", ",d"),
        ("upper:Q", "95 %: by step", ",d"),
        ("n_reached:Q", "runs that reach it"),
        ("n_runs:Q", "of"),
    )
    thin = base.mark_bar(height=2).encode(
        x=alt.X(
            "lower_modded:Q",
            title=forms.STEP_TITLE,
            scale=alt.Scale(type="log", nice=False, padding=6),
            axis=alt.Axis(labelExpr=forms.POWERS_OF_TEN),
        ),
        x2="upper_modded:Q",
        y=y,
        yOffset=offset,
        color=color,
        opacity=forms.shown(0.6, 0.08, "size"),
        tooltip=tooltip,
    )
    thick = base.mark_bar(height=7, cornerRadius=3).encode(
        x="median_lower_modded:Q",
        x2="median_upper_modded:Q",
        y=y,
        yOffset=offset,
        color=color,
        tooltip=tooltip,
        opacity=forms.shown(0.95, 0.12, "size"),
    )
    return Figure(
        name="onset-by-definition",
        title="How the onset changes with its definition",
        sentence=(
            "Thick bars are what the grid leaves open for the median run, thin bars add the spread over seeds (95 %): "
            "the same runs start early or late according to the definition."
        ),
        alt="Bars of the median onset’s interval for each definition of onset and each size.",
        chart=forms.focusable(alt.layer(thin, thick).properties(height=10 * len(definitions) * len(context.sizes))),
        tables=("onset_sizes",),
        legend=True,
    )


def _relations(context: Context, definitions: list[str]) -> Figure:
    base = alt.Chart(forms.named("onset_relations"))
    y = alt.Y("definition:N", sort=definitions, title=None)
    tooltip = forms.tips(
        ("definition:N", "onset is"),
        ("slope:Q", "slope", ".3~f"),
        ("lower:Q", "95 %: from", ".3~f"),
        ("upper:Q", "to", ".3~f"),
        ("bound_lower:Q", "onsets anywhere: from", ".3~f"),
        ("bound_upper:Q", "to", ".3~f"),
    )
    wide = base.mark_bar(height=9, opacity=0.3, style="soft").encode(
        x=alt.X("bound_lower:Q", title="Slope on log–log axes"), x2="bound_upper:Q", y=y, tooltip=tooltip
    )
    narrow = base.mark_rule(strokeWidth=2, style="ink").encode(x="lower:Q", x2="upper:Q", y=y, tooltip=tooltip)
    dots = base.mark_point(size=70, filled=True, opacity=1, style="accent").encode(x="slope:Q", y=y, tooltip=tooltip)
    zero = forms.guide("onset_relations", x=0)
    return Figure(
        name="onset-relations",
        title="Onset and size, by definition",
        sentence=(
            "Dots are the fitted slopes of log10(onset) on log10(parameters), with 95 % intervals from "
            "resampling seeds; grey bars are all slopes that the intervals of the onsets allow. A definition without a "
            "dot is not reached by most runs, or left open by the grid. A slope of −1 means that ten times the parameters start ten times earlier."
        ),
        alt="Slopes of onset on parameters for each definition of onset, with intervals.",
        chart=alt.layer(zero, wide, narrow, dots).properties(height=24 * len(definitions)),
        tables=("onset_relations",),
    )

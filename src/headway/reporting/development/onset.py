"""Onset: as published, and with the intervals that the gaps between checkpoints leave."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.development import steps
from headway.reporting.development.diagnosed import diagnosed
from headway.reporting.development.frames import APART
from headway.reporting.development.growth import RISE, against_size
from headway.reporting.development.robust import beside
from headway.reporting.parts import Control, Figure, Item, Layout, Section

TOLD = "half of rise"  # the definition that the study's first finding is about


def onset(context: Context) -> Section:
    return context.section("onset", "Do larger models start earlier?", _onset_items(context), about="onset")


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
        "lmm.onset",
        "Onset and size",
        "This mixed model explains log10(onset) by log10(parameters), with a random intercept for each seed.",
    )
    yield from diagnosed(context, "lmm.onset")
    yield from beside(context, "onset")
    yield _thresholds(context)
    yield _emergence(context)
    yield _derivatives(context)
    yield _growth_curve(context)
    yield context.model(
        "gam.growth",
        "One curve for all runs",
        "This additive model explains the largest head’s score by log10(step + 1).",
    )
    yield from diagnosed(context, "gam.growth")


def _growth_curve(context: Context) -> Figure:
    table = "growth_gam"
    x, y = axes.step_x(), axes.value_y("fit", context.axis)
    tooltip = forms.tips(("step_modded:Q", "step + 1", ",.0f"), *steps.CURVE_TIPS)
    hover = forms.hoverable(forms.base(table), x, y, tooltip)
    few = steps.too_few_of(context, "growth", "steps")
    return Figure(
        name="growth-curve",
        title="The largest heads of all runs, as one smooth curve",
        sentence=f"The additive model of all runs’ trajectories, with its 95% band.{few}{steps.said(context)}",
        alt=f"A smooth curve of the largest {context.score.lower()} over training steps, with its band.",
        chart=alt.layer(*steps.mark(context, table), forms.band_and_line(table, x, y), hover),
        tables=(table,),
    )


def _thresholds(context: Context) -> Figure:
    table = "onset_thresholds"
    x = alt.X("threshold:Q", title=f"Threshold: {RISE[:1].lower()}{RISE[1:]}")
    y = axes.log_y("step_modded", "First step past it, + 1")
    tooltip = forms.tips(("run:N", "run"), ("threshold:Q", "threshold"), ("step:Q", "first step past it", ",d"))
    chart = forms.base(table)
    lines = chart.mark_line(strokeWidth=1.3, interpolate="step-after").encode(
        x=x,
        y=y,
        detail=alt.Detail("seed:N"),
        color=forms.by_size(context.sizes),
        opacity=forms.shown(0.65, 0.08, "size", "seed"),
    )
    marked = steps.mark(context, table, "size", axis="y")
    layers = alt.layer(*marked, lines, forms.hoverable(chart, x, y, tooltip, detail=alt.Detail("seed:N"))).properties(
        height=170
    )
    return Figure(
        name="onset-thresholds",
        title="Onset at each threshold",
        sentence="The published onset is the mean height of a line. Where lines jump, the choice of thresholds decides it."
        + steps.said(context),
        alt="Step lines of the first step past each slope threshold, a panel a size, a line a seed.",
        chart=forms.focusable(forms.panels(layers, "size", context.sizes)),
        tables=(table,),
        layout=context.size_panels,
    )


def _emergence(context: Context) -> Figure:
    chart = forms.base("emergence")
    x = axes.parameters_x(APART)
    y = axes.log_y("step_modded", "Step + 1 (log scale)")
    tooltip = forms.tips(
        ("run:N", "run"),
        ("what:N", "step of the"),
        ("step:Q", "step", ",.0f"),
        ("lower:Q", "from", ",.0f"),
        ("upper:Q", "to", ",.0f"),
    )
    spans = chart.mark_rule(strokeWidth=1.2).encode(
        x=x,
        y=alt.Y("lower_modded:Q"),
        y2=alt.Y2("upper_modded:Q"),
        color=forms.by_size(context.sizes),
        opacity=forms.shown(0.3, 0.04, "size", "seed"),
    )
    dots = forms.run_dots(chart, x, y, context.sizes, tooltip, size=60)
    marked = steps.mark(context, "emergence", "what", axis="y")
    order = ["largest fitted value", "largest derivative"]
    return Figure(
        name="emergence",
        title="Two emergence steps from each run’s smooth curve",
        sentence="The published step is that of the largest fitted value, by which growth has stopped. "
        "The largest derivative, shown with its 95% interval, is where growth is fastest." + steps.said(context),
        alt="Two panels of emergence steps against parameters: largest fitted value, and largest derivative.",
        chart=forms.focusable(forms.panels(alt.layer(*marked, spans, dots).properties(height=250), "what", order)),
        tables=("emergence",),
        layout=Layout(panels=2, panel_width=280, max_columns=2),
        legend=True,
    )


def _derivatives(context: Context) -> Figure:
    table = "emergence_curves"
    chart = forms.base(table)
    x = axes.step_x()
    y = axes.value_y("derivative", RISE)
    tooltip = forms.tips(
        ("run:N", "run"),
        ("step_modded:Q", "step + 1", ",.0f"),
        ("derivative:Q", "derivative", ".3~g"),
        ("derivative_lower:Q", "from", ".3~g"),
        ("derivative_upper:Q", "to", ".3~g"),
    )
    lines = chart.mark_line(strokeWidth=1.3).encode(
        x=x,
        y=y,
        detail=alt.Detail("seed:N"),
        color=forms.by_size(context.sizes),
        opacity=forms.shown(0.6, 0.07, "size", "seed"),
    )
    bands = chart.mark_area().encode(
        x=x,
        y=alt.Y("derivative_lower:Q"),
        y2=alt.Y2("derivative_upper:Q"),
        detail=alt.Detail("seed:N"),
        color=forms.by_size(context.sizes),
        opacity=forms.shown(0.07, 0.01, "size", "seed"),
    )
    zero = forms.guide(table, "size", y=0)
    layers = alt.layer(
        bands,
        zero,
        *steps.mark(context, table, "size"),
        lines,
        forms.hoverable(chart, x, y, tooltip, detail=alt.Detail("seed:N")),
    ).properties(height=170)
    return Figure(
        name="derivatives",
        title="How fast each run grows, and when",
        sentence="Lines are the derivatives of the runs’ smooth curves, with 95% bands. Growth is fastest where a line is highest."
        f"{steps.too_few_of_runs(context)}{steps.said(context)}",
        alt="Curves of the derivative over training steps, a panel a size, a line a seed.",
        chart=forms.focusable(forms.panels(layers, "size", context.sizes)),
        tables=(table,),
        layout=context.size_panels,
    )


def intervals(context: Context) -> Section:
    title = "How exactly is the onset known?"
    return context.section("onset-intervals", title, _interval_items(context), about="onset_intervals")


def _interval_items(context: Context) -> Iterator[Item]:
    definitions = context.levels("onset_intervals", "definition") if context.has("onset_intervals") else []
    first = TOLD if TOLD in definitions else next(iter(definitions), None)
    control = (Control("definition", "Onset is", first),) if first else ()
    yield _spans(context, control)
    yield _shares(context, control)
    yield _by_definition(context, definitions)
    yield _relations(context, definitions)


def _spans(context: Context, control: tuple[Control, ...]) -> Figure:
    tooltip = forms.tips(
        ("run:N", "run"), ("lower:Q", "after step", ",d"), ("upper:Q", "by step", ",d"), ("censoring:N", "censoring")
    )
    x = axes.step_x("start")
    return Figure(
        name="onset-spans",
        title="The onset of each run lies somewhere in its bar",
        sentence="A bar runs from the last checkpoint before the onset to the first after it. Wide bars are gaps between "
        "checkpoints." + steps.said(context),
        alt="Bars of the interval of each run’s onset on the step axis, a panel a size.",
        chart=forms.run_spans(
            "onset_intervals",
            x,
            "end",
            context.seeds,
            context.sizes,
            tooltip,
            steps.mark(context, "onset_intervals", "size"),
        ),
        tables=("onset_intervals",),
        controls=control,
        layout=context.size_panels,
    )


def _shares(context: Context, control: tuple[Control, ...]) -> Figure:
    chart = forms.base("onset_shares")
    x = axes.step_x()
    tooltip = forms.tips(
        ("size:N", "size"),
        ("step:Q", "by step", ",d"),
        ("share:Q", "share of runs", ".0%"),
        ("lower:Q", "from", ".0%"),
        ("upper:Q", "to", ".0%"),
    )
    means = forms.size_means(chart, x, axes.share_y("share", "Share of runs"), context.sizes, interpolate="step-after")
    hover = forms.hoverable(chart, x, "share:Q", tooltip, detail=alt.Detail("size:N"))
    return Figure(
        name="onset-shares",
        title="Share of runs that have started by each step",
        sentence="Each line rises from none to all of a size’s runs. Bands are 95% intervals from resampling seeds."
        + steps.said(context),
        alt="Step lines of the share of runs with onset by each training step, one a size.",
        chart=forms.focusable(alt.layer(*steps.mark(context, "onset_shares"), means, hover)),
        tables=("onset_shares",),
        controls=control,
        legend=True,
    )


def _by_definition(context: Context, definitions: list[str]) -> Figure:
    chart = forms.base("onset_by_size")
    y = axes.rows_y("definition", definitions)
    offset = alt.YOffset("size:O", scale=alt.Scale(domain=context.sizes))
    color = forms.by_size(context.sizes)
    tooltip = forms.tips(
        ("size:N", "size"),
        ("definition:N", "onset is"),
        ("median_lower:Q", "median after step", ",d"),
        ("median_upper:Q", "median by step", ",d"),
        ("lower:Q", "95%: after step", ",d"),
        ("upper:Q", "95%: by step", ",d"),
        ("n_reached:Q", "runs that reach it"),
        ("n_runs:Q", "of"),
    )
    thin = chart.mark_bar(height=2).encode(
        x=axes.step_x("lower_modded"),
        x2=alt.X2("upper_modded:Q"),
        y=y,
        yOffset=offset,
        color=color,
        opacity=forms.shown(0.6, 0.08, "size"),
        tooltip=tooltip,
    )
    thick = chart.mark_bar(height=7, cornerRadius=3).encode(
        x=alt.X("median_lower_modded:Q"),
        x2=alt.X2("median_upper_modded:Q"),
        y=y,
        yOffset=offset,
        color=color,
        tooltip=tooltip,
        opacity=forms.shown(0.95, 0.12, "size"),
    )
    return Figure(
        name="onset-by-definition",
        title="How the onset changes with its definition",
        sentence="Thick bars are what the checkpoints leave open for the median run; thin bars add the spread over seeds (95%). "
        "The same runs start early or late according to the definition." + steps.said(context),
        alt="Bars of the median onset’s interval for each definition of onset and each size.",
        chart=forms.focusable(
            alt.layer(*steps.mark(context, "onset_by_size"), thin, thick).properties(
                height=10 * len(definitions) * len(context.sizes)
            )
        ),
        tables=("onset_by_size",),
        legend=True,
    )


def _relations(context: Context, definitions: list[str]) -> Figure:
    table = "onset_relations"
    chart = forms.base(table)
    y = axes.rows_y("definition", definitions)
    tooltip = forms.tips(
        ("definition:N", "onset is"),
        ("slope:Q", "slope", ".3~f"),
        ("lower:Q", "95%: from", ".3~f"),
        ("upper:Q", "to", ".3~f"),
        ("grid_lower:Q", "onsets anywhere: from", ".3~f"),
        ("grid_upper:Q", "to ", ".3~f"),
        ("bound_lower:Q", "with sampling error: from", ".3~f"),
        ("bound_upper:Q", "to  ", ".3~f"),
        ("step_after:N", "best single step after"),
        ("step_gain:Q", "log-likelihood of that step less the line’s", ".3~f"),
    )
    x = alt.X("grid_lower:Q", title="Slope of log10(onset) on log10(parameters)")
    wide = chart.mark_bar(height=9, opacity=0.3, style="soft").encode(
        x=x, x2=alt.X2("grid_upper:Q"), y=y, tooltip=tooltip
    )
    narrow = chart.mark_rule(strokeWidth=2, style="ink").encode(
        x=alt.X("lower:Q"), x2=alt.X2("upper:Q"), y=y, tooltip=tooltip
    )
    dots = chart.mark_point(size=70, filled=True, opacity=1, style="accent").encode(
        x=alt.X("slope:Q"), y=y, tooltip=tooltip
    )
    return Figure(
        name="onset-relations",
        title="Onset and size, by definition",
        sentence="At a slope of −1, ten times the parameters start ten times earlier. Dots are fitted slopes with 95% intervals "
        "that let sizes scatter about the line. Grey bars are all slopes that the gaps between checkpoints allow. "
        "A definition has no dot if most runs do not reach it or the gaps leave it open.",
        alt="Slopes of onset on parameters for each definition of onset, with intervals.",
        chart=alt.layer(forms.guide(table, x=0), wide, narrow, dots).properties(height=24 * len(definitions)),
        tables=(table,),
    )

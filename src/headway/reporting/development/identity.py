"""Identity of the top head over time, and checkpoints that are the same twice."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.development import steps
from headway.reporting.numbers import ends
from headway.reporting.parts import Figure, Item, Missing, Section


def identity(context: Context) -> Section:
    title = "Is the head that ends on top there from the start?"
    return context.section("identity", title, _identity_items(context), about="identity")


def _identity_items(context: Context) -> Iterator[Item]:
    yield _rank(context)
    yield _leads(context)
    yield _takes_lead(context)


def _rank(context: Context) -> Figure:
    runs, means = (forms.base("final_head", f"datum.kind == '{kind}'") for kind in ("seed", "mean"))
    x = axes.step_x()
    y = axes.share_y("percentile", "Percentile")
    tooltip = forms.tips(
        ("run:N", "run"),
        ("step:Q", "step", ",d"),
        ("percentile:Q", "percentile", ".0%"),
        ("rank:Q", "rank"),
        ("n_heads:Q", "of"),
        ("value:Q", "its value", ".4~g"),
        ("largest:Q", "the largest then", ".4~g"),
    )
    dots = runs.mark_point(size=18, filled=True).encode(
        x=x, y=y, color=forms.by_size(context.sizes), tooltip=tooltip, opacity=forms.shown(0.4, 0.04, "size", "seed")
    )
    marked = steps.mark(context, "final_head", "size")
    chart = alt.layer(*marked, dots, forms.size_means(means, x, y, context.sizes)).properties(height=170)
    return Figure(
        name="final-head-rank",
        title="Where the final top head stood before",
        sentence="Lines are the mean percentile of the final top head at each step: 100% is the largest, 50% is chance. "
        "Bands are 95% intervals over seeds; dots are runs." + steps.said(context),
        alt="Lines of the percentile of the finally largest head over training steps, one a size.",
        chart=forms.focusable(forms.panels(chart, "size", context.sizes)),
        tables=("final_head",),
        layout=context.size_panels,
    )


def _leads(context: Context) -> Figure:
    chart = forms.base("final_head_means")
    x = axes.step_x()
    y = axes.share_y("share_leads", "Share of runs")
    tooltip = forms.tips(("size:N", "size"), ("step:Q", "step", ",d"), ("share_leads:Q", "share of runs", ".0%"))
    line = chart.mark_line(strokeWidth=2.2, point=alt.OverlayMarkDef(size=24, filled=True)).encode(
        x=x, y=y, color=forms.by_size(context.sizes), opacity=forms.shown(1, 0.12, "size")
    )
    hover = forms.hoverable(chart, x, y, tooltip, detail=alt.Detail("size:N"))
    return Figure(
        name="share-leads",
        title="How often the final top head already leads",
        sentence="A line is the share of a size’s runs whose final top head is already the largest at that step."
        + steps.said(context),
        alt="Lines of the share of runs led by their final top head over training steps, one a size.",
        chart=forms.focusable(alt.layer(*steps.mark(context, "final_head_means"), line, hover)),
        tables=("final_head_means",),
        legend=True,
        small=forms.focusable(
            chart.mark_line(strokeWidth=2).encode(
                x=x, y=y, color=forms.by_size(context.sizes), opacity=forms.shown(1, 0.12, "size")
            )
        ),
    )


def _takes_lead(context: Context) -> Figure:
    tooltip = forms.tips(
        ("run:N", "run"),
        ("final_layer:O", "final top head: layer"),
        ("final_head:O", "head"),
        ("takes_lead_after:Q", "another still led at step", ",d"),
        ("takes_lead_step:Q", "leads from step", ",d"),
        ("n_changes:Q", "changes of the lead"),
        ("n_leaders:Q", "heads that ever led"),
    )
    return Figure(
        name="takes-lead",
        title="When the final top head takes the lead for good",
        sentence="A bar begins at the last checkpoint at which another head led. "
        "It ends at the checkpoint from which the final top head leads to the end." + steps.said(context),
        alt="Bars on the step axis for each run, a panel a size.",
        chart=forms.run_spans(
            "lead",
            axes.step_x("start"),
            "end",
            context.seeds,
            context.sizes,
            tooltip,
            steps.mark(context, "lead", "size"),
        ),
        tables=("lead",),
        layout=context.size_panels,
    )


def duplicates(context: Context) -> Section:
    title = "Are any checkpoints the same twice?"
    return context.section("duplicates", title, [_duplicates(context)], about="duplicates")


def _duplicates(context: Context) -> Item:
    title = "Steps with identical scores in all heads"
    if not context.has("duplicates"):
        return Missing(title, "no two steps of a run are identical")
    chart = forms.base("duplicates")
    y = axes.seed_y(context.seeds)
    color = alt.Color("kind:N", title="Identical steps", scale=alt.Scale(domain=_KINDS))
    tooltip = forms.tips(
        ("run:N", "run"), ("same_as:Q", "step", ",d"), ("step:Q", "is identical to step", ",d"), ("kind:N", "they are")
    )
    opacity = forms.shown(1, 0.15, "size", "seed")
    measured = context.tables["runs"]
    domain = [ends(measured["first_step"])[0] + 1, ends(measured["last_step"])[1] + 1]
    spans = chart.mark_rule(strokeWidth=2).encode(
        x=alt.X("start:Q"), x2=alt.X2("end:Q"), y=y, color=color, opacity=opacity
    )
    dots = [
        chart.mark_point(size=45, filled=True).encode(
            x=axes.step_x(end, domain=domain), y=y, color=color, tooltip=tooltip, opacity=opacity
        )
        for end in ("start", "end")
    ]
    layers = alt.layer(*steps.mark(context, "duplicates", "size"), spans, *dots).properties(height=alt.Step(15))
    return Figure(
        name="identical-steps",
        title=title,
        sentence="Two joined dots are two steps of a run that are the same in every score of every head. "
        "No slope is taken between neighbours. Where others lie between, slopes reach over the earlier one."
        + steps.said(context),
        alt="Pairs of joined dots on the step axis for each run, a panel a size.",
        chart=forms.focusable(forms.panels(layers, "size", context.sizes)),
        tables=("duplicates",),
        layout=context.size_panels,
    )


_KINDS = ["next to one another", "with others between"]

"""Make the report's chapter from a result of the study `ablations`."""

from __future__ import annotations

import altair as alt

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.parts import Chapter, Control, Figure, Section, Table, Term
from headway.studies import Result
from headway.text import count

_TITLE = "Does it matter? Heads ablated over training"
_TERMS = [
    Term("Change", "The ability without the heads less the ability with them, both measured on the same texts."),
    Term("Same layers", "Random groups of as many heads in each of the layers, none of which was chosen."),
    Term(
        "Same norm",
        "Random groups of heads of any layer, each drawn from the five whose output norm is nearest to that of a chosen head.",
        "mean over tokens of ‖W_O z‖",
    ),
    Term("Dose", "How many of the chosen heads are ablated: the highest by the score first."),
]
_METHODS = [
    "The output of a head is replaced by zero, by its mean over the texts, or by what it is on another text (resampled), while the "
    "model reads them.",
    "The score of another head is that of the head with the highest score before, of those that are not ablated.",
    "Intervals are 95% t intervals over the runs of a size. p of a run is the share of groups, the chosen one included, that cost at "
    "least as much.",
]
_LIMITS = [
    "An effect says that the ability rests on these heads in this model. Other heads may do the same when they are missing.",
    "Zero takes away a constant that later layers may rely on; a mean keeps it.",
    "Heads chosen at a step are chosen by their score there. A high score is no proof of a function.",
]


def chapter(result: Result) -> Chapter:
    """Return the chapter of the result."""
    context = Context(result, {})
    sections = [_over_training(context), _doses(context)]
    runs = context.levels("changes", "run")
    return Chapter(
        study=result.study,
        subject=result.subject,
        title=_TITLE,
        summary=context.highlights(
            {("last", one.name): "over-training" for one in result.findings("last")},
            sections,
            lambda one: {name: one.values[name] for name in ("group", "title", "operation") if name in one.values},
        ),
        facts=[
            ("ablated heads", ", ".join(context.values["groups"])),
            ("ablations", f"{count(len(runs), 'run')}, {count(len(context.levels('changes', 'step')), 'step')}"),
        ],
        notes=result.notes,
        sections=sections,
        terms=_TERMS,
        methods=_METHODS,
        limits=_LIMITS,
        tables=context.tables,
        sizes=list(context.values["sizes"]),
        seeds=context.levels("changes", "seed"),
    )


def _controls(context: Context, table: str, *more: str) -> tuple[Control, ...]:
    words = {"group": "Heads", "title": "Effect", "operation": "Output replaced by", "control": "Beside"}
    return tuple(
        context.control(table, name, words[name], last=name == "control")
        for name in ("group", "title", "operation", *more)
    )


def _over_training(context: Context) -> Section:
    table, sizes = "change_means", list(context.values["sizes"])
    x, y = axes.step_x(), axes.value_y("mean", "Change without the heads")
    color = forms.by_size(sizes)
    base = forms.base(table)
    band = forms.band(base, x, color=color, opacity=forms.shown(0.17, 0.03, "size"))
    lines = base.mark_line(strokeWidth=2.2, point=True).encode(
        x=x, y=y, color=color, opacity=forms.shown(1, 0.13, "size")
    )
    chance = base.mark_line(strokeWidth=1.6, strokeDash=[5, 4]).encode(
        x=x, y=alt.Y("control_mean:Q"), color=color, opacity=forms.shown(1, 0.13, "size")
    )
    tooltip = forms.tips(
        ("size:N", "size"), ("step:Q", "step", ",d"), ("mean:Q", "change", ".3~g"), ("control_mean:Q", "random heads", ".3~g"),
        ("n_runs:Q", "runs"), ("n_controls:Q", "random groups, at least"), ("n_small_p:Q", "runs with p ≤ 0.05"),
    )  # fmt: skip
    hover = forms.hoverable(base, x, y, tooltip)
    figure = Figure(
        name="over-training",
        title="What abilities lose without the heads, over training",
        sentence="Lines are means over the runs of a size, with 95% intervals over runs. Dashed lines are random heads: the mean of the "
        "runs’ median groups.",
        alt="Curves of the change of an ability over training steps, one for each size, and dashed ones for random heads.",
        chart=forms.focusable(alt.layer(band, lines, chance, hover)),
        tables=(table,),
        controls=_controls(context, table, "control"),
        legend=True,
    )
    last = Table(
        name="at-last",
        title="Every run",
        frame=context.tables["changes"],
        headings={
            "run": "Run",
            "step": "Step",
            "group": "Group",
            "heads": "Heads",
            "operation": "Replaced by",
            "title": "Effect",
            "of_head": "Of head",
            "before": "With",
            "after": "Without",
            "control": "Beside",
            "control_median": "Random heads (median change)",
            "n_controls": "Groups",
            "p": "p",
        },
        folded=True,
    )
    return context.section("last", "What do abilities lose without the heads?", [figure, last], about="last")


def _doses(context: Context) -> Section:
    table, sizes = "doses", list(context.values["sizes"])
    x = alt.X("dose:O", title="Ablated heads", axis=alt.Axis(labelAngle=0))
    y = axes.value_y("mean", "Change without the heads")
    tooltip = forms.tips(("size:N", "size"), ("dose:Q", "heads"), ("mean:Q", "change", ".3~g"), ("n_runs:Q", "runs"))
    base = forms.base(table)
    lines = base.mark_line(strokeWidth=2, point=True).encode(
        x=x, y=y, color=forms.by_size(sizes), opacity=forms.shown(1, 0.13, "size")
    )
    figure = Figure(
        name="doses",
        title="The more heads, the larger the effect?",
        sentence="The change at each run’s last step, as a mean over the runs of a size, without the first head, the first two, and so on.",
        alt="Curves of the change of an ability by the number of ablated heads, one for each size.",
        chart=forms.focusable(alt.layer(lines, forms.hoverable(base, x, y, tooltip))),
        tables=(table,),
        controls=_controls(context, table),
        legend=True,
    )
    return context.section("doses", "How many heads does it take?", [figure], about="doses")

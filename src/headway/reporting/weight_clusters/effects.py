"""Sections on interventions: a cluster ablated, and one cluster alone, each beside random groups of heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import altair as alt
import polars as pl

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.parts import Control, Figure, Item, Section, Table
from headway.reporting.weight_clusters.frames import KINDS, last_steps

_MOST_ROWS = 400
_ROW = 22  # pixels of a row of heads


def what_they_do(context: Context) -> Section:
    lead = [
        "Ablating any heads changes something. So each effect is compared with the same intervention on random groups of as many "
        "heads in the same layers.",
        "Zero: the heads’ outputs are set to 0. Mean: they are replaced by their mean over the texts. Swap: the heads on both "
        "sides of the arrow change places.",
    ]
    return context.section(
        "effects",
        "Does the model need the clusters?",
        _effect_items(context),
        about="effects",
        needs=("Effects of interventions", "effects"),
        lead=lead,
    )


def _effect_items(context: Context) -> Iterator[Item]:
    yield _effects(context)
    yield _effect_table(context)
    if context.has("conventions"):
        yield _conventions(context)
    yield context.missing(_TOP_WORDS, "top_words") or _top_table(context)


def _effects(context: Context) -> Figure:
    table = "effects"
    tooltip = forms.tips(
        ("label:N", "heads"),
        ("kl:Q", "KL divergence (nats)", ".3~g"),
        ("chance_lower:Q", "random groups: from (nats)", ".3~g"),
        ("chance_upper:Q", "to (nats)", ".3~g"),
        ("n_controls:Q", "random groups", "d"),
        ("kl_percentile:Q", "percentile among them", ".0f"),
        ("kl_p:Q", "p", ".3~g"),
        ("loss_change:Q", "change of loss (nats per token)", ".3~g"),
        ("loss_change_control_median:Q", "that of random groups, median", ".3~g"),
        ("kl_first_step:Q", "KL at the run’s first step (nats)", ".3~g"),
    )
    order = context.levels(table, "label")
    chart = forms.against_chance(table, "kl", "KL divergence (nats)", "label", order, "", tooltip)
    chart += _rings(table, order, tooltip)
    controls = (
        context.control(table, "run", "Run"),
        context.control(table, "kind", "Clusters of", order=KINDS),
        context.control(table, "operation", "Intervention"),
        context.control(table, "step", "Step", last=True),
    )
    return Figure(
        name="effects",
        title="Effect of ablating or swapping a cluster on the next token",
        sentence="If a dot lies right of its bar, the model depends more on these heads than on most other groups of the same size. "
        "Dots show how far predictions move from those of the unchanged model, averaged over all positions of all texts. "
        "Bars span the central 90% of random groups, with a tick at the median. "
        "Rings show the effect of the same heads at the run’s first step. "
        "An effect does not say what the heads do.",
        alt="Effects of interventions on clusters with the range of random groups, one row per cluster.",
        chart=chart.properties(height=_height(context, table, controls)),
        tables=(table,),
        controls=controls,
    )


def _height(context: Context, table: str, controls: Sequence[Control]) -> int:
    return _ROW * context.most_rows(table, "label", controls) + 6


def _rings(table: str, order: Sequence[str], tooltip: Sequence[alt.Tooltip]) -> alt.Chart:
    """The effect at the first step, as rings. A missing one is drawn behind the dot, so that the axis has an end."""
    there = "isValid(datum.kl_first_step)"
    chart = forms.base(table).transform_calculate(ring=f"{there} ? datum.kl_first_step : datum.kl")
    rings: alt.Chart = chart.mark_point(size=75, filled=False, style="soft").encode(
        x=alt.X("ring:Q"),
        y=axes.rows_y("label", order),
        opacity=alt.condition(there, alt.value(1), alt.value(0)),
        tooltip=tooltip,
    )
    return rings


def _effect_table(context: Context) -> Table:
    last = last_steps(context.tables["effects"]).sort("kl_p", "run", maintain_order=True)
    return Table(
        "effects-table",
        "Effects at the last step",
        last.head(_MOST_ROWS).with_columns(pl.col("n_controls").cast(pl.Int64)),
        {
            "run": "Run",
            "kind": "Clusters of",
            "label": "Heads",
            "operation": "Intervention",
            "kl": "KL (nats)",
            "kl_sd": "SD over positions",
            "chance": "of random groups (median)",
            "kl_percentile": "Percentile among them",
            "kl_p": "p",
            "n_controls": "Random groups",
            "kl_last": "KL at the last position (nats)",
            "kl_last_control_median": "of random groups",
            "loss_change": "Change of loss (nats per token)",
            "loss_change_control_median": "of random groups",
            "kl_first_step": "KL at the first step (nats)",
        },
        "The smallest p come first. They are not corrected: among many interventions some are small by chance."
        + _of_many(last),
        folded=True,
    )


_TOP_WORDS = "The five most probable next tokens before and after, at the last step"


def _top_table(context: Context) -> Table:
    """A table with the most probable tokens of each text in one line, with their probabilities."""
    rows = context.tables["top_words"]
    return Table(
        "tops-table",
        _TOP_WORDS,
        rows.head(_MOST_ROWS),
        {
            "run": "Run",
            "kind": "Clusters of",
            "label": "Heads",
            "operation": "Intervention",
            "text": "Text ends with",
            "before": "Before (probability)",
            "after": "After (probability)",
            "top_changed": "Top token changes in (share of all texts)",
            "top_changed_control_median": "with random groups (median)",
        },
        "These are the last words of some texts, and the tokens that the model expects next. "
        "A changed token means little if random groups of heads change it as often." + _of_many(rows),
        folded=True,
    )


def _of_many(rows: pl.DataFrame) -> str:
    return f" The first {_MOST_ROWS} of {len(rows)} rows are shown." if len(rows) > _MOST_ROWS else ""


def alone(context: Context) -> Section:
    return context.section(
        "prompts",
        "What does each cluster answer alone?",
        _prompt_items(context),
        about="prompts",
        needs=("Prompts", "prompts"),
    )


def _prompt_items(context: Context) -> Iterator[Item]:
    yield _answers(context)
    yield _by_task(context)
    yield _prompt_table(context)


_COLOURS = {"clusters": "#ee7733", "random groups": "#8a8a8a"}


def _answers(context: Context) -> Figure:
    table = "answers"
    tooltip = forms.tips(("label:N", ""), ("of:N", ""), ("share:Q", "differ", ".0%"), ("n_prompts:Q", "prompts", "d"))
    controls = (context.control(table, "run", "Run"), context.control(table, "step", "Step", last=True))
    shapes = alt.Scale(domain=list(_COLOURS), range=["circle", "diamond"])
    marks = (
        forms.base(table)
        .mark_point(size=80, filled=True, opacity=0.9)
        .encode(
            x=axes.share_x("share", "Prompts to which the answers differ"),
            y=axes.rows_y("label", context.levels(table, "label"), ""),
            shape=alt.Shape("of:N", title="", scale=shapes, legend=alt.Legend(orient="top")),
            color=forms.by_name("of", "", _COLOURS),
            tooltip=tooltip,
        )
    )
    return Figure(
        name="answers",
        title="How often clusters alone disagree on the top token, compared with random groups",
        sentence="If a circle lies no further right than its diamond, random groups disagree as often as the clusters. "
        "Only one cluster’s heads are active in their layers, then only another’s. "
        "Diamonds show how often random groups of the same sizes disagree. "
        "A circle further right does not say what a cluster is for: no model was trained with most of a layer silent.",
        alt="Share of prompts with different answers by layer, for clusters and for random groups.",
        chart=marks.properties(height=_height(context, table, controls)),
        tables=(table,),
        controls=controls,
    )


def _by_task(context: Context) -> Table:
    return Table(
        "answers-by-task",
        "How often the answers differ, by task",
        context.tables["answers_by_task"],
        {
            "run": "Run",
            "task": "Task",
            "clusters": "Clusters differ (share)",
            "random_groups": "Random groups differ (share)",
            "n_prompts": "Prompts",
            "n": "Answers",
        },
        "This is the last step, over all layers and kinds. A task whose shares are alike says nothing about clusters.",
    )


def _prompt_table(context: Context) -> Table:
    last = last_steps(context.tables["prompts"])
    last = last.sort("task", "prompt", "run", "place", "kind", maintain_order=True)
    return Table(
        "prompts-table",
        "Answers at the last step",
        last.head(_MOST_ROWS).with_columns(
            pl.col("clusters_differ").replace_strict({True: "yes", False: "no"}, return_dtype=pl.String),
            pl.col("n_controls").cast(pl.Int64),
        ),
        {
            "task": "Task",
            "prompt": "Prompt",
            "run": "Run",
            "place": "Layers",
            "kind": "Clusters of",
            "heads": "Active heads",
            "top_token": "Top token",
            "top_probability": "its probability",
            "model_top_token": "The whole model’s",
            "clusters_differ": "Clusters differ",
            "controls_differ": "Random groups differ in (share)",
            "divergence": "Divergence (nats)",
            "divergence_p": "p",
            "n_controls": "Random groups",
        },
        "Different answers of clusters mean little if random groups differ as often. "
        "The divergence (Jensen-Shannon) is that between the clusters’ answers. "
        "Its p, uncorrected, is the share of random groups that diverge as much." + _of_many(last),
        folded=True,
    )


def _conventions(context: Context) -> Table:
    return Table(
        "conventions",
        "The same interventions as the published study made them",
        context.tables["conventions"],
        {
            "run": "Run",
            "layers": "Layers",
            "kind": "Weights",
            "operation": "Intervention",
            "heads": "Heads",
            "kl": "KL on heads (nats)",
            "kl_control_median": "random groups (median)",
            "kl_published": "KL as published (nats)",
            "kl_last_published": "at last positions",
            "kl_control_median_published": "random groups as published (median)",
        },
        "As published, slices of the attention’s output are zeroed after heads were summed, in a model whose swap was not undone. Its "
        "swap exchanges rows of the fused weight read in thirds. Neither is an intervention on heads.",
        folded=True,
    )

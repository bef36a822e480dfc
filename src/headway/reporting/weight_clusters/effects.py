"""What the model does without a cluster, and with one cluster alone, each beside random groups of heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import altair as alt
import polars as pl

from headway.reporting.charts import forms
from headway.reporting.parts import Figure, Item, Missing, Section, Table
from headway.reporting.weight_clusters.context import Context
from headway.reporting.weight_clusters.frames import place, upper

_MOST_ROWS = 400
_NO_EFFECTS = "No interventions with controls are here: `headway intervene SUITE --out DIR` makes them."


def what_they_do(context: Context) -> Section:
    lead = [
        *context.finding("interventions on clusters"),
        "Each effect stands beside the same intervention on random groups of as many heads in the same layers, because taking "
        "away any heads changes something. Zero: the heads say nothing. Mean: they say their mean over the texts. Swap: the "
        "heads on either side of the arrow change places.",
    ]
    return context.section("effects", "Does the model need the clusters?", lead, _effect_items(context))


def _effect_items(context: Context) -> Iterator[Item]:
    if not context.has("cluster_effects"):
        yield Missing("Effects of interventions", _NO_EFFECTS)
        return
    yield _effects(context)
    yield _effect_table(context)
    yield _top_table(context)


def _effects(context: Context) -> Figure:
    table = "cluster_effects"
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
    order = context.tables[table]["label"].unique(maintain_order=True).to_list()
    chart = forms.against_chance(table, "kl", "KL divergence (nats)", "label", order, "", tooltip)
    chart += _rings(table, order, tooltip)
    controls = (
        context.control(table, "run", "Run"),
        context.control(table, "kind", "Clusters of"),
        context.control(table, "operation", "Intervention"),
        context.control(table, "step", "Step", last=True),
    )
    return Figure(
        name="clusters-effects",
        title="What taking away or swapping a cluster does to the next token",
        sentence="A dot is the divergence from the untouched model’s predictions, averaged over all positions of all texts; the bar spans "
        "the central 90 % of random groups, its tick their median, and a ring is the same heads’ effect at the run’s first step, if "
        "another one is shown. A dot right of its bar says that the model leans on these heads more than on most others as many; "
        "it does not say what for, nor, where there are few groups, that this is no chance.",
        alt="Effects of interventions on clusters with the range of random groups, a row a cluster.",
        chart=chart.properties(height=context.height(table, *controls)),
        tables=(table,),
        controls=controls,
    )


def _rings(table: str, order: Sequence[str], tooltip: Sequence[alt.Tooltip]) -> alt.Chart:
    """The effect at the first step. Where there is none the ring lies unseen on the dot, so that the axis has an end."""
    there = "isValid(datum.kl_first_step)"
    base = alt.Chart(forms.named(table)).transform_calculate(ring=f"{there} ? datum.kl_first_step : datum.kl")
    return base.mark_point(size=75, filled=False, style="soft").encode(
        x="ring:Q",
        y=alt.Y("label:N", sort=list(order), title=""),
        opacity=alt.condition(there, alt.value(1), alt.value(0)),
        tooltip=tooltip,
    )


def _effect_table(context: Context) -> Table:
    rows = context.tables["cluster_effects"]
    last = rows.filter(pl.col("step") == pl.col("step").max().over("run")).sort("kl_p", "run", maintain_order=True)
    return Table(
        "clusters-effects-table",
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
        "The smallest p first, uncorrected: among many interventions some are small by chance." + _of_many(last),
        folded=True,
    )


def _top_table(context: Context) -> Table:
    """The tokens of a text in one line, with their probabilities."""
    tops = context.result.tables["tops"]
    last = tops.filter(pl.col("step") == pl.col("step").max().over("run")).with_columns(place(), upper())
    five = (
        pl.format("{} ({})", f"token_{when}", pl.col(f"p_{when}").round(2)).str.join(", ").alias(when)
        for when in ("before", "after")
    )
    beside = ("text", "top_changed", "top_changed_control_median")
    operation = ("run", "kind", "place", "heads", "operation", "text_number")
    rows = last.group_by(operation, maintain_order=True).agg(pl.col(beside).first(), *five)
    return Table(
        "clusters-tops-table",
        "The five most probable next tokens before and after, at the last step",
        rows.head(_MOST_ROWS).with_columns(label=pl.format("layer {}: {}", "place", "heads")),
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
        "The last words of some texts that the model read, and what it expects next. That a token changes means little where it "
        "does so for random groups of heads as often." + _of_many(rows),
        folded=True,
    )


def _of_many(rows: pl.DataFrame) -> str:
    return f" The first {_MOST_ROWS} of {len(rows)} rows are shown." if len(rows) > _MOST_ROWS else ""


def alone(context: Context) -> Section:
    lead = context.finding("answer differently")
    return context.section("prompts", "What does each cluster answer alone?", lead, _prompt_items(context))


def _prompt_items(context: Context) -> Iterator[Item]:
    if not context.has("cluster_prompts"):
        yield Missing("Prompts", "No prompts with controls are here: `headway intervene SUITE --out DIR` asks them.")
        return
    yield _answers(context)
    yield _prompt_table(context)


def _answers(context: Context) -> Figure:
    table = "cluster_answers"
    base = alt.Chart(forms.named(table))
    rows = alt.Y("label:N", title="", sort=context.tables[table]["label"].unique(maintain_order=True).to_list())
    x = alt.X(
        "share:Q",
        title="Prompts to which the answers differ",
        axis=alt.Axis(format="%"),
        scale=alt.Scale(domain=[0, 1]),
    )
    tooltip = forms.tips(("label:N", ""), ("of:N", ""), ("share:Q", "differ", ".0%"), ("n_prompts:Q", "prompts", "d"))
    names = ["clusters", "random groups"]
    legend = alt.Legend(orient="top")
    color = alt.Color("of:N", title="", scale=alt.Scale(domain=names, range=["#ee7733", "#8a8a8a"]), legend=legend)
    shape = alt.Shape("of:N", title="", scale=alt.Scale(domain=names, range=["circle", "diamond"]), legend=legend)
    controls = (context.control(table, "run", "Run"), context.control(table, "step", "Step", last=True))
    marks = base.mark_point(size=80, filled=True, opacity=0.9).encode(
        x=x, y=rows, shape=shape, color=color, tooltip=tooltip
    )
    return Figure(
        name="clusters-answers",
        title="How often clusters alone disagree on the top token, and how often random groups do",
        sentence="Only one cluster’s heads are active in their layers, then only another’s; a diamond marks how often random groups of "
        "those sizes disagree. A circle no further right than its diamond says that any parting of the heads would do as "
        "much; a circle further right does not say what a cluster is for: with most of a layer silent the model is far from any "
        "that was trained.",
        alt="Share of prompts with different answers by layer, for clusters and for random groups.",
        chart=marks.properties(height=context.height(table, *controls)),
        tables=(table,),
        controls=controls,
    )


def _prompt_table(context: Context) -> Table:
    rows = context.tables["cluster_prompts"]
    last = rows.filter(pl.col("step") == pl.col("step").max().over("run"))
    last = last.sort("task", "prompt", "run", "place", "kind", maintain_order=True)
    return Table(
        "clusters-prompts-table",
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
        "Clusters that answer differently mean little where random groups do so as often. The divergence (Jensen-Shannon) is that "
        "between the clusters’ answers; its p, uncorrected, is the share of random groups that diverge as much."
        + _of_many(last),
        folded=True,
    )

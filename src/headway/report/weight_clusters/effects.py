"""What the model does without a cluster, and with one cluster alone, each beside random groups of heads."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt
import polars as pl

from headway.report.charts import forms
from headway.report.parts import Figure, Item, Missing, Section, Table
from headway.report.weight_clusters.context import Context

_MOST_ROWS = 400
_NO_EFFECTS = "No interventions with controls are here: `headway intervene SUITE --out DIR` makes them."


def what_they_do(context: Context) -> Section:
    lead = [
        *context.finding("interventions on clusters"),
        "Each effect stands beside the same intervention on random groups of as many heads in the same layers, because taking "
        "away any heads changes something.",
    ]
    return context.section("effects", "Does the model need the clusters?", lead, _effect_items(context))


def _effect_items(context: Context) -> Iterator[Item]:
    if not context.has("cluster_effects"):
        yield Missing("Effects of interventions", _NO_EFFECTS)
        return
    yield _effects(context)
    yield _effect_table(context)


def _effects(context: Context) -> Figure:
    table = "cluster_effects"
    tooltip = forms.tips(
        ("label:N", "heads"),
        ("kl:Q", "KL divergence (nats)", ".3~g"),
        ("chance_lower:Q", "random groups: from", ".3~g"),
        ("chance_upper:Q", "to", ".3~g"),
        ("n_controls:Q", "random groups", "d"),
        ("kl_percentile:Q", "percentile", ".0f"),
        ("kl_p:Q", "p", ".3~g"),
        ("loss_change:Q", "change of loss (nats)", ".3~g"),
        ("kl_first_step:Q", "KL at the first step", ".3~g"),
    )
    order = context.tables[table]["label"].unique(maintain_order=True).to_list()
    chart = forms.against_chance(table, "kl", "KL divergence (nats)", "label", order, "", tooltip)
    controls = (
        context.control(table, "run", "Run"),
        context.control(table, "kind", "Clusters of"),
        context.control(table, "operation", "Intervention"),
        context.control(table, "step", "Step", last=True),
    )
    return Figure(
        name="clusters-effects",
        title="What taking away or swapping a cluster does to the next token",
        sentence="A dot is the divergence from the untouched model’s predictions, averaged over all positions of the texts; the bar spans the central 90 % of "
        "random groups, its tick their median.",
        alt="Effects of interventions on clusters with the range of random groups, a row a cluster.",
        chart=chart.properties(height=context.height(table, *controls)),
        tables=(table,),
        controls=controls,
    )


def _effect_table(context: Context) -> Table:
    rows = context.tables["cluster_effects"]
    last = rows.filter(pl.col("step") == pl.col("step").max().over("run")).sort("kl_p", "run", maintain_order=True)
    first = [pl.col(name).list.first().alias(name) for name in ("top_before", "top_after")]
    return Table(
        "clusters-effects-table",
        "Effects at the last step",
        last.head(_MOST_ROWS).with_columns(*first, pl.col("n_controls").cast(pl.Int64)),
        {
            "run": "Run",
            "kind": "Clusters of",
            "label": "Heads",
            "operation": "Intervention",
            "kl": "KL (nats)",
            "kl_sd": "SD over texts",
            "kl_last": "KL, last position",
            "loss_change": "Change of loss (nats)",
            "top_changed": "Top token changed in",
            "kl_percentile": "Percentile of random groups",
            "kl_p": "p",
            "n_controls": "Random groups",
            "kl_first_step": "KL at the first step",
            "top_before": "Top token before",
            "top_after": "after",
        },
        "The smallest p first, uncorrected: among many interventions some are small by chance."
        + (f" The first {_MOST_ROWS} of {len(last)} are shown." if len(last) > _MOST_ROWS else ""),
        folded=True,
    )


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
        sentence="Only one cluster’s heads are active in its layers, then only the other’s; a diamond marks how often two random "
        "groups of those sizes disagree.",
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
            pl.col("clusters_differ").replace_strict({True: "yes", False: "no"}, return_dtype=pl.String)
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
            "controls_differ": "Random groups differ in",
        },
        "Two clusters that answer differently mean little where random groups do so as often."
        + (f" The first {_MOST_ROWS} of {len(last)} rows are shown." if len(last) > _MOST_ROWS else ""),
        folded=True,
    )

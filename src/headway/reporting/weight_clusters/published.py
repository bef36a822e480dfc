"""Section on the published study's rules, beside the rules with controls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import altair as alt
import polars as pl

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.parts import Figure, Item, Section, Table
from headway.reporting.weight_clusters.clusters import kind_panels, panel_layout
from headway.reporting.weight_clusters.frames import CORRECTED_VERDICT, KINDS, PUBLISHED_VERDICT
from headway.studies.weight_clusters import STRONG, WEAK

_ROW = 22  # pixels of a row of the table

_RULES = (
    (
        "clusters",
        "Heads cluster",
        f"silhouette above {STRONG} (it states no cut; its table calls 0.28 strong and 0.09 weak)",
        "heads form groups, norms aside, beyond every null, corrected",
    ),
    (
        "differ",
        "Clusters differ",
        "Kolmogorov–Smirnov or t over pooled weights, p < 10⁻⁶",
        "the same over heads, corrected, for taking the better of two tests too",
    ),
    (
        "sudden",
        "Sudden",
        "largest change above 0.2",
        "such groups are there, and a step fits them better than a smooth curve",
    ),
)


def what_was_published(context: Context) -> Section:
    lead = [
        "Pooled weights are not independent samples: with tens of thousands of them any two groups differ. "
        "So the published rules are shown beside corrected ones, for the same weights at the last step."
    ]
    return context.section(
        "published",
        "What do the published rules say?",
        _items(context),
        about="published",
        needs=("Published rules", "published"),
        lead=lead,
    )


def _items(context: Context) -> Iterator[Item]:
    counts = context.values["published"]
    yield Table(
        "rules",
        f"Layers and kinds of weights to which each rule applies, of {counts['n']}",
        pl.DataFrame(
            [(claim, counts[f"published_{key}"], published, counts[f"corrected_{key}"], corrected)
             for key, claim, published, corrected in _RULES],
            schema=["claim", "n_published", "published", "n_corrected", "corrected"], orient="row",
        ),
        {"claim": "Claim", "n_published": "As published", "published": "if", "n_corrected": "Corrected", "corrected": "if "},
        "If the two numbers differ much, the controls matter.",
    )  # fmt: skip
    yield _timeline(context)
    yield _by_layer(context)
    yield _tests(context)
    if context.has("layouts"):
        yield _readings(context)
        yield _layouts(context)


def _timeline(context: Context) -> Figure:
    table = "published_timeline"
    columns = [*context.levels(table, "column", KINDS)]
    columns = [name for name in columns if name not in (PUBLISHED_VERDICT, CORRECTED_VERDICT)]
    x = alt.X(
        "column:N",
        title=None,
        sort=[*columns, PUBLISHED_VERDICT, CORRECTED_VERDICT],
        axis=alt.Axis(orient="top", labelAngle=0, domain=False, ticks=False),
    )
    y = alt.Y("step:O", title="Training step", axis=alt.Axis(format=",d"))
    cells = (
        forms.base(table)
        .mark_text(fontSize=12, limit=190)
        .encode(x=x, y=y, text=alt.Text("text:N"), tooltip=["text:N"])
    )
    marked = forms.base(table, "datum.bold").mark_rect(opacity=0.16, style="accent").encode(x=x, y=y)
    opens = context.values.get("most_eventful") or {}
    run, layer = context.control(table, "run", "Run"), context.control(table, "layer", "Layer")
    if opens.get("run") in context.levels(table, "run"):
        run = replace(run, default=opens["run"])
    return Figure(
        name="published-timeline",
        title="The published table of silhouettes, with both verdicts",
        sentence="Each cell is the silhouette of two clusters of raw weights. Shaded cells hold groups of heads, corrected for "
        f"all tests. The published study calls a step weak or strong; the cuts, {WEAK} and {STRONG}, are inferred from its table. "
        "A head that is alone in its cluster is an outlier.",
        alt="Table of silhouettes by step and kind of weights, with the published verdict and the corrected one.",
        chart=(marked + cells).properties(height=_ROW * context.most_rows(table, "step", (run, layer))),
        tables=(table,),
        controls=(run, layer),
    )


def _readings(context: Context) -> Figure:
    table = "readings"
    x, y = axes.step_x(), axes.value_y("value", "Silhouette")
    tooltip = forms.tips(("reading:N", "read"), ("step:Q", "step", ",d"), ("value:Q", "silhouette", ".3f"))
    color = forms.by_name("reading", "Fused weight read", {"by head": "#4477aa", "as published": "#ee7733"})
    lines = forms.lines(table, x, y, tooltip, by="reading", width=2, color=color)
    return Figure(
        name="readings",
        title="The silhouette by both readings over training",
        sentence="If only the published reading jumps, the jump comes from the reading, not from the model.",
        alt="Silhouette over training steps, read by head and as published, a panel for each kind of weights.",
        chart=kind_panels(lines.properties(height=170), context, table),
        tables=(table,),
        controls=(context.control(table, "run", "Run"), context.control(table, "layer", "Layer")),
        layout=panel_layout(context, table),
    )


def _layouts(context: Context) -> Table:
    return Table(
        "layouts",
        "Effect of how the fused weight was read",
        context.tables["layouts"].with_columns(pl.col("layer").cast(pl.String)),
        {
            "run": "Run",
            "layer": "Layer",
            "kind": "Weights",
            "silhouette": "Silhouette, read by head",
            "silhouette_published_layout": "read as published",
            "ari": "Agreement of labels",
        },
        "The published study took thirds of the fused weight as Q, K and V, which mixes heads and kinds. "
        "An agreement of 0 is chance.",
        folded=True,
    )


def _by_layer(context: Context) -> Table:
    words = {True: "yes", False: "no"}
    rows = context.tables["published"]
    flags = [name for name, dtype in rows.schema.items() if dtype == pl.Boolean]
    shown = rows.with_columns(
        pl.col("layer").cast(pl.String),
        *(pl.col(flag).replace_strict(words, return_dtype=pl.String, default=None) for flag in flags),
    )
    return Table(
        "rules-by-layer",
        "Each layer by both rules",
        shown,
        {
            "run": "Run",
            "layer": "Layer",
            "kind": "Weights",
            "silhouette": "Silhouette",
            "null_high": "95% of the strictest null",
            "published_clusters": "Clusters: published",
            "corrected_clusters": "corrected",
            "published_differ": "Differ: published",
            "corrected_differ": "corrected ",
            "published_sudden": "Sudden: published",
            "corrected_sudden": "corrected  ",
        },
        "This is the last step of each run.",
        folded=True,
    )


def _tests(context: Context) -> Table:
    last = context.tables["last"].filter(pl.col("feature") == "raw")
    return Table(
        "tests",
        "Tests between the two clusters",
        last.with_columns(pl.col("layer").cast(pl.String)),
        {
            "run": "Run",
            "layer": "Layer",
            "kind": "Weights",
            "published_ks": "KS over pooled weights",
            "published_ks_p": "p (published)",
            "published_t": "t over pooled weights",
            "published_t_p": "p (published) ",
            "cohen_d": "Cohen’s d of weights",
            "q_heads_ks": "KS over heads: p, corrected",
            "q_heads_t": "Means over heads: p, corrected",
            "q_heads": "Both: p, corrected",
            "heads_d": "d of heads",
        },
        "The published p treat every weight as an independent sample, which it is not. "
        "They also test clusters on the weights in which these were found. Tests over heads permute the labels of whole heads.",
        folded=True,
    )

"""What study 1 would have said, beside what the controls say."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from headway.report.parts import Item, Missing, Section, Table
from headway.report.weight_clusters.context import NO_CLUSTERS, Context

_RULES = (
    ("clusters", "Heads cluster", "silhouette above 0.3", "beyond every null, corrected, and not by a head alone"),
    (
        "differ",
        "Clusters differ",
        "Kolmogorov–Smirnov or t over pooled weights, p < 10⁻⁶",
        "the same over heads, corrected",
    ),
    ("sudden", "Sudden", "largest change above 0.2", "a step fits better than a smooth curve"),
)


def what_study_1_said(context: Context) -> Section:
    lead = [
        "Published rules beside corrected ones, on the same weights at the last step. Pooled weights are not independent "
        "samples: with tens of thousands of them any two groups differ."
    ]
    return context.section("published", "What study 1 would have said", lead, _items(context))


def _items(context: Context) -> Iterator[Item]:
    counts = context.result.values.get("published")
    if not counts or not context.has("cluster_published"):
        yield Missing("Published rules", NO_CLUSTERS)
        return
    yield Table(
        "clusters-rules",
        f"Layers and kinds of weights of which each rule says so, of {counts['n']}",
        pl.DataFrame(
            [(claim, counts[f"published_{key}"], published, counts[f"corrected_{key}"], corrected)
             for key, claim, published, corrected in _RULES],
            schema=["claim", "n_published", "published", "n_corrected", "corrected"], orient="row",
        ),
        {"claim": "Claim", "n_published": "As published", "published": "if", "n_corrected": "Corrected", "corrected": "if "},
        "A large difference between the two columns is what the controls are for.",
    )  # fmt: skip
    yield _by_layer(context)
    yield _tests(context)
    if context.has("cluster_layouts"):
        yield _layouts(context)


def _layouts(context: Context) -> Table:
    return Table(
        "clusters-layouts",
        "How much comes from how the fused weight was read",
        context.tables["cluster_layouts"].with_columns(pl.col("layer").cast(pl.String)),
        {
            "run": "Run",
            "layer": "Layer",
            "kind": "Weights",
            "silhouette": "Silhouette, read by head",
            "silhouette_published_layout": "read as published",
            "ari": "Agreement of labels",
        },
        "Study 1 took thirds of the fused weight for Q, K and V, which mixes heads and kinds; 0 is agreement by chance.",
        folded=True,
    )


def _by_layer(context: Context) -> Table:
    words = {True: "yes", False: "no"}
    rows = context.tables["cluster_published"]
    flags = [name for name, dtype in rows.schema.items() if dtype == pl.Boolean]
    shown = rows.with_columns(
        pl.col("layer").cast(pl.String),
        *(pl.col(flag).replace_strict(words, return_dtype=pl.String, default=None) for flag in flags),
    )
    return Table(
        "clusters-rules-by-layer",
        "Each layer by both rules",
        shown,
        {
            "run": "Run",
            "layer": "Layer",
            "kind": "Weights",
            "silhouette": "Silhouette",
            "null_high": "95 % of the strictest null",
            "published_clusters": "Clusters: published",
            "corrected_clusters": "corrected",
            "published_differ": "Differ: published",
            "corrected_differ": "corrected ",
            "published_sudden": "Sudden: published",
            "corrected_sudden": "corrected  ",
        },
        "The last step of each run.",
        folded=True,
    )


def _tests(context: Context) -> Table:
    last = context.tables["cluster_last"].filter(pl.col("feature") == "raw")
    return Table(
        "clusters-tests",
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
            "heads_d": "d of heads",
        },
        "The published p treat every weight as an independent sample, which it is not, and test clusters on the weights that "
        "made them; those over heads permute the labels of whole heads.",
        folded=True,
    )

"""The published study's rules, beside rules with controls."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from headway.clusters.quality import adjusted_rand
from headway.stats.corrections import LEVEL
from headway.studies.result import Result
from headway.studies.weight_clusters.timeline import main_series
from headway.studies.weight_clusters.transitions import published_rule

# The silhouette above which the published study speaks of clustering. It states no rule; its table calls 0.277 strong and 0.091 weak.
STRONG = 0.2
WEAK = (
    0.07  # inferred likewise: its table says "no clustering" of at most 0.062 in any kind, and "weak" of 0.075 to 0.091
)
SIGNIFICANT = 1e-6  # and the p of its pooled tests
_READINGS = ("silhouette", "silhouette_published_layout")


def published(lines: pl.DataFrame, transitions: pl.DataFrame) -> pl.DataFrame:
    """One row per run, layer and kind of raw weights, at the run's last step: each published rule (`published_...`) and the
    rule with controls and corrections (`corrected_...`).

    `clusters`: silhouette above 0.2 (inferred from its table) | groups of several heads, norms aside, beyond every null, corrected.
    `differ`: Kolmogorov-Smirnov or t over pooled weights with p < 1e-6 | over heads, corrected, for both tests too.
    `sudden`: largest change above 0.2 | such groups at the last step, and `change_points` says abrupt.
    """
    raw = main_series(lines).filter(pl.col("feature") == "raw")
    last = raw.filter(pl.col("step") == pl.col("step").max().over("run", "layer", "kind"))
    own = transitions.filter(pl.col("run").is_not_null(), pl.col("feature") == "raw")
    together = last.join(own, on=["run", "layer", "kind"], how="left", suffix="_of_run")
    groups = pl.col("groups").fill_null(False)
    return together.select(
        "run", "size", "seed", "layer", "kind", "step", "silhouette", "null_high", "q", "lone_heads",
        "group_labels", "group_k", "group_silhouette", "q_groups",
        published_clusters=pl.col("silhouette") > STRONG,
        corrected_clusters=groups,
        published_ks_p="published_ks_p",
        published_t_p="published_t_p",
        published_differ=pl.min_horizontal("published_ks_p", "published_t_p") < SIGNIFICANT,
        q_heads_ks="q_heads_ks",
        q_heads_t="q_heads_t",
        q_heads="q_heads",
        corrected_differ=pl.col("q_heads") <= LEVEL,
        published_change="published_change",
        published_sudden="published_sudden",
        corrected_sudden=groups & (pl.col("change") == "abrupt").fill_null(False),
        verdict="verdict",
    )  # fmt: skip


def published_timeline(lines: pl.DataFrame) -> pl.DataFrame:
    """The published table of silhouettes over training: one row per run, layer, step and kind of raw weights.

    `published` is its verdict on the step, from the largest silhouette of all kinds (the cuts are inferred): "no clustering",
    "weak" or "strong". `corrected` is the verdict with controls on the same step, for all kinds together: which kinds
    hold groups, which single heads make the silhouette, or that too few draws were made to tell.
    """
    raw = main_series(lines).filter(pl.col("feature") == "raw").sort("run", "layer", "step", "kind")
    step = ("run", "layer", "step")
    largest = pl.col("silhouette").max().over(step)
    verdict = pl.when(largest > STRONG).then(pl.lit("strong")).when(largest > WEAK).then(pl.lit("weak"))
    corrected = [
        {**dict(zip(step, place, strict=True)), "corrected": _corrected_words(of)}
        for place, of in raw.group_by(step, maintain_order=True)
    ]
    schema = {"run": pl.String(), "layer": raw.schema["layer"], "step": raw.schema["step"], "corrected": pl.String()}
    columns = (
        "run",
        "size",
        "seed",
        "layer",
        "step",
        "kind",
        "silhouette",
        "null_high",
        "q_groups",
        "groups",
        "lone_heads",
    )
    return (
        raw.with_columns(published=verdict.otherwise(pl.lit("no clustering")))
        .select(*columns, "published")
        .join(pl.DataFrame(corrected, schema=schema), on=step, how="left", maintain_order="left")
    )


def _corrected_words(kinds: pl.DataFrame) -> str:
    """Name the kinds with groups, the heads that are alone in a cluster as clear as the published rule asks, or neither."""
    if kinds["q_groups"].null_count() == len(kinds):
        return "not tested"
    names = {
        "groups in": kinds.filter("groups")["kind"],
        "undecidable in": kinds.filter(pl.col("undecided") & ~pl.col("groups"))["kind"],
    }
    said = [f"{what} {_kinds(of)}" for what, of in names.items() if len(of)]
    alone = kinds.filter(pl.col("silhouette") > STRONG, pl.col("lone_heads").list.len() > 0, ~pl.col("groups"))
    by_heads = alone.group_by("lone_heads", maintain_order=True).agg(pl.col("kind"))
    for heads, of in by_heads.iter_rows():
        named = f"head{'s' if len(heads) > 1 else ''} {', '.join(map(str, heads))}"
        said.append(f"{named} alone in {_kinds(of)}")
    return "; ".join(said) or "no groups"


def _kinds(kinds: Iterable[str]) -> str:
    return ", ".join(sorted(kinds, key="qkvo".index)).upper()


def layouts(result: Result, true: pl.DataFrame, as_published: pl.DataFrame) -> None:
    """Add the table `layouts`, which compares two readings of a fused weight: the true layout, in which each head's Q, K and V
    stand together, and the published one, which takes thirds of the whole weight.

    It has one row per run, layer, kind of raw weights and step of both readings, with the silhouette of each and the
    agreement of their labels. A difference comes from the reading, not from the model.
    """
    key = ["run", "size", "step", "layer", "kind"]
    readings = [
        main_series(table).filter(pl.col("feature") == "raw").select(*key, "labels", "silhouette")
        for table in (true, as_published)
    ]
    both = readings[0].join(readings[1], on=key, suffix="_published_layout").sort("run", "layer", "kind", "step")
    pairs = zip(both["labels"], both["labels_published_layout"], strict=True)
    agreement = [float(adjusted_rand(np.array([one]), np.array([other]))[0]) for one, other in pairs]
    both = both.with_columns(ari=pl.Series(agreement, dtype=pl.Float64)).drop("labels", "labels_published_layout")
    result.tables["layouts"] = both
    if len(both):
        _readings(result, both)


def _readings(result: Result, both: pl.DataFrame) -> None:
    last = both.filter(pl.col("step") == pl.col("step").max().over("run"))
    by_head, misread = (int((last[name] > STRONG).sum()) for name in _READINGS)
    ari = float(np.mean(last["ari"].to_numpy()))
    result.find(
        "published",
        "readings",
        f"Read as the published study read a fused weight, {misread} of {len(last)} layers and kinds are clustered.",
        f"Read by head, {by_head or 'none'} {'is' if by_head == 1 else 'are'}.",
        f"The labels of the two readings agree by an adjusted Rand index of {ari:.2f}, where 0 is chance.",
        n=len(last),
        n_misread=misread,
        n_by_head=by_head,
        ari=ari,
    )
    if both["step"].n_unique() > 1:
        series = both.partition_by("run", "layer", "kind")
        jumps = [sum(published_rule(one["step"].to_list(), one[name].to_numpy()).get("published_sudden", False)
                     for one in series) for name in _READINGS]  # fmt: skip
        result.find(
            "published",
            "jumps",
            f"By the published rule {jumps[1]} of {len(series)} series jump when read as published.",
            f"Read by head, {jumps[0] or 'none'} {'does' if jumps[0] == 1 else 'do'}.",
            n=len(series),
            n_misread=jumps[1],
            n_by_head=jumps[0],
        )

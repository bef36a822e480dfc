"""What study 1 would have said, beside what the controls say."""

from __future__ import annotations

import numpy as np
import polars as pl

from headway.clusters.quality import adjusted_rand
from headway.studies.result import Result
from headway.studies.weight_clusters.timeline import LEVEL, main_series

STRONG = 0.3  # the silhouette above which study 1 speaks of clustering
SIGNIFICANT = 1e-6  # and the p of its pooled tests


def published(lines: pl.DataFrame, transitions: pl.DataFrame) -> pl.DataFrame:
    """One row per run, layer and kind of raw weights, at the run's last step: each published rule (`published_...`) and the
    rule that allows for what it leaves out (`corrected_...`).

    `clusters`: silhouette above 0.3 | beyond every null, corrected, and not by a head alone.
    `differ`: Kolmogorov-Smirnov or t over pooled weights with p < 1e-6 | over heads, corrected.
    `sudden`: largest change above 0.2 | `change_points` says abrupt.
    """
    raw = main_series(lines).filter(pl.col("feature") == "raw")
    last = raw.filter(pl.col("step") == pl.col("step").max().over("run", "layer", "kind"))
    own = transitions.filter(pl.col("run").is_not_null(), pl.col("feature") == "raw")
    together = last.join(own, on=["run", "layer", "kind"], how="left", suffix="_of_run")
    lone = pl.col("lone_heads").list.len() > 0
    return together.select(
        "run", "size", "seed", "layer", "kind", "step", "silhouette", "null_high", "q", "lone_heads", "silhouette_rest",
        published_clusters=pl.col("silhouette") > STRONG,
        corrected_clusters=pl.col("beyond") & ~lone,
        published_ks_p="published_ks_p",
        published_t_p="published_t_p",
        published_differ=pl.min_horizontal("published_ks_p", "published_t_p") < SIGNIFICANT,
        q_heads_ks="q_heads_ks",
        q_heads_t="q_heads_t",
        corrected_differ=pl.min_horizontal("q_heads_ks", "q_heads_t") <= LEVEL,
        published_change="published_change",
        published_sudden="published_sudden",
        corrected_sudden=(pl.col("change") == "abrupt").fill_null(False),
        verdict="verdict",
    )  # fmt: skip


def layouts(result: Result, true: pl.DataFrame, as_published: pl.DataFrame) -> None:
    """Adds the table `layouts`: one row per run, layer and kind of raw weights at the last step that both readings have, with
    the silhouette and labels' agreement of the true layout and of the published one, which takes thirds of a fused weight for
    Q, K and V although each head's stand together. What differs comes from the reading, not from the model."""
    key = ["run", "size", "step", "layer", "kind"]
    readings = [
        main_series(table).filter(pl.col("feature") == "raw").select(*key, "labels", "silhouette")
        for table in (true, as_published)
    ]
    both = readings[0].join(readings[1], on=key, suffix="_published_layout")
    last = both.filter(pl.col("step") == pl.col("step").max().over("run")).sort("run", "layer", "kind")
    pairs = zip(last["labels"], last["labels_published_layout"], strict=True)
    agreement = [float(adjusted_rand(np.array([one]), np.array([other]))[0]) for one, other in pairs]
    result.tables["layouts"] = last.with_columns(ari=pl.Series(agreement, dtype=pl.Float64)).drop(
        "labels", "labels_published_layout"
    )
    if len(last):
        by_head, misread = ((last[name] > STRONG).sum() for name in ("silhouette", "silhouette_published_layout"))
        result.values["findings"].append(
            f"Read as study 1 read a fused weight, {misread} of {len(last)} layers and kinds have a silhouette above {STRONG}; "
            f"read by head, {by_head} have. The labels of the two readings agree by an adjusted Rand index of "
            f"{np.mean(agreement):.2f} on average, where 0 is chance."
        )

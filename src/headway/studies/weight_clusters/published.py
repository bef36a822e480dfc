"""What study 1 would have said, beside what the controls say."""

from __future__ import annotations

import polars as pl

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

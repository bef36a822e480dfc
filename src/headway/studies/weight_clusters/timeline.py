"""Every partition at every step, with its nulls and with p corrected for multiple tests."""

from __future__ import annotations

import numpy as np
import polars as pl

from headway.stats.corrections import LEVEL, benjamini_hochberg, by_family, holm, over
from headway.studies.weight_clusters.followed import followed

SILHOUETTE_NULLS = ("directions", "initial", "permutation")  # whose bands are of the silhouette
NULLS = (*SILHOUETTE_NULLS, "covariance")  # the last one's band is of the share between clusters
SERIES = ("suite", "run", "model", "size", "seed", "layer", "kind", "feature", "clustering", "k")
MAIN = {"clustering": "kmeans", "k": 2}  # what the published study looked at

_METRICS = ("silhouette", "centre_distance", "within_variance", "separation_ratio", "between_share", "wasserstein")
_BANDS = tuple(f"{null}_{name}" for null in NULLS for name in ("p", "low", "median", "high"))
_TESTS = (
    "published_ks",
    "published_ks_p",
    "published_t",
    "published_t_p",
    "cohen_d",
    "heads_ks_p",
    "heads_t_p",
    "heads_d",
)
_TOGETHER = ("previous_step", "mean_change", "largest_change", "n_distinct", "group_k", "group_labels",
             "group_silhouette", "group_p", "group_draws")  # fmt: skip
# Corrected over all layers, kinds, steps and runs, within one feature, clustering and k.
_CORRECTED = {
    "p": "q",
    "published_ks_p": "q_published_ks",
    "published_t_p": "q_published_t",
    "heads_ks_p": "q_heads_ks",
    "heads_t_p": "q_heads_t",
    "heads_p": "q_heads",
}


def timeline(table: pl.DataFrame) -> pl.DataFrame:
    """One row per series and step: metrics, null bands, tests, and `groups`, whether the heads form groups after correction.

    Clusters as published: `p` is the largest of the nulls' p, and `beyond` says whether it holds after correction. `heads_p`
    is that of both tests over heads, at twice the smaller of their p (Bonferroni). `silhouette_start` is the silhouette of
    the run's own step 0. `q_...` are p corrected for the false discovery rate (Benjamini & Hochberg 1995) over all layers,
    kinds, steps and runs of one feature, clustering and k; `holm_p` for the chance of any error (Holm 1979).

    Groups: `p_groups` is the p of two groups of directions (see `headway.clusters.groups`) for k-means with two clusters. For
    any other clusters it is p, or 1 where a head is alone, since that is no group. `q_groups` is corrected by families of steps
    (see `by_family`), over all features for k-means with two clusters; `q_series` is that of the whole family: of
    there being groups at any step. `undecided` says that no draw reached what was observed at some step, yet so few were made
    that this cannot count; `needed_draws` is how many could. `silhouette_final` is that of the final groups (see `followed`).
    """
    together = table.filter(pl.col("k") == 1).select("run", "step", "layer", "kind", "feature", *_TOGETHER)
    main = (pl.col("clustering") == MAIN["clustering"]) & (pl.col("k") == MAIN["k"])
    alone = pl.col("lone_heads").list.len() > 0
    lines = (
        table.filter(pl.col("k") > 1)
        .select(*SERIES, "step", "n_layers", "labels", "sizes", *_METRICS, *_BANDS, *_TESTS, "stability", "gap",
                "gap_margin", "lone_heads")
        .join(together, on=["run", "step", "layer", "kind", "feature"], how="left")
        .with_columns(
            p=pl.max_horizontal(f"{null}_p" for null in NULLS),
            null_high=pl.max_horizontal(f"{null}_high" for null in SILHOUETTE_NULLS),
            null_median=pl.max_horizontal(f"{null}_median" for null in SILHOUETTE_NULLS),
            null_low=pl.min_horizontal(f"{null}_low" for null in SILHOUETTE_NULLS),
            heads_p=(2 * pl.min_horizontal("heads_ks_p", "heads_t_p")).clip(upper_bound=1),
            silhouette_start=pl.col("silhouette").filter(pl.col("step") == 0).first().over(SERIES),
        )
        .with_columns(
            excess=pl.col("silhouette") - pl.col("null_high"),
            p_groups=pl.when(main).then("group_p").when(alone & pl.col("p").is_not_null()).then(1.0).otherwise("p"),
        )
    )  # fmt: skip
    families = [_corrected(family) for family in lines.partition_by("feature", "clustering", "k", maintain_order=True)]
    lines = pl.concat(families) if families else _corrected(lines)
    searched = [_groups(family) for family in lines.partition_by("clustering", "k", maintain_order=True)]
    lines = (pl.concat(searched) if searched else _groups(lines)).with_columns(beyond=pl.col("q") <= LEVEL)
    final = followed(table, main_series(lines))
    return lines.join(final, on=["run", "layer", "kind", "feature", "step"], how="left").sort(*SERIES, "step")


def _corrected(family: pl.DataFrame) -> pl.DataFrame:
    columns = [over(family[p], benjamini_hochberg).alias(q) for p, q in _CORRECTED.items()]
    return family.with_columns(*columns, over(family["p"], holm).alias("holm_p"))


def _groups(lines: pl.DataFrame) -> pl.DataFrame:
    """Add the columns on groups, corrected for multiple tests."""
    p = lines["p_groups"].cast(pl.Float64).to_numpy()
    there = np.isfinite(p)
    of_series, of_step = np.full(len(p), np.nan), np.full(len(p), np.nan)
    if there.any():
        series = lines.select(pl.struct("run", "layer", "kind", "feature").rank("dense")).to_series().to_numpy()
        of_series[there], of_step[there] = by_family(p[there], series[there].astype(np.int64))
    # No draw reached what was observed; where nothing could be sought, p is 1 without any draw.
    at_floor = (pl.col("group_draws") > 0) & (pl.col("p_groups") * (pl.col("group_draws") + 1) < 1.5)
    place = ("run", "layer", "kind", "feature")
    return lines.with_columns(
        q_groups=pl.Series(of_step, dtype=pl.Float64).fill_nan(None),
        q_series=pl.Series(of_series, dtype=pl.Float64).fill_nan(None),
    ).with_columns(
        groups=pl.col("q_groups") <= LEVEL,
        undecided=(pl.col("q_series") > LEVEL) & at_floor.fill_null(False).any().over(place),
        needed_draws=((pl.col("group_draws").max().over(place) + 1) * pl.col("q_series") / LEVEL).ceil().cast(pl.Int64),
    )


def main_series(lines: pl.DataFrame) -> pl.DataFrame:
    """The rows of k-means with two clusters."""
    return lines.filter(pl.col("clustering") == MAIN["clustering"], pl.col("k") == MAIN["k"])


def layer_map(lines: pl.DataFrame) -> pl.DataFrame:
    """One row per layer and step: the silhouette of two clusters, and its distance from the highest null's 95% quantile."""
    return main_series(lines).select(
        "run", "size", "seed", "step", "layer", "kind", "feature", "silhouette", "null_high", "excess", "p", "q", "beyond",
        "groups", "undecided", pl.col("lone_heads").list.len().alias("n_lone_heads"),
    )  # fmt: skip

"""Every partition at every step, with its nulls, corrected for how many were looked at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

LEVEL = 0.05
SILHOUETTE_NULLS = ("directions", "initial", "permutation")  # whose bands are of the silhouette
NULLS = (*SILHOUETTE_NULLS, "covariance")  # the last one's band is of the share between clusters
SERIES = ("suite", "run", "model", "size", "seed", "layer", "kind", "feature", "clustering", "k")
MAIN = {"clustering": "kmeans", "k": 2}  # what study 1 looked at

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
_CHANGES = ("previous_step", "mean_change", "largest_change", "gap_k")
# Corrected over all layers, kinds, steps and runs, within one feature, clustering and k.
_CORRECTED = {
    "p": "q",
    "p_groups": "q_groups",
    "published_ks_p": "q_published_ks",
    "published_t_p": "q_published_t",
    "heads_ks_p": "q_heads_ks",
    "heads_t_p": "q_heads_t",
    "heads_p": "q_heads",
}


def timeline(table: pl.DataFrame) -> pl.DataFrame:
    """One row per series and step: metrics, null bands, tests, `beyond`, whether the clusters are beyond every null after
    correction, and `groups`, whether there are groups of several heads that are.

    `p` is the largest of the nulls' p: to claim clusters, all of them must be beaten. `p_groups` is p where no head is
    alone in its cluster, and else that of the heads that are left when lone ones are taken away, whose silhouette is
    `silhouette_groups` (0 where too few are left). `heads_p` is that of both tests over heads, at twice the smaller of
    their p (Bonferroni). `q_...` are p corrected for the false discovery rate (Benjamini & Hochberg 1995), `holm_p` for
    the chance of any error (Holm 1979). `silhouette_start` is the silhouette of the run's own step 0.
    """
    changes = table.filter(pl.col("k") == 1).select("run", "step", "layer", "kind", "feature", *_CHANGES)
    lines = (
        table.filter(pl.col("k") > 1)
        .select(*SERIES, "step", "n_layers", "labels", "sizes", *_METRICS, *_BANDS, *_TESTS, "stability", "gap",
                "gap_margin", "lone_heads", "outliers", "silhouette_rest", "rest_p")
        .join(changes, on=["run", "step", "layer", "kind", "feature"], how="left")
        .with_columns(
            p=pl.max_horizontal(f"{null}_p" for null in NULLS),
            null_high=pl.max_horizontal(f"{null}_high" for null in SILHOUETTE_NULLS),
            null_median=pl.max_horizontal(f"{null}_median" for null in SILHOUETTE_NULLS),
            null_low=pl.min_horizontal(f"{null}_low" for null in SILHOUETTE_NULLS),
            heads_p=(2 * pl.min_horizontal("heads_ks_p", "heads_t_p")).clip(upper_bound=1),
            silhouette_groups=pl.coalesce("silhouette_rest", "silhouette").fill_nan(0),
            silhouette_start=pl.col("silhouette").filter(pl.col("step") == 0).first().over(SERIES),
        )
        .with_columns(
            excess=pl.col("silhouette") - pl.col("null_high"),
            p_groups=pl.when(pl.col("lone_heads").list.len() > 0).then("rest_p").otherwise("p"),
        )
    )  # fmt: skip
    families = [_corrected(family) for family in lines.partition_by("feature", "clustering", "k", maintain_order=True)]
    lines = pl.concat(families) if families else _corrected(lines)
    return lines.with_columns(beyond=pl.col("q") <= LEVEL, groups=pl.col("q_groups") <= LEVEL).sort(*SERIES, "step")


def _corrected(family: pl.DataFrame) -> pl.DataFrame:
    columns = [_over(family[p], benjamini_hochberg).alias(q) for p, q in _CORRECTED.items()]
    return family.with_columns(*columns, _over(family["p"], holm).alias("holm_p"))


def _over(values: pl.Series, correct: Callable[[np.ndarray], np.ndarray]) -> pl.Series:
    """The correction of those values that are there."""
    p = values.to_numpy().astype(float)
    corrected = np.full(len(p), np.nan)
    there = np.isfinite(p)
    if there.any():
        corrected[there] = correct(p[there])
    return pl.Series(corrected, dtype=pl.Float64).fill_nan(None)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Least false discovery rate at which each would be a discovery."""
    from scipy.stats import false_discovery_control

    return np.asarray(false_discovery_control(p), dtype=float)


def holm(p: np.ndarray) -> np.ndarray:
    """Least chance of any error at which each would be rejected."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    corrected = np.empty_like(stepped)
    corrected[order] = stepped
    return corrected


def main_series(lines: pl.DataFrame) -> pl.DataFrame:
    """The rows of k-means with two clusters."""
    return lines.filter(pl.col("clustering") == MAIN["clustering"], pl.col("k") == MAIN["k"])


def layer_map(lines: pl.DataFrame) -> pl.DataFrame:
    """Layer × step: the silhouette of two clusters, and how far it lies above the highest null's 95 % quantile."""
    return main_series(lines).select(
        "run", "size", "seed", "step", "layer", "kind", "feature", "silhouette", "null_high", "excess", "p", "q", "beyond",
        "groups", pl.col("lone_heads").list.len().alias("n_lone_heads"),
    )  # fmt: skip

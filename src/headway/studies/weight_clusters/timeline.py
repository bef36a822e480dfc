"""Every partition at every step, with its nulls, corrected for how many were looked at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

LEVEL = 0.05
NULLS = ("directions", "initial", "permutation")
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
_CORRECTED = ("p", "published_ks_p", "published_t_p", "heads_ks_p", "heads_t_p")


def timeline(table: pl.DataFrame) -> pl.DataFrame:
    """One row per series and step: metrics, null bands, tests, and `beyond`, whether the silhouette lies beyond every
    null after correction.

    `p` is the largest of the nulls' p: to claim clusters, all of them must be beaten. `q_...` are p corrected for the
    false discovery rate (Benjamini & Hochberg 1995), `holm_p` for the chance of any error (Holm 1979).
    """
    changes = table.filter(pl.col("k") == 1).select("run", "step", "layer", "kind", "feature", *_CHANGES)
    lines = (
        table.filter(pl.col("k") > 1)
        .select(*SERIES, "step", "n_layers", "labels", "sizes", *_METRICS, *_BANDS, *_TESTS, "stability", "gap",
                "gap_std_error", "lone_heads", "silhouette_rest")
        .join(changes, on=["run", "step", "layer", "kind", "feature"], how="left")
        .with_columns(
            p=pl.max_horizontal(f"{null}_p" for null in NULLS),
            null_high=pl.max_horizontal(f"{null}_high" for null in NULLS),
            null_median=pl.max_horizontal(f"{null}_median" for null in NULLS),
        )
        .with_columns(excess=pl.col("silhouette") - pl.col("null_high"))
    )  # fmt: skip
    families = [_corrected(family) for family in lines.partition_by("feature", "clustering", "k", maintain_order=True)]
    lines = pl.concat(families) if families else _corrected(lines)
    return lines.with_columns(beyond=pl.col("q") <= LEVEL).sort(*SERIES, "step")


def _corrected(family: pl.DataFrame) -> pl.DataFrame:
    columns = [_over(family[name], benjamini_hochberg).alias("q" if name == "p" else f"q_{name[:-2]}")
               for name in _CORRECTED]  # fmt: skip
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
        pl.col("lone_heads").list.len().alias("n_lone_heads"),
    )  # fmt: skip

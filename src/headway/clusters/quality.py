"""Quality of a partition of heads, from squared distances and labels. The first axis is a batch of problems."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from headway.clusters.kmeans import Floats, Ints


def silhouette(squared_distances: Floats, labels: Ints) -> Floats:
    """(B,) mean silhouette of heads (Rousseeuw 1987).

    A head's silhouette is (b - a) / max(a, b). Here a is the mean distance to the others of its cluster, and b the smallest
    mean distance to another cluster. It is 0 for a head alone in its cluster. The mean is NaN unless there are at least 2
    clusters and fewer clusters than heads.
    """
    n_heads = labels.shape[1]
    member = (labels[:, None] == np.arange(int(labels.max()) + 1)[:, None]).astype(np.float64)  # (B, k, H)
    size = member @ np.ones(n_heads)  # (B, k)
    # (B, k, H) the sums, then the means, of distances to the heads of each cluster.
    to_each = member @ np.sqrt(squared_distances)
    own, own_size = labels[:, None], np.take_along_axis(size, labels, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        to_own = np.take_along_axis(to_each, own, axis=1)[:, 0] / (own_size - 1)
        to_each /= size[..., None]
        to_each[size == 0] = np.inf
        np.put_along_axis(to_each, own, np.inf, axis=1)
        to_other = to_each.min(axis=1)
        score = (to_other - to_own) / np.maximum(to_own, to_other)
    score = np.where(own_size == 1, 0, np.nan_to_num(score))
    clusters = (size > 0).sum(axis=1)
    return np.where((clusters >= 2) & (clusters < n_heads), score.mean(axis=1), np.nan)


class Spread(NamedTuple):
    """Distances of centres and variances, as in "Pythia clustering dynamics".

    Attributes:
        centre_distance: largest distance between two centres.
        within_variance: variance within a cluster, averaged over columns and then over clusters.
        separation_ratio: centre_distance / within_variance, as published. It depends on the unit of the weights.
        between_share: share of the total sum of squares that is between clusters, from 0 to 1.
    """

    centre_distance: float
    within_variance: float
    separation_ratio: float
    between_share: float


def spread(squared_distances: Floats, labels: Ints, n_columns: int) -> Spread:
    """Spread of one partition with labels (H,), from (H, H) distances of points with `n_columns` columns."""
    member = (labels[:, None] == np.arange(labels.max() + 1)).astype(np.float64)
    size = member.sum(axis=0)
    between = member.T @ squared_distances @ member / np.outer(size, size)  # mean squared distances of clusters
    variance = np.diag(between) / 2
    centres = between - variance[:, None] - variance[None, :]
    total = squared_distances.mean() / 2
    within_variance = float(variance.mean()) / n_columns
    centre_distance = float(np.sqrt(max(centres.max(), 0.0)))
    return Spread(
        centre_distance=centre_distance,
        within_variance=within_variance,
        separation_ratio=centre_distance / within_variance if within_variance > 0 else np.nan,
        between_share=float(1 - size @ variance / len(labels) / total) if total > 0 else np.nan,
    )


def dispersion(squared_distances: Floats, labels: Ints) -> Floats:
    """(B,) sum of squares within clusters, which is the inertia of k-means."""
    member = (labels[..., None] == np.arange(labels.max() + 1)).astype(np.float64)
    size = np.maximum(member.sum(axis=1), 1)
    within = np.einsum("bhk,bhk->bk", squared_distances @ member, member)
    return (within / (2 * size)).sum(axis=1)


def between_share(squared_distances: Floats, labels: Ints) -> Floats:
    """(B,) share of the total sum of squares that is between clusters; NaN if all heads are equal."""
    total = squared_distances.mean(axis=(1, 2)) * labels.shape[1] / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, 1 - dispersion(squared_distances, labels) / total, np.nan)


def adjusted_rand(labels: Ints, other: Ints) -> Floats:
    """(B,) agreement of two partitions (B, H): 1 for equal ones, 0 on average by chance (Hubert & Arabie 1985)."""
    a = labels[..., None] == np.arange(labels.max() + 1)
    b = other[..., None] == np.arange(other.max() + 1)
    table = np.einsum("bhi,bhj->bij", a.astype(np.float64), b.astype(np.float64))
    both = _pairs(table).sum(axis=(1, 2))
    in_a, in_b = _pairs(table.sum(axis=2)).sum(axis=1), _pairs(table.sum(axis=1)).sum(axis=1)
    expected = in_a * in_b / _pairs(labels.shape[1])
    highest = (in_a + in_b) / 2
    same = highest == expected  # both have one cluster, or all heads are alone in both
    return np.where(same, 1.0, (both - expected) / np.where(same, 1, highest - expected))


def _pairs(n: Any) -> Any:
    return n * (n - 1) / 2


class Gap(NamedTuple):
    """`value`, `std_error` and `margin` for k = 1, 2, ... along the last axis."""

    value: Floats
    std_error: Floats
    margin: Floats


def gap(observed: Floats, null: Floats) -> Gap:
    """Gap statistic: log dispersion of heads without clusters minus observed log dispersion.

    Source: Tibshirani, Walther & Hastie 2001. It is infinite if k clusters leave no dispersion. `margin` is the 95% quantile
    of the gaps of single null draws.

    Args:
        observed: (K,) dispersion for k = 1..K.
        null: (..., draws, K) dispersion of null draws.
    """
    with np.errstate(divide="ignore"):
        logs = np.log(null)
        value = logs.mean(axis=-2) - np.log(observed)
    std_error = logs.std(axis=-2) * np.sqrt(1 + 1 / null.shape[-2])
    margin = logs.mean(axis=-2) - np.quantile(logs, 0.05, axis=-2)
    return Gap(value, std_error, margin)

"""k-means on squared distances, for many problems at once.

The squared distance of head i to the centre of cluster C needs no coordinates:

    |x_i - m_C|² = 1/n_C · sum_{j in C} D_ij  -  1/(2 n_C²) · sum_{j, l in C} D_jl

So H heads of 49,152 weights each are clustered from their H × H distances, together with a thousand null draws. The
algorithm is scikit-learn's (greedy k-means++, Lloyd, best of n starts; Arthur & Vassilvitskii 2007). It uses the random
numbers that scikit-learn would draw from the same seed, which do not depend on the data. Labels and inertia therefore
equal those of `KMeans(k, n_init=10, random_state=42)` in full dimension, up to rounding. There is one difference:
scikit-learn also stops if the centres move by less than 1e-4 of the weights' variance. A head that changes its cluster
moves them by far more, in any space with more dimensions than heads.

Legend: B problems, S starts, H heads, k clusters, L candidates of a greedy step.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STARTS = 10
SEED = 42
_MOST_ITERATIONS = 300
_ELEMENTS_AT_ONCE = 400_000  # B · S · H · k in one chunk, which fits into a processor's cache


class KMeans(NamedTuple):
    """`labels` (B, H) from 0 to k - 1; `inertia` (B,) is the sum of squared distances of heads to their centres."""

    labels: Ints
    inertia: Floats


def kmeans(squared_distances: Floats, k: int, *, starts: int = STARTS, seed: int = SEED) -> KMeans:
    """Return the best of `starts` runs of k-means for each problem.

    Args:
        squared_distances: (B, H, H) between the heads of each problem.
        k: number of clusters, 1 to H.

    Raises:
        ValueError: there are fewer heads than clusters.
    """
    n_problems, n_heads, _ = squared_distances.shape
    if not 1 <= k <= n_heads:
        raise ValueError(f"{n_heads} heads cannot form {k} clusters")
    if k == 1:
        return KMeans(
            np.zeros((n_problems, n_heads), dtype=np.int64), squared_distances.sum(axis=(1, 2)) / (2 * n_heads)
        )
    draws = _draws(n_heads, k, starts, seed)
    chunk = max(1, _ELEMENTS_AT_ONCE // (starts * n_heads * k))
    parts = [_best(squared_distances[i : i + chunk], k, draws) for i in range(0, n_problems, chunk)]
    return KMeans(np.concatenate([part.labels for part in parts]), np.concatenate([part.inertia for part in parts]))


class _Draws(NamedTuple):
    first: Ints  # (S,) the first centre
    uniform: Floats  # (S, k - 1, L) for the choice of the others


@lru_cache(maxsize=64)
def _draws(n_heads: int, k: int, starts: int, seed: int) -> _Draws:
    """Random numbers in the order in which scikit-learn's KMeans draws them."""
    random = np.random.RandomState(seed)  # the generator that scikit-learn uses
    even = np.full(n_heads, 1 / n_heads)
    candidates = 2 + int(np.log(k))
    first, uniform = [], []
    for _ in range(starts):
        first.append(random.choice(n_heads, p=even))
        uniform.append([random.uniform(size=candidates) for _ in range(k - 1)])
    return _Draws(np.array(first), np.array(uniform).reshape(starts, k - 1, candidates))


def _best(d: Floats, k: int, draws: _Draws) -> KMeans:
    labels_bsh, inertia_bs = _lloyd(d, _nearest_seed(d, draws), k)
    least = inertia_bs.min(axis=1, keepdims=True)
    # Starts that end in the same partition differ only by rounding. The first of them numbers the clusters.
    best = np.argmax(inertia_bs <= least + 1e-10 * np.abs(least), axis=1)
    problem = np.arange(len(d))
    return KMeans(labels_bsh[problem, best], inertia_bs[problem, best])


def _nearest_seed(d: Floats, draws: _Draws) -> Ints:
    """Choose seeds by greedy k-means++, and return each head's nearest seed, (B, S, H).

    Candidates are drawn with probability proportional to the squared distance to the existing seeds. The best of L
    candidates becomes the next seed. Heads are the first axis here and problems the last, because NumPy is slow along short
    last axes.
    """
    n_problems, n_heads, _ = d.shape
    d_hhb = np.ascontiguousarray(d.transpose(2, 1, 0))
    rows = d_hhb.reshape(n_heads, n_heads * n_problems)
    to_seeds = [d_hhb[:, draws.first]]
    closest_hsb = to_seeds[0]
    for uniform_sl in draws.uniform.transpose(1, 0, 2):
        aimed_slb = uniform_sl[:, :, None] * _over_heads(closest_hsb)[:, None]
        candidate_slb = np.zeros(aimed_slb.shape, dtype=np.int64)
        for height_sb in closest_hsb.cumsum(axis=0)[:-1]:  # rounding must not lead beyond the last head
            candidate_slb += height_sb[:, None] < aimed_slb
        column_slb = candidate_slb * n_problems + np.arange(n_problems)  # of `rows`
        left_slb = _over_heads(np.minimum(closest_hsb[:, :, None], rows.take(column_slb, axis=1)))
        best_sb = _nearest(left_slb.swapaxes(0, 1)).cluster
        best_column_sb = np.take_along_axis(column_slb, best_sb[:, None], axis=1)[:, 0]
        to_seeds.append(rows.take(best_column_sb, axis=1))
        closest_hsb = np.minimum(closest_hsb, to_seeds[-1])
    return np.ascontiguousarray(_nearest(np.stack(to_seeds)).cluster.transpose(2, 1, 0))


def _over_heads(values: Floats) -> Floats:
    """Sum over the first axis. Ties between candidates are decided by rounding, so its order is that of a sum of a last axis.

    NumPy sums up to seven numbers of a last axis one after the other, and more of them in eight partial sums.
    """
    if len(values) < 8:
        total: Floats = values.sum(axis=0)
        return total
    return np.ascontiguousarray(np.moveaxis(values, 0, -1)).sum(axis=-1)


class _Nearest(NamedTuple):
    cluster: Ints
    distance: Floats


def _nearest(distances: Floats) -> _Nearest:
    """Minimum along the first axis and its index, the first of equals. NumPy's argmin is slow along short axes."""
    least = distances[0].copy()
    nearest = np.zeros(least.shape, dtype=np.int64)
    for cluster, distance in enumerate(distances[1:], 1):
        np.putmask(nearest, distance < least, cluster)
        np.minimum(least, distance, out=least)
    return _Nearest(nearest, least)


class _Ends(NamedTuple):
    labels: Ints  # (B, S, H)
    inertia: Floats  # (B, S)


def _lloyd(d: Floats, labels: Ints, k: int) -> _Ends:
    """Move every head to its nearest centre until none moves. Then the distances to the own centres sum to the inertia."""
    inertia = np.empty(labels.shape[:2])
    moving = np.arange(len(d))
    for _ in range(_MOST_ITERATIONS):
        before, distances = labels[moving], d[moving]
        filled = before.copy()
        _refill_empty_clusters(distances, filled, k)
        now = _nearest(_to_centres(distances, filled, k).swapaxes(0, 1))
        # Compare with the labels before the refill. If heads are copies of each other, a refilled cluster loses its head
        # again at once, and a comparison with the refilled labels would run until the last iteration.
        changed = (now.cluster != before).any(axis=(1, 2))
        labels[moving], inertia[moving] = now.cluster, now.distance.sum(axis=2)
        moving = moving[changed]
        if not len(moving):
            break
    return _Ends(labels, inertia)


def _to_centres(d: Floats, labels: Ints, k: int) -> Floats:
    """(B, k, S, H) squared distance of each head to each centre; infinite for empty clusters."""
    n_problems, n_starts, n_heads = labels.shape
    member = _members(labels, k).astype(np.float64)
    size = member.sum(axis=3, keepdims=True)
    sums = (member.reshape(n_problems, k * n_starts, n_heads) @ d).reshape(member.shape)  # sum_{j in C} D_ij
    within = (sums * member).sum(axis=3, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        distances = sums / size - within / (2 * size**2)
    distances[np.broadcast_to(size == 0, distances.shape)] = np.inf
    return distances


def _members(labels: Ints, k: int) -> NDArray[np.bool_]:
    """(B, k, S, H) whether each head is in each cluster."""
    return labels[:, None] == np.arange(k)[:, None, None]


def _refill_empty_clusters(d: Floats, labels: Ints, k: int) -> None:
    """Give an empty cluster the head that is farthest from its centre, as scikit-learn does."""
    empty = ~_members(labels, k).any(axis=3)  # (B, k, S)
    for problem, cluster, start in np.argwhere(empty):
        own = labels[problem, start]
        to_own = _to_centres(d[problem][None], own[None, None], k)[0, own, 0, np.arange(len(own))]
        own[to_own.argmax()] = cluster

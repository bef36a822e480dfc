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
Labels = NDArray[np.int16]

STARTS = 10
SEED = 42
_MOST_ITERATIONS = 300
_LABEL = np.int16  # of heads and clusters inside, where a quarter of the memory is faster
_ELEMENTS_AT_ONCE = 200_000  # B · S · H · k in one chunk, which fits into a processor's cache


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
    return KMeans(labels_bsh[problem, best].astype(np.int64), inertia_bs[problem, best])


def _nearest_seed(d: Floats, draws: _Draws) -> Labels:
    """Choose seeds by greedy k-means++, and return each head's nearest seed, (B, S, H).

    Candidates are drawn with probability proportional to the squared distance to the existing seeds. The best of L
    candidates becomes the next seed. Heads are the first axis here and problems the last, because NumPy is slow along short
    last axes.
    """
    n_problems, n_heads, _ = d.shape
    d_hhb = np.ascontiguousarray(d.transpose(2, 1, 0))
    rows = d_hhb.reshape(n_heads, n_heads * n_problems)
    closest_hsb = d_hhb[:, draws.first]
    nearest_hsb = np.zeros(closest_hsb.shape, dtype=_LABEL)
    for seed, uniform_sl in enumerate(draws.uniform.transpose(1, 0, 2), 1):
        aimed_slb = uniform_sl[:, :, None] * _over_heads(closest_hsb)[:, None]
        column_slb = _head_at(aimed_slb, closest_hsb) * n_problems + np.arange(n_problems)  # of `rows`
        left_hslb = rows.take(column_slb, axis=1)
        np.minimum(closest_hsb[:, :, None], left_hslb, out=left_hslb)
        best_sb = _nearest(_over_heads(left_hslb).swapaxes(0, 1)).cluster
        best_column_sb = np.take_along_axis(column_slb, best_sb[:, None].astype(np.int64), axis=1)[:, 0]
        to_seed_hsb = rows.take(best_column_sb, axis=1)
        np.putmask(nearest_hsb, to_seed_hsb < closest_hsb, seed)
        np.minimum(closest_hsb, to_seed_hsb, out=closest_hsb)
    return np.ascontiguousarray(nearest_hsb.transpose(2, 1, 0))


def _head_at(aimed_slb: Floats, closest_hsb: Floats) -> Ints:
    """(S, L, B) the head at which the cumulative distance reaches the aimed one; rounding never leads beyond the last."""
    before = np.zeros(aimed_slb.shape, dtype=_LABEL)
    reached_sb = np.zeros(closest_hsb.shape[1:])
    for closest_sb in closest_hsb[:-1]:
        reached_sb += closest_sb
        before += reached_sb[:, None] < aimed_slb
    return before.astype(np.int64)


def _over_heads(values: Floats) -> Floats:
    """Sum over the first axis. Ties between candidates are decided by rounding, so its order is that of a sum of a last axis.

    NumPy sums up to seven numbers of a last axis one after the other, and up to 128 of them in eight partial sums.
    """
    in_eights = len(values) - len(values) % 8
    if not in_eights:
        return np.add.reduce(values)
    if len(values) > 128:
        return np.add.reduce(np.ascontiguousarray(np.moveaxis(values, 0, -1)), axis=-1)
    parts = values[:8] if in_eights == 8 else np.add.reduce(values[:in_eights].reshape(-1, 8, *values.shape[1:]))
    while len(parts) > 1:
        parts = parts[::2] + parts[1::2]
    total = parts[0]
    for rest in values[in_eights:]:
        total += rest
    return total


class _Nearest(NamedTuple):
    cluster: Labels
    distance: Floats


def _nearest(distances: Floats) -> _Nearest:
    """Minimum along the first axis and its index, the first of equals. NumPy's argmin is slow along short axes."""
    least = distances[0].copy()
    nearest = np.zeros(least.shape, dtype=_LABEL)
    for cluster, distance in enumerate(distances[1:], 1):
        np.putmask(nearest, distance < least, cluster)
        np.minimum(least, distance, out=least)
    return _Nearest(nearest, least)


class _Ends(NamedTuple):
    labels: Labels  # (B, S, H)
    inertia: Floats  # (B, S)


def _lloyd(d: Floats, labels: Labels, k: int) -> _Ends:
    """Move every head to its nearest centre until none moves. Then the distances to the own centres sum to the inertia."""
    inertia = np.empty(labels.shape[:2])
    moving = np.arange(len(d))
    for _ in range(_MOST_ITERATIONS):
        before, distances = labels[moving], d[moving]
        to_centres = _to_centres(distances, before, k)
        if np.isinf(to_centres[..., 0]).any():
            to_centres = _to_centres(distances, _filled(distances, before, to_centres), k)
        now = _nearest(to_centres.swapaxes(0, 1))
        # Compare with the labels before empty clusters are filled. If heads are copies of each other, a filled cluster loses
        # its head again at once, and a comparison with the filled labels would run until the last iteration.
        changed = (now.cluster != before).any(axis=(1, 2))
        labels[moving], inertia[moving] = now.cluster, now.distance.sum(axis=2)
        moving = moving[changed]
        if not len(moving):
            break
    return _Ends(labels, inertia)


def _to_centres(d: Floats, labels: Labels, k: int) -> Floats:
    """(B, k, S, H) squared distance of each head to each centre; infinite for empty clusters."""
    n_problems, n_starts, n_heads = labels.shape
    member = (labels[:, None] == np.arange(k, dtype=_LABEL)[:, None, None]).astype(np.float64)
    size = (member.reshape(-1, n_heads) @ np.ones(n_heads)).reshape(*member.shape[:-1], 1)
    distances = (member.reshape(n_problems, k * n_starts, n_heads) @ d).reshape(member.shape)  # sum_{j in C} D_ij
    within = np.einsum("bksh,bksh->bks", distances, member)[..., None]
    at_least_one = np.maximum(size, 1)
    distances /= at_least_one
    distances -= np.where(size > 0, within / (2 * at_least_one**2), -np.inf)
    return distances


def _filled(d: Floats, labels: Labels, to_centres: Floats) -> Labels:
    """Labels in which an empty cluster has the head that is farthest from its centre, as in scikit-learn."""
    filled, k = labels.copy(), to_centres.shape[1]
    for problem, cluster, start in np.argwhere(np.isinf(to_centres[..., 0])):
        own = filled[problem, start]
        to_own = _to_centres(d[problem][None], own[None, None], k)[0, own, 0, np.arange(len(own))]
        own[to_own.argmax()] = cluster
    return filled

"""Test whether two clusters of heads differ in their weights, over pooled weights (as published) and over heads.

The published tests treat every weight as an independent sample. With 49,152 weights per head, tiny differences are then
significant. The sampled unit is the head, so the test over heads permutes the labels of heads. Both tests are optimistic
for clusters that were found in the same weights, because the search looked for a difference. The nulls of `reality` repeat
the search.
"""

from __future__ import annotations

from itertools import combinations, pairwise
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headway.clusters.kmeans import Floats, Ints

_MOST_ARRANGEMENTS = 2000
_GRID = 256  # number of quantiles at which the heads' distributions are compared
_STRIDE = 64  # points between two evaluated points, which bound the difference of distribution functions in between
# `kstwo.sf(d, n)` is slow in this range. Fewer terms are enough there.
_SMIRNOV_FROM = 2.2  # n d²
_FEWEST_DRAWS, _MOST_DRAWS = 10_000, 1_000_000  # SciPy is fast below, and uses an approximation above
_TERMS = 500


class Between(NamedTuple):
    """Comparison of two clusters, cluster 0 minus cluster 1.

    Attributes:
        wasserstein: distance between the distributions of all their weights (W1), in the unit of the weights.
        published_ks, published_ks_p, published_t, published_t_p: two-sample Kolmogorov-Smirnov (asymptotic) and
            Student's t test over pooled weights.
        cohen_d: difference of the clusters' mean weights over the pooled standard deviation of weights.
        heads_ks_p: permutation p-value of the largest difference between the clusters' mean distribution functions.
        heads_t_p: permutation p-value of the difference between the clusters' means of head means.
        heads_d: the same difference over the pooled standard deviation of head means (Cohen's d over heads).
    """

    wasserstein: float
    published_ks: float
    published_ks_p: float
    published_t: float
    published_t_p: float
    cohen_d: float
    heads_ks_p: float
    heads_t_p: float
    heads_d: float


def wasserstein(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """W1 distance between all weights of two groups of heads, (m, D) and (n, D): the integral of |F⁻¹ - G⁻¹|."""
    columns = first.shape[1]
    return _wasserstein(np.sort(first, axis=None), np.sort(second, axis=None), columns)


def _wasserstein(first: NDArray[np.floating], second: NDArray[np.floating], columns: int) -> float:
    """W1 distance of two sorted samples of m D and n D weights.

    Both quantile functions are step functions. Within each interval of width 1/D their edges are at multiples of 1/m and
    1/n, so the same few segments repeat D times.
    """
    m, n = len(first) // columns, len(second) // columns
    edges = np.unique([i * n for i in range(m + 1)] + [j * m for j in range(n + 1)])  # in units of 1 / (m n D)
    a, b = (np.ascontiguousarray(sample.reshape(columns, -1).T) for sample in (first, second))
    total = 0.0
    for start, stop in pairwise(edges):
        difference = np.abs(a[start // n] - b[start // m])
        total += float(difference.sum(dtype=np.float64)) * int(stop - start)
    return total / (m * n * columns)


class KolmogorovSmirnov(NamedTuple):
    statistic: float
    p: float


def kolmogorov_smirnov(first: NDArray[np.floating], second: NDArray[np.floating]) -> KolmogorovSmirnov:
    """Two-sample test on sorted samples: the largest difference of distribution functions and its asymptotic p-value.

    It equals `scipy.stats.ks_2samp` for large samples.
    """
    small, large = sorted((first, second), key=len)
    statistic = _largest_difference(small, large)
    effective = len(small) * len(large) / (len(small) + len(large))
    return KolmogorovSmirnov(statistic, kolmogorov_p(statistic, round(effective)))


def kolmogorov_p(d: float, n: int) -> float:
    """P(D_n >= d) for the distribution function of n draws: `scipy.stats.kstwo.sf` up to a relative error of 1e-11.

    In the tail SciPy sums as many of Smirnov's terms as there are draws, which takes up to a second for pooled weights:

        2 P(D+_n >= d) = 2 sum_j  d / (d + j/n) · Binomial(j; n, d + j/n),  j from 0 to n (1 - d)

    The terms follow a smooth curve that vanishes at both ends, so a few hundred evenly spaced terms give the same sum.
    """
    from scipy.stats import binom, kstwo

    if d * n * d < _SMIRNOV_FROM or not _FEWEST_DRAWS <= n <= _MOST_DRAWS:
        return float(kstwo.sf(d, n))
    stride = n // _TERMS
    j = np.arange(0, int(n * (1 - d)), stride)
    aim = d + j / n
    return float(2 * stride * (d / aim * binom.pmf(j, n, aim)).sum())


def _largest_difference(small: NDArray[np.floating], large: NDArray[np.floating]) -> float:
    """max |F - G| for the distribution functions of two sorted samples.

    The maximum is next to a point of the smaller sample, because between two such points only the other function rises.
    Blocks of `_STRIDE` points are skipped if the values at their ends rule out a larger difference than already found.
    """
    n, m = len(small), len(large)
    ends = np.append(np.arange(0, n - 1, _STRIDE), n - 1)
    below, up_to = (np.searchsorted(large, small[ends], side) / m for side in ("left", "right"))
    attained = np.abs(np.searchsorted(small, small[ends], "right") / n - up_to).max()
    bounds = np.maximum((ends[1:] + 1) / n - below[:-1], up_to[1:] - ends[:-1] / n)
    cells = np.flatnonzero(bounds > attained)
    points = (ends[cells, None] + np.arange(_STRIDE + 1)).clip(max=n - 1).ravel()
    # Among ties in the small sample, only the last is evaluated at the point, and only the first before it.
    last = points[(points == n - 1) | (small[(points + 1).clip(max=n - 1)] != small[points])]
    first = points[(points == 0) | (small[points - 1] != small[points])]
    at = np.searchsorted(large, small[last], "right") / m - (last + 1) / n
    before = np.searchsorted(large, small[first], "left") / m - first / n
    return float(max(attained, *(np.abs(found).max(initial=0) for found in (at, before))))


class HeadValues(NamedTuple):
    """What a comparison needs of each head, whatever its cluster.

    Attributes:
        mean, variance: (H,) of each head's weights.
        distribution: (H, grid) share of each head's weights up to each pooled quantile.
    """

    mean: Floats
    variance: Floats
    distribution: Floats


def values_of(weights: NDArray[np.floating]) -> HeadValues:
    """The values of heads with weights (H, D)."""
    in_double = (head.astype(np.float64) for head in weights)  # one head at a time, which fits into a processor's cache
    mean, variance = np.array([(head.mean(), head.var()) for head in in_double]).T
    return HeadValues(mean, variance, _distribution_functions(weights))


def between(
    weights: NDArray[np.floating], labels: Ints, random: np.random.Generator, heads: HeadValues | None = None
) -> Between:
    """Compare the two clusters of `labels` (H,) by their heads' weights (H, D), whose `values_of` may be given."""
    from scipy import stats

    mean, variance, distribution = heads or values_of(weights)
    first, second = (weights[labels == label].ravel() for label in (0, 1))
    first.sort()
    second.sort()
    pooled = [_pooled(mean[labels == label], variance[labels == label], weights.shape[1]) for label in (0, 1)]
    t = stats.ttest_ind_from_stats(*pooled[0], *pooled[1])
    ks = kolmogorov_smirnov(first, second)
    arrangements = arrangements_of(labels, random)
    return Between(
        wasserstein=_wasserstein(first, second, weights.shape[1]),
        published_ks=ks.statistic,
        published_ks_p=ks.p,
        published_t=float(t.statistic),
        published_t_p=float(t.pvalue),
        cohen_d=_cohen_d(*pooled[0], *pooled[1]),
        heads_ks_p=_permutation_p(distribution, arrangements),
        heads_t_p=_permutation_p(mean[:, None], arrangements),
        heads_d=_heads_d(mean, labels),
    )


def _pooled(mean: Floats, variance: Floats, n_weights: int) -> tuple[float, float, int]:
    """Mean, standard deviation and number of all weights of several heads."""
    n = len(mean) * n_weights
    overall = mean.mean()
    sum_of_squares = n_weights * float((variance + (mean - overall) ** 2).sum())
    return float(overall), float(np.sqrt(sum_of_squares / (n - 1))), n


def _cohen_d(mean: float, sd: float, n: int, other_mean: float, other_sd: float, other_n: int) -> float:
    variance = ((n - 1) * sd**2 + (other_n - 1) * other_sd**2) / (n + other_n - 2)
    return (mean - other_mean) / np.sqrt(variance) if variance > 0 else np.nan


def _heads_d(mean: Floats, labels: Ints) -> float:
    first, second = mean[labels == 0], mean[labels == 1]
    freedom = len(mean) - 2
    if freedom < 1:
        return np.nan
    return _cohen_d(first.mean(), _sd(first), len(first), second.mean(), _sd(second), len(second))


def _sd(values: Floats) -> float:
    """Standard deviation; 0 for a single value, which has weight 0 in the pooled variance."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _distribution_functions(weights: NDArray[np.floating]) -> Floats:
    """(H, grid) share of each head's weights up to each pooled quantile."""
    # Quantiles are pooled from a subsample of every head. The grid only has to cover the range of the weights.
    every = max(1, weights.shape[1] // 1024)
    in_order = np.sort(weights, axis=1)  # a copy of the weights, as `between` makes one later
    at = np.quantile(in_order[:, ::every], (np.arange(_GRID) + 0.5) / _GRID)
    return np.stack([np.searchsorted(head, at, side="right") for head in in_order]) / weights.shape[1]


def arrangements_of(labels: Ints, random: np.random.Generator, most: int = _MOST_ARRANGEMENTS) -> NDArray[np.bool_]:
    """(n, H) ways to give the label of cluster 0 to equally many heads; the observed one is first.

    These are all arrangements, or a random sample of `most` if there are more.
    """
    n_heads, size = len(labels), int((labels == 0).sum())
    observed = labels == 0
    if comb(n_heads, size) <= most:
        heads = np.array(list(combinations(range(n_heads), size)))
        ways = np.zeros((len(heads), n_heads), dtype=bool)
        np.put_along_axis(ways, heads, True, axis=1)
        return np.concatenate([observed[None], ways[(ways != observed).any(axis=1)]])
    ways = random.permuted(np.tile(observed, (most - 1, 1)), axis=1)
    return np.concatenate([observed[None], ways])


def _permutation_p(values: Floats, arrangements: NDArray[np.bool_]) -> float:
    """Permutation p-value of the largest difference, over columns, between the two groups' means of `values` (H, columns).

    It is the share of arrangements, the observed one included, with at least the observed difference (up to rounding).
    """
    # After centring, the sums of the two groups are opposite, so the difference of means is proportional to one sum.
    sums = arrangements.astype(np.float64) @ (values - values.mean(axis=0))
    difference = np.abs(sums, out=sums).max(axis=1)
    return float((difference >= difference[0] * (1 - 1e-12)).mean())

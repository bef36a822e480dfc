"""Onsets known only to lie in intervals, on model size, where sizes scatter about their line.

The log of an onset is normal: y = a + b x + u + e. All runs of a size share u, with standard deviation `size_sd`; e is a
run's own. Many runs of few sizes tell little of u, so the interval of b rests on the number of sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headway.stats.distributions import t_quantile
from headway.studies.development.censored import normal_regression

Array = NDArray[np.float64]

_N_SPREADS = (
    30  # values of size_sd that are tried beside 0; neighbours differ by a quarter, log-likelihoods by 0.05 at most
)
_N_SLOPES = 61
_REACH = 3.0  # the steepest slope tried: over all sizes it changes by so many times the range of the intervals


@dataclass(frozen=True)
class SizeLine:
    """A line over sizes.

    Attributes:
        slope: of maximum likelihood; NaN where a line passes through all intervals, so that many slopes fit equally well.
        lower, upper: its 95% profile interval; infinite where it does not end, NaN with fewer than three sizes.
        sd: standard deviation of a run about its size; 0 where the intervals do not tell it from 0.
        size_sd: standard deviation of sizes about the line.
        step_after: the number of sizes, from the smallest, before the best single step from one level to another.
        step_gain: log-likelihood of that step less that of the line; both have two levels or a level and a slope.
    """

    slope: float
    lower: float
    upper: float
    sd: float
    size_sd: float
    step_after: int
    step_gain: float


def size_line(x: Array, lower: Array, upper: Array) -> SizeLine | None:
    """The line over sizes; None where no interval has two ends, or there is one size.

    The interval holds the slopes whose profile log-likelihood is within S log(1 + t²/(S - 2)) / 2 of the largest, for S
    sizes and the 97.5% quantile t with S - 2 degrees of freedom. Where runs are many, sizes' means are known, and this is
    their t interval. The usual limit from the chi-squared distribution is for many sizes and misses too often for few.

    Args:
        x: (n,) log10 of the parameters; runs of equal x are one size.
        lower, upper: (n,) the onset lies in (lower, upper]; infinite where an end is open.
    """
    places, size = np.unique(x, return_inverse=True)
    n_sizes = len(places)
    if n_sizes < 2 or not np.isfinite(upper - lower).any():
        return None
    within = _sd_within(size, lower, upper)
    likelihood = _Likelihood(places - places.mean(), size, lower, upper, within or _least_sd(lower, upper))
    steepest = _REACH * likelihood.span / np.ptp(places)
    limit = np.nan
    if n_sizes > 2:
        limit = float(n_sizes * np.log1p(t_quantile(0.975, n_sizes - 2) ** 2 / (n_sizes - 2)) / 2)
    # a coarse look at all slopes, then a fine one at those that the interval may hold
    slopes = np.linspace(-steepest, steepest, _N_SLOPES)
    found = likelihood.of_lines(slopes).max(axis=0)
    near = np.flatnonzero(found >= found.max() - (limit if n_sizes > 2 else 2.0))
    first, last = max(near[0] - 1, 0), min(near[-1] + 1, len(slopes) - 1)
    slopes = np.linspace(slopes[first], slopes[last], 2 * _N_SLOPES)
    by_spread = likelihood.of_lines(slopes)
    found = by_spread.max(axis=0)
    best, best_spread = int(found.argmax()), int(by_spread.max(axis=1).argmax())
    closer = np.linspace(slopes[max(best - 1, 0)], slopes[min(best + 1, len(slopes) - 1)], 11)
    top = closer[likelihood.of_lines(closer).max(axis=0).argmax()]
    steps = [likelihood.of_step(after) for after in range(1, n_sizes)]
    return SizeLine(
        float(top) if _determined(x, lower, upper) else float("nan"),
        *(_ends(slopes, found, limit, steepest) if n_sizes > 2 else (float("nan"), float("nan"))),
        within,
        float(likelihood.spreads[best_spread]),
        int(np.argmax(steps)) + 1,
        float(max(steps) - found[best]),
    )


def _determined(x: Array, lower: Array, upper: Array) -> bool:
    """Whether no line passes through all intervals: many slopes would fit equally well."""
    _, sigma = normal_regression(np.stack([np.ones_like(x), x - x.mean()], axis=1), lower, upper, np.ones((1, len(x))))
    return bool(np.isfinite(sigma[0]))


def _sd_within(size: NDArray[np.intp], lower: Array, upper: Array) -> float:
    """Standard deviation of runs about their size's mean; 0 where the runs of each size share an interval.

    The maximum of the likelihood is too small by the means that it is taken about, and is corrected as in least squares.
    """
    means = (size[:, None] == np.arange(size.max() + 1)).astype(float)
    n, n_means = means.shape
    if n == n_means:
        return 0.0
    _, sigma = normal_regression(means, lower, upper, np.ones((1, n)))
    return float(np.nan_to_num(sigma[0])) * np.sqrt(n / (n - n_means))


def _least_sd(lower: Array, upper: Array) -> float:
    """A standard deviation that is small beside the intervals: a size's mean may then be anywhere in its own."""
    width = upper - lower
    return 0.1 * float(np.median(width[np.isfinite(width)]))


class _Likelihood:
    """Log-likelihoods of lines and steps over sizes.

    For each spread of sizes it holds a table of every size's log-likelihood by the place of its line: the integral over
    the size's mean is taken once, and lines of all slopes look their values up.
    """

    def __init__(self, x: Array, size: NDArray[np.intp], lower: Array, upper: Array, sd: float) -> None:
        self.x = x
        ends = np.concatenate([lower, upper])
        ends = ends[np.isfinite(ends)]
        low, high = float(ends.min()) - 4 * sd, float(ends.max()) + 4 * sd
        self.span = high - low
        fine = sd / np.sqrt(np.bincount(size).max()) / 2  # half of a mean's standard error, or finer than it
        fine = max(fine, self.span / 1500)
        means = np.arange(low, high + fine, fine)
        given = np.stack([_of_means(means, lower[size == s], upper[size == s], sd) for s in range(len(x))])
        self.spreads = np.append(0.0, np.geomspace(2 * fine, 2 * self.span, _N_SPREADS))
        self.tables: list[tuple[Array, Array]] = []  # places of the line (c,), log-likelihoods of sizes (S, c)
        for spread in self.spreads:
            total = np.hypot(spread, sd)
            pad = min((_REACH + 0.6) * self.span, 8 * total)
            places = np.arange(low - pad, high + pad, max(fine, 0.1 * spread))
            if spread:
                table = _smeared(given, means, places, float(spread))
            else:
                table = np.stack([np.interp(places, means, row) for row in given])
            self.tables.append((places, table))
        self.low, self.high = low, high

    def of_lines(self, slopes: Array) -> Array:
        """The largest log-likelihood over intercepts, by spread and slope: (spreads, slopes)."""
        found = np.empty((len(self.tables), len(slopes)))
        for i, (places, table) in enumerate(self.tables):
            inside = (places >= self.low - self.span / 2) & (places <= self.high + self.span / 2)
            at = places[inside]  # intercepts, at the mean of x
            total = np.zeros((len(slopes), len(at)))
            for x, row in zip(self.x, table, strict=True):
                total += np.interp(at + slopes[:, None] * x, places, row)
            found[i] = total.max(axis=1)
        return found

    def of_step(self, after: int) -> float:
        """The largest log-likelihood of one level for the first `after` sizes, and another for the rest."""
        return max(float(table[:after].sum(axis=0).max() + table[after:].sum(axis=0).max()) for _, table in self.tables)


_FLOOR = 1e-300


def _of_means(means: Array, lower: Array, upper: Array, sd: float) -> Array:
    """Log-likelihood of a size's runs by the size's mean: (m,)."""
    from scipy.special import ndtr

    z_lower, z_upper = (lower[:, None] - means) / sd, (upper[:, None] - means) / sd
    # P = Φ(z_upper) - Φ(z_lower), from the tail in which no digits cancel
    inside = np.where(z_lower > 0, ndtr(-z_lower) - ndtr(-z_upper), ndtr(z_upper) - ndtr(z_lower))
    return np.log(np.maximum(inside, _FLOOR)).sum(axis=0)


def _smeared(given: Array, means: Array, places: Array, spread: float) -> Array:
    """Log-likelihoods (S, c) with the sizes' means drawn about `places`: beyond the ends of `means` they stay as there."""
    from scipy.special import ndtr

    top = given.max(axis=1, keepdims=True)
    density = np.exp(-(((means[:, None] - places) / spread) ** 2) / 2) / (spread * np.sqrt(2 * np.pi))  # (m, c)
    step = means[1] - means[0]
    height = np.exp(given - top)
    total = height @ density * step
    # the sum takes half a step too much at each end, which belongs to the tails
    below, above = ndtr((means[0] - step / 2 - places) / spread), ndtr((places - means[-1] - step / 2) / spread)
    total += height[:, :1] * below + height[:, -1:] * above
    return np.log(np.maximum(total, _FLOOR)) + top


def _ends(slopes: Array, found: Array, limit: float, steepest: float) -> tuple[float, float]:
    """Where the profile crosses `limit` below its top; infinite where it does not within the slopes tried."""
    inside = np.flatnonzero(found >= found.max() - limit)
    first, last = inside[0], inside[-1]
    level = found.max() - limit
    low, high = -np.inf, np.inf
    if first > 0:
        low = float(np.interp(level, found[first - 1 : first + 1], slopes[first - 1 : first + 1]))
    if last < len(slopes) - 1:
        high = float(np.interp(-level, -found[last : last + 2], slopes[last : last + 2]))
    return low, high

"""From what runs agree in to a scale: 0 is what chance gives, 1 is perfect; with an interval over runs.

With A the observed number, C what chance gives, and P what perfect agreement gives, the value is (A - C) / (P - C).

Two kinds of numbers come in. A number of each run gives a mean over runs. A number of each pair of runs gives a mean over
pairs, a U-statistic, whose error over runs is that of the jackknife (Efron and Stein 1981, Ann. Stat. 9, 586-596).
The error that chance alone gives is added to it. Runs that all agree have no spread, although the next run may
differ: the lower end is also that of the same runs and one more, which has what chance gives (after Agresti and Coull 1998,
Am. Stat. 52, 119-126). `benchmarks/scorecard_coverage.py` simulates how often the intervals cover the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headway.stats.distributions import t_p, t_quantile

Floats = NDArray[np.float64]
MOST_UNITS = 1000  # beyond which a number of runs is not named
WIDTHS = (0.2, 0.1)  # half-widths of intervals for which the runs needed are told
_ROUNDING = 1e-9  # below which the room between chance and perfect is none


class Scaled(NamedTuple):
    """A number on the scale.

    Attributes:
        value: 0 for what chance gives, 1 for perfect.
        lower, upper: its 95% interval over units; None where there are too few.
        half_width: half of the interval's width before it was cut at the ends of the scale.
        observed, chance: the means that the value is made from.
        p: of a value as large by chance; None where it cannot be told.
        n_units: runs, or sizes.
        n_pairs: pairs of runs; 0 for a number of each run.
        wanted: units that an interval needs of each half-width in `WIDTHS`; None for more than `MOST_UNITS`, or unknown.
    """

    value: float
    lower: float | None
    upper: float | None
    half_width: float | None
    observed: float
    chance: float
    p: float | None
    n_units: int
    n_pairs: int
    wanted: tuple[int | None, ...]


class Pairs(NamedTuple):
    """What pairs of runs have in common: NaN where it is not defined.

    Attributes:
        groups: (runs,); the size of each run.
        observed: (runs, runs), at most 1.
        drawn: (draws, runs, runs); the same by chance.
        least: the least number that is possible.
    """

    groups: NDArray[np.int64]
    observed: Floats
    drawn: Floats
    least: float = 0.0


def of_runs(observed: Floats, chance: Floats, chance_error: float = 0.0, shared_error: float = 0.0) -> Scaled:
    """The mean over runs of a number of each run, from 0 to 1.

    Args:
        observed: (runs,).
        chance: (runs,); what chance gives for each of them.
        chance_error: the standard error that the mean of the scaled numbers has by chance alone, if that is known.
        shared_error: that of what all runs share, if they are not independent. Their scatter does not show it.
    """
    scaled = (observed - chance) / (1 - chance)
    n, value = len(scaled), float(scaled.mean())
    if n < 2:
        return Scaled(value, None, None, None, float(observed.mean()), float(chance.mean()), None, n, 0, (None, None))
    error = float(np.hypot(max(float(scaled.std(ddof=1)) / np.sqrt(n), chance_error), shared_error))
    one_more = np.append(scaled, 0.0)
    cautious = float(one_more.mean() - t_quantile(0.975, n) * one_more.std(ddof=1) / np.sqrt(n + 1))
    p = float(t_p(value / error, n - 1)) if error > 0 else None
    return _bounded(value, error, n - 1, cautious, (float(observed.mean()), float(chance.mean())), p, n, 0)


def of_shares(k: int, n: int, chance: float) -> Scaled:
    """The share k / n of runs, with the exact interval of Clopper and Pearson (1934, Biometrika 26, 404-413).

    p is the exact probability of k or more runs by chance.
    """
    share = k / n
    ends = [(end - chance) / (1 - chance) for end in exact_share(k, n)]
    p = _at_least(k, n, chance) if chance > 0 else None
    wanted = tuple(_first(lambda more: _half_of_share(share, more, chance), width, n) for width in WIDTHS)
    half = (ends[1] - ends[0]) / 2
    return Scaled((share - chance) / (1 - chance), ends[0], min(ends[1], 1.0), half, share, chance, p, n, 0, wanted)


def exact_share(k: int, n: int) -> tuple[float, float]:
    """The exact 95% interval of a share."""
    from scipy.special import betaincinv

    low = float(betaincinv(k, n - k + 1, 0.025)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 0.975)) if k < n else 1.0
    return low, high


def _at_least(k: int, n: int, chance: float) -> float:
    from scipy.special import bdtrc

    return float(bdtrc(k - 1, n, chance)) if k else 1.0


def _half_of_share(share: float, n: int, chance: float) -> float:
    low, high = exact_share(round(share * n), n)
    return (high - low) / 2 / (1 - chance)


def within(pairs: Pairs) -> Scaled | None:
    """What runs of one size have in common, over the runs. A size counts by the number of its runs.

    Returns:
        None if no two runs of one size can be compared, or chance is as good as perfect.
    """
    chance, sizes = _chance(pairs), _several(pairs)
    if not sizes:
        return None
    runs = np.concatenate(sizes)

    def value(values: Floats, without: int | None = None) -> Floats:
        parts = [runs_[runs_ != without] for runs_ in sizes]
        parts = [part for part in parts if len(part) > 1 and np.isfinite(_upper(chance, part, part)).any()]
        weights = np.array([len(part) for part in parts], float)
        beyond = values - chance
        gain = np.array([_mean(beyond, part) for part in parts])  # (sizes, ...)
        room = np.array([_mean(1 - chance, part) for part in parts])
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = np.tensordot(weights, gain, 1) / (weights @ room)
        return found

    room = [_mean(1 - chance, part) for part in sizes]
    if max(room) < _ROUNDING:
        return None
    left = [float(value(pairs.observed, int(run))) for run in runs]
    n_pairs = sum(int(np.isfinite(_upper(pairs.observed, part, part)).sum()) for part in sizes)
    means = [float(sum(len(part) * _mean(of, part) for part in sizes)) / len(runs) for of in (pairs.observed, chance)]
    whole = float(value(pairs.observed))
    df = len(runs) - len(sizes)
    return _of_pairs(
        whole,
        value(pairs.drawn),
        np.array(left),
        df,
        means,
        len(runs),
        n_pairs,
        pairs.least,
        enough=max(map(len, sizes)) > 2,
    )


def between(pairs: Pairs) -> Scaled | None:
    """What runs of different sizes have in common, over the sizes.

    Returns:
        None if no two sizes can be compared, or chance is as good as perfect.
    """
    chance = _chance(pairs)
    members = [np.flatnonzero(pairs.groups == group) for group in np.unique(pairs.groups)]
    compared = [
        (one, other)
        for one in range(len(members))
        for other in range(one)
        if np.isfinite(chance[np.ix_(members[one], members[other])]).any()
    ]
    if not compared:
        return None

    def block(values: Floats, one: int, other: int) -> Floats:
        picked = values[..., members[one][:, None], members[other]]
        mean: Floats = np.nanmean(picked, axis=(-2, -1))
        return mean

    def value(values: Floats, without: int | None = None) -> Floats:
        kept = [pair for pair in compared if without not in pair]
        beyond = values - chance
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.sum([block(beyond, *pair) for pair in kept], axis=0)
            found: Floats = gain / sum(block(1 - chance, *pair) for pair in kept)
        return found

    if max(float(block(1 - chance, *pair)) for pair in compared) < _ROUNDING:
        return None
    sizes = sorted({size for pair in compared for size in pair})
    left = [float(value(pairs.observed, size)) for size in sizes] if len(sizes) > 2 else [np.nan]
    means = [float(np.mean([block(of, *pair) for pair in compared])) for of in (pairs.observed, chance)]
    n_pairs = sum(int(np.isfinite(pairs.observed[np.ix_(members[a], members[b])]).sum()) for a, b in compared)
    whole = float(value(pairs.observed))
    df = len(sizes) - 1
    return _of_pairs(
        whole, value(pairs.drawn), np.array(left), df, means, len(sizes), n_pairs, pairs.least, enough=len(sizes) > 2
    )


def _chance(pairs: Pairs) -> Floats:
    """What draws give on average, where the observed number is defined: (runs, runs)."""
    chance: Floats = pairs.drawn.mean(axis=0)
    return np.where(np.isfinite(pairs.observed), chance, np.nan)


def _several(pairs: Pairs) -> list[NDArray[np.int64]]:
    """The runs of each size that can be compared with another one of the size."""
    sizes = []
    for group in np.unique(pairs.groups):
        own = np.flatnonzero(pairs.groups == group)
        there = np.isfinite(pairs.observed[np.ix_(own, own)])
        np.fill_diagonal(there, False)
        if len(kept := own[there.any(axis=1)]) > 1:
            sizes.append(kept)
    return sizes


def _upper(values: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Floats:
    """The numbers of pairs of different runs, each once: (..., pairs)."""
    one, other = np.triu_indices(len(rows), 1)
    picked: Floats = values[..., rows[one], columns[other]]
    return picked


def _mean(values: Floats, runs: NDArray[np.int64]) -> Floats:
    mean: Floats = np.nanmean(_upper(values, runs, runs), axis=-1)
    return mean


def _of_pairs(
    value: float,
    drawn: Floats,
    left: Floats,
    df: int,
    means: list[float],
    n: int,
    n_pairs: int,
    least: float,
    *,
    enough: bool,
) -> Scaled:
    """The number of a U-statistic.

    Args:
        drawn: (draws,); the value by chance.
        left: (units,); the value without each of the units.
        means: observed, and by chance.
        enough: whether without any unit a value is left.
    """
    p = float((1 + (drawn >= value - 1e-12).sum()) / (1 + len(drawn)))
    observed, chance = (float(mean) for mean in means)
    left = left[np.isfinite(left)]
    if not enough or df < 1 or len(left) < 2:
        return Scaled(value, None, None, None, observed, chance, p, n, n_pairs, (None, None))
    by_chance = float(drawn.std(ddof=1))
    # The jackknife tells how runs scatter; of few runs that agree as chance has it, it knows too little of that chance.
    error = float(np.hypot(_jackknife(left), by_chance))
    # One more run that has nothing in common with the others but what chance gives: of the n (n + 1) pairs, 2 n are of it.
    # Without one of the n runs, n - 1 of them and the new one are left.
    kept = (n - 1) / (n + 1)
    without = np.append(left * (n - 2) / n, value)
    cautious = kept * value - float(t_quantile(0.975, df + 1)) * _jackknife(without)
    return _bounded(value, error, df, cautious, (observed, chance), p, n, n_pairs, least)


def _jackknife(left: Floats) -> float:
    """The standard error from the values without each of the units."""
    n = len(left)
    return float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))


def _bounded(
    value: float,
    error: float,
    df: int,
    cautious: float,
    means: tuple[float, float],
    p: float | None,
    n: int,
    n_pairs: int,
    least: float = 0.0,
) -> Scaled:
    """The number with its interval, which ends at the ends of the scale. `means` are the observed one and that of chance."""
    half = float(t_quantile(0.975, df)) * error
    lower, upper = min(value - half, cautious), value + half
    width = (upper - lower) / 2
    lost = n - df  # one for each mean: of the runs, or of the runs of each size

    def of_more(more: int) -> float:
        return width * np.sqrt(n / more) * float(t_quantile(0.975, max(1, more - lost)) / t_quantile(0.975, df))

    wanted = tuple(_first(of_more, goal, n) for goal in WIDTHS)
    lowest = (least - means[1]) / (1 - means[1])
    lower, upper = max(lower, min(lowest, value)), min(upper, 1.0)
    return Scaled(value, float(lower), float(upper), float(width), *means, p, n, n_pairs, wanted)


def _first(half_width: Callable[[int], float], goal: float, at_least: int) -> int | None:
    """The smallest number of units with at most this half-width; None beyond `MOST_UNITS`."""
    return next((n for n in range(at_least, MOST_UNITS + 1) if half_width(n) <= goal), None)


class Difference(NamedTuple):
    """One value less another, with its 95% interval; None where one of the two has none."""

    value: float
    lower: float | None
    upper: float | None


def difference(
    one: tuple[float, float | None, float | None], other: tuple[float, float | None, float | None]
) -> Difference:
    """`other` less `one`, each a value with its interval, of independent runs (MOVER: Zou and Donner 2008, Stat. Med. 27,
    1693-1702)."""
    gap = other[0] - one[0]
    (v, low, high), (v2, low2, high2) = one, other
    if low is None or high is None or low2 is None or high2 is None:
        return Difference(gap, None, None)
    return Difference(gap, gap - float(np.hypot(v2 - low2, high - v)), gap + float(np.hypot(high2 - v2, v - low)))

"""By what factor the onset of one level differs from that of another, from intervals that hold each run's onset.

Onsets are log-normal about their level's median (`stats.interval_regression`). The test is that of the likelihood ratio L. If
n onsets are known exactly, L = n log(1 + F / d), with F on 1 and d degrees of freedom, and d = n less the coefficients. So
F = d (exp(L / n) - 1): it is exact then, and needs no large sample. Confidence intervals are those of Student's t with d
degrees of freedom, and the variance that least squares would have: that of maximum likelihood times n / d.

If all runs of a level may have their onset at one time, the likelihood is largest where runs do not scatter at all, and tells
nothing of how they do. Onsets are then taken to lie in the middle of their intervals, and each has the variance of the middles
about their level's mean, plus that of a uniform distribution over the widest interval (width² / 12 in logarithms).

If no run of a level has an onset, the factor that fits best is infinite, and only one end of its interval exists: the factor
at which F is just significant, when the onsets of the other level are moved by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from headway import stats
from headway.errors import StatisticsError
from headway.stats.distributions import f_p, t_p, t_quantile

_FAR = float(np.log(1e4))  # no checkpoints reach that far


class Shift(NamedTuple):
    """The onset of one level over that of another.

    Attributes:
        ratio: the factor; infinite if no run of the level has an onset, 0 if none of the other has.
        lower, upper: 95% interval, with 0 and infinity where it is open.
        p: of the hypothesis that the factor is 1.
        std_error: of the logarithm of the factor; NaN if that is not finite.
        df: degrees of freedom.
    """

    ratio: float
    lower: float
    upper: float
    p: float
    std_error: float
    df: float


def shift(runs: pl.DataFrame, factor: str, level: str, against: str, others: Sequence[str] = ()) -> Shift:
    """Compare the onsets of `level` with those of `against`.

    Args:
        runs: columns after and by (null if not reached), the factor, and `others`, whose effects are allowed for.

    Raises:
        StatisticsError: neither level has an onset, or there are too few runs.
    """
    here = runs.filter(pl.col(factor).is_in([level, against])).with_columns(
        _level=(pl.col(factor) == level).cast(pl.Float64)
    )
    terms = [f"`{name}`" for name in others if here[name].n_unique() > 1]
    reached = {name: here.filter(pl.col(factor) == name)["by"].count() for name in (level, against)}
    n, df = here.height, here.height - len(_coefficients(here, others)) - 1
    if not any(reached.values()):
        raise StatisticsError(f"no run with {factor} {level} or {against} has an onset")
    if df < 1:
        raise StatisticsError(f"{n} runs are too few to compare {factor} {level} with {against}")
    if not all(reached.values()):
        return _unbounded(here, terms, df, grows=reached[level] == 0)
    if without_scatter(here, [*terms, "_level"]) is not None:
        return _of_middles(here, terms, df)
    fit = stats.interval_regression(_formula(*terms, "_level"), here, "after", "by")
    estimate, std_error = fit.coefficients.filter(pl.col("term") == "_level").select("estimate", "std_error").row(0)
    std_error *= float(np.sqrt(n / df))
    margin = float(t_quantile(0.975, df)) * std_error
    p = float(f_p(_f(fit.log_lik, _equal(here, terms), n, df), 1, df))
    return _finite(estimate, margin, p, std_error, df)


def _coefficients(here: pl.DataFrame, others: Sequence[str]) -> list[str]:
    """Names of the coefficients beside that of the level: the intercept, and one less than the levels of each other."""
    return ["1", *(f"{name}{level}" for name in others for level in here[name].unique().sort()[1:])]


def _formula(*terms: str) -> str:
    return "~ " + " + ".join(["1", *terms])


def _f(full: float, restricted: float, n: int, df: int) -> float:
    """The F statistic of two log-likelihoods."""
    return df * float(np.expm1(2 * max(full - restricted, 0.0) / n))


def _equal(here: pl.DataFrame, terms: Sequence[str], log_factor: float = 0.0) -> float:
    """The log-likelihood if the level's onsets are those of the other, times a factor."""
    back = (-log_factor * pl.col("_level")).exp()
    moved = here.with_columns(after=pl.col("after") * back, by=pl.col("by") * back)
    return _log_lik(moved, terms)


def _log_lik(here: pl.DataFrame, terms: Sequence[str]) -> float:
    """The highest log-likelihood of onsets that do not depend on the level."""
    limit = without_scatter(here, terms)
    return stats.interval_regression(_formula(*terms), here, "after", "by").log_lik if limit is None else limit


def without_scatter(here: pl.DataFrame, terms: Sequence[str]) -> float | None:
    """The log-likelihood to which onsets that do not scatter tend, where nothing is more likely; else None.

    That is so if there is a time, in each combination of the terms' levels, at which all intervals overlap, and the limit
    is 0; or at which k of them end and m begin. The likelihood is then that of a share k / (k + m).
    """
    names = [term.strip("`") for term in terms]
    limit = 0.0
    for cell in here.partition_by(names) if names else [here]:
        after, by = cell["after"].to_numpy(), cell["by"].fill_null(np.inf).to_numpy()
        last, first = after.max(), by.min()
        if last > first:
            return None
        if last == first:
            ends, begins = int((by == first).sum()), int((after == last).sum())
            limit += sum(n * float(np.log(n / (ends + begins))) for n in (ends, begins))
    return limit


def _of_middles(here: pl.DataFrame, terms: Sequence[str], df: int) -> Shift:
    """The comparison of the middles of intervals; a run without an onset has it at its last step."""
    known = here.with_columns(by=pl.coalesce("by", "after"))
    known = known.with_columns(
        # Before the first step after 0, an interval has no logarithm: its upper end stands for it.
        middle=pl.when(pl.col("after") > 0)
        .then((pl.col("after") * pl.col("by")).log() / 2)
        .otherwise(pl.col("by").log()),
        width=pl.when(pl.col("after") > 0).then((pl.col("by") / pl.col("after")).log()).otherwise(0.0),
    )
    design = np.column_stack([np.ones(known.height), *_dummies(known, terms), known["_level"].to_numpy()])
    y = known["middle"].to_numpy()
    beta, *_ = np.linalg.lstsq(design, y, rcond=None)
    rest = y - design @ beta
    width = float(known["width"].to_numpy().max())
    variance = float(rest @ rest) / df + width**2 / 12
    std_error = float(np.sqrt(variance * np.linalg.pinv(design.T @ design)[-1, -1]))
    estimate, margin = float(beta[-1]), float(t_quantile(0.975, df)) * std_error
    return _finite(estimate, margin, float(t_p(estimate / std_error, df)), std_error, df)


def _finite(estimate: float, margin: float, p: float, std_error: float, df: int) -> Shift:
    ratio, lower, upper = np.exp([estimate, estimate - margin, estimate + margin]).tolist()
    return Shift(ratio, lower, upper, p, std_error, float(df))


def _dummies(known: pl.DataFrame, terms: Sequence[str]) -> list[np.ndarray]:
    """A column of 0 and 1 for each level but the first of each term."""
    names = [term.strip("`") for term in terms]
    return [
        (known[name] == level).cast(pl.Float64).to_numpy()
        for name in names
        for level in known[name].unique().sort()[1:]
    ]


def _unbounded(here: pl.DataFrame, terms: Sequence[str], df: int, *, grows: bool) -> Shift:
    """The comparison with a level that has no onset. The likelihood rises as its onset moves off to infinity."""
    from scipy.optimize import brentq

    other = here.filter(pl.col("_level") == (0.0 if grows else 1.0))
    # There, the runs without an onset are certain: they add log 1.
    full = _log_lik(other, terms)
    side, n = (1.0 if grows else -1.0), here.height
    highest = float(t_quantile(0.975, df)) ** 2

    def above(far: float) -> float:
        return _f(full, _equal(here, terms, side * far), n, df) - highest

    nearest, farthest = above(-_FAR), above(_FAR)
    bound = side * float(brentq(above, -_FAR, _FAR, xtol=1e-3)) if nearest > 0 > farthest else -side * np.inf
    p = float(f_p(_f(full, _equal(here, terms), n, df), 1, df))
    ratio, lower, upper = (np.inf, float(np.exp(bound)), np.inf) if grows else (0.0, 0.0, float(np.exp(bound)))
    return Shift(ratio, lower, upper, p, float("nan"), float(df))

"""Pearson's correlation with test and interval, as in R's cor.test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from headway.errors import StatisticsError
from headway.stats.distributions import normal_quantile, t_p
from headway.stats.r_format import p_values, signif


class CorrelationTest(NamedTuple):
    """Pearson's r, its t with df = n - 2, two-sided p-value, and Fisher's interval (NaN for fewer than 4 pairs)."""

    r: float
    t: float
    df: int
    p: float
    lower: float
    upper: float
    level: float
    n: int
    n_dropped: int

    def summary(self) -> str:
        """The test as text, in R's layout."""
        p = p_values([self.p], 4)[0]
        lines = [
            "Pearson's product-moment correlation",
            "",
            f"t = {signif([self.t], 5)[0]}, df = {self.df}, p-value {p if p.startswith('<') else '= ' + p}",
            "alternative hypothesis: true correlation is not equal to 0",
            f"{100 * self.level:g} percent confidence interval:",
            " " + " ".join(signif([self.lower, self.upper], 7)),
            "sample estimate:",
            f" cor {signif([self.r], 7)[0]}",
        ]
        if self.n_dropped:
            lines.append(f"{self.n_dropped} pairs dropped for a missing value")
        return "\n".join(lines)


def cor_test(x: Sequence[float] | Any, y: Sequence[float] | Any, level: float = 0.95) -> CorrelationTest:
    """Correlate two columns. Pairs with a missing value are left out and counted.

    Raises:
        StatisticsError: the lengths differ, fewer than 3 complete pairs are left, or a column is constant.
    """
    a, b = (_numbers(column, name) for column, name in ((x, "x"), (y, "y")))
    if len(a) != len(b):
        raise StatisticsError(f"x has {len(a)} values and y {len(b)}: a correlation needs pairs")
    if not 0 < level < 1:
        raise StatisticsError(f"the level of an interval must be between 0 and 1, such as 0.95; it is {level}")
    whole = ~(np.isnan(a) | np.isnan(b))
    a, b = a[whole], b[whole]
    n = len(a)
    if n < 3:
        raise StatisticsError(f"a correlation test needs 3 or more complete pairs; there are {n}")
    for column, name in ((a, "x"), (b, "y")):
        if np.ptp(column) == 0:
            raise StatisticsError(f"{name} does not vary: it is {column[0]:g} in every pair, so r is undefined")
    r = _pearson(a, b)
    with np.errstate(divide="ignore"):
        t = float(np.sqrt(n - 2) * r / np.sqrt(np.float64((1 - r) * (1 + r))))
        margin = normal_quantile((1 + level) / 2) / np.sqrt(n - 3) if n > 3 else np.nan
        lower, upper = (float(np.tanh(np.arctanh(r) + side * margin)) for side in (-1, 1))  # Fisher's z
    return CorrelationTest(r, t, n - 2, float(t_p(t, n - 2)), lower, upper, level, n, int(np.sum(~whole)))


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r from scaled columns, so that no column can overflow."""
    a, b = a - a.mean(), b - b.mean()
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def _numbers(column: Any, name: str) -> np.ndarray:
    try:
        values = np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StatisticsError(f"{name} is not numeric: a correlation needs two columns of numbers") from error
    if values.ndim != 1:
        raise StatisticsError(f"{name} has {values.ndim} dimensions: a correlation needs two plain columns")
    if np.isinf(values).any():
        raise StatisticsError(f"{name} holds infinite values: leave them out or change them")
    return values

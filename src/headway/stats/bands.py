"""Intervals of curves: pointwise, or simultaneous, which hold the whole curve in a given share of repetitions.

With estimates f = Mb of a curve in m places and b ~ N(β, V), the simultaneous interval is f_i ± c·se_i, where c is the
quantile of max_i |M_i(b* - b)| / se_i over draws b*. Where V has an estimated scale, draws are multivariate t.

Sources: Ruppert, Wand & Carroll (2003) Semiparametric Regression, §6.5; Simpson (2018) Front. Ecol. Evol. 6, 149.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headway.errors import StatisticsError
from headway.stats.distributions import normal_quantile, t_quantile

Array = NDArray[np.float64]

N_DRAWS = 10_000
_BLOCK = 4_000_000  # entries of a block of simulated curves: 32 MB


def require_level(level: float) -> None:
    """Check the coverage of an interval.

    Raises:
        StatisticsError: it is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise StatisticsError(f"the level of an interval must be between 0 and 1, such as 0.95; it is {level}")


class Coverage(NamedTuple):
    """What an interval covers: one estimate or all at once, with what probability, and how that is simulated."""

    level: float
    simultaneous: bool
    n_draws: int
    seed: int

    def critical(self, matrix: Array, covariance: Array, df: float) -> float:
        """Critical value for the estimates Mb, in standard errors."""
        if self.simultaneous:
            return critical_value(matrix, covariance, self.level, df, self.n_draws, self.seed)
        return pointwise_value(self.level, df)


def standard_errors(matrix: Array, covariance: Array) -> Array:
    """√diag(M V M')."""
    return np.sqrt(np.einsum("ij,jk,ik->i", matrix, covariance, matrix))


def draws(mean: Array, covariance: Array, n: int, seed: int) -> Array:
    """(n, p) draws from the normal distribution with that mean (p,) and covariance (p, p), which may be singular."""
    rng = np.random.default_rng(seed)
    return mean + rng.standard_normal((n, len(mean))) @ _root(covariance).T


def pointwise_value(level: float, df: float) -> float:
    """Critical value of a single estimate: the quantile of Student's t, or of the normal if `df` is infinite."""
    tail = (1 + level) / 2
    return normal_quantile(tail) if np.isinf(df) else float(t_quantile(tail, df))


def critical_value(matrix: Array, covariance: Array, level: float, df: float, n: int = N_DRAWS, seed: int = 0) -> float:
    """Critical value c of the simultaneous interval of Mb.

    Args:
        matrix: M, (m, p). Rows with a missing value or without uncertainty do not count.
        covariance: V, (p, p).
        level: coverage of the whole curve.
        df: degrees of freedom of the scale in V; infinite if it is known.
        n: number of draws. Their error of c is about 0.01 for 10,000.
        seed: seed of the draws.
    """
    se = standard_errors(matrix, covariance)
    used = se > 0
    if not used.any():
        return pointwise_value(level, df)
    standardised = np.unique(matrix[used] @ _root(covariance) / se[used, None], axis=0)
    rng = np.random.default_rng(seed)
    largest = np.empty(n)
    step = max(1, _BLOCK // len(standardised))
    for first in range(0, n, step):
        z = rng.standard_normal((min(step, n - first), len(covariance)))
        largest[first : first + len(z)] = np.abs(z @ standardised.T).max(axis=1)
    if not np.isinf(df):
        largest /= np.sqrt(rng.chisquare(df, n) / df)
    return float(np.quantile(largest, level))


def band(name: str, matrix: Array, coefficients: Array, covariance: Array, critical: float) -> pl.DataFrame:
    """The estimates Mb, called `name`, with se, lower, upper."""
    estimate, se = matrix @ coefficients, standard_errors(matrix, covariance)
    margin = critical * se
    return pl.DataFrame({name: estimate, "se": se, "lower": estimate - margin, "upper": estimate + margin})


def _root(covariance: Array) -> Array:
    """B with BB' = V."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))

"""Errors of first-order autocorrelation along runs, as in mgcv's `bam(rho=, AR.start=)`.

    e_t = ρ e_{t-1} + √(1 - ρ²) u_t within a run, e_t = u_t in its first row; Var(u) = σ²

Rows of y and X become (row_t - ρ row_{t-1}) / √(1 - ρ²), whose errors are independent; first rows of runs stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.errors import StatisticsError
from headway.stats.columns import Factor, Table

Array = NDArray[np.float64]

SOURCES = {
    "given": "given",
    "estimate": "lag-1 autocorrelation of the residuals of a fit with independent errors",
    "REML": "by restricted maximum likelihood",
}
_LARGEST_RHO = 0.995


@dataclass(frozen=True)
class Autocorrelation:
    """The autocorrelation ρ of neighbouring rows of a run.

    Attributes:
        rho: ρ, between -1 and 1.
        starts: (n,), whether a row is the first of its run.
        source: how ρ was chosen: "given", "estimate" or "REML".
    """

    rho: float
    starts: NDArray[np.bool_]
    source: str = "given"

    def whitened(self, rows: Array) -> Array:
        """Rows (n,) or (n, columns) whose errors are independent."""
        if self.rho == 0:
            return rows
        out = rows.copy()
        later = np.flatnonzero(~self.starts)
        out[later] = (rows[later] - self.rho * rows[later - 1]) / np.sqrt(1 - self.rho**2)
        return out

    @property
    def log_volume(self) -> float:
        """log|W| of the map y → Wy from the data to the whitened data."""
        return -int(np.sum(~self.starts)) * float(np.log(1 - self.rho**2)) / 2

    @property
    def words(self) -> str:
        """The errors' line in a summary."""
        n_runs = int(self.starts.sum())
        return f"Errors: AR(1) in {n_runs} {'run' if n_runs == 1 else 'runs'}, rho = {self.rho:.4g} ({SOURCES[self.source]})"


def first_rows(data: Any, column: str | None, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether each of the `rows` is the first one of its run.

    Args:
        data: the table. Its rows are in order of time within each run, and runs follow each other.
        column: a column of true and false, true in the first row of each run; None if the table is one run.
        rows: the complete rows of the table. A run whose first row is incomplete starts with its next row.

    Raises:
        StatisticsError: there is no such column, or it holds something else.
    """
    table = Table(data)
    run = np.zeros(table.height, dtype=int)
    if column is not None:
        run = np.cumsum(_logical(table, column))
    kept = run[rows]
    return np.concatenate([[True], kept[1:] != kept[:-1]])


def lag_one(residuals: Array, starts: NDArray[np.bool_]) -> float:
    """Autocorrelation of neighbouring residuals within runs: Σ e_t e_{t-1} / Σ e_t², as in R's acf."""
    later = np.flatnonzero(~starts)
    return float(residuals[later] @ residuals[later - 1] / (residuals @ residuals))


def require_rho(rho: float | str, method: str) -> None:
    """Check how ρ is to be chosen.

    Raises:
        StatisticsError: it is no number between -1 and 1 and no known way, or the way needs another smoothing criterion.
    """
    if (isinstance(rho, str) and rho not in ("estimate", "REML")) or (not isinstance(rho, str) and not -1 < rho < 1):
        raise StatisticsError(f'rho is {rho!r}: give a number between -1 and 1, "estimate" or "REML"')
    if rho == "REML" and method != "REML":
        raise StatisticsError(f'rho="REML" needs method="REML", and the method is {method!r}')


def most_likely(score: Callable[[float], float]) -> float:
    """The ρ with the smallest `score`, minus a log-likelihood, to 1e-4."""
    from scipy.optimize import minimize_scalar

    return float(
        minimize_scalar(score, bounds=(-_LARGEST_RHO, _LARGEST_RHO), method="bounded", options={"xatol": 1e-4}).x
    )


def _logical(table: Table, name: str) -> NDArray[np.bool_]:
    if name not in table.names:
        raise StatisticsError(
            f"the table has no column {name!r} for the starts of runs: it has {', '.join(table.names)}"
        )
    column = table.column(name)
    if not isinstance(column, Factor) or not set(column.levels) <= {"FALSE", "TRUE"} or np.any(column.codes < 0):
        raise StatisticsError(f"{name} must be true in the first row of each run and false in all others, without gaps")
    return np.array([level == "TRUE" for level in column.levels])[column.codes]

"""Ordinary least squares, with the results of R's lm and its summary."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.stats.bands import require_level
from headway.stats.columns import Table
from headway.stats.distributions import f_p, t_p, t_quantile
from headway.stats.formula import parse
from headway.stats.model_frame import Design, ModelFrame, design, model_frame, without_collinear
from headway.stats.quantiles import Quantiles, quantiles
from headway.stats.r_format import p_values, signif
from headway.stats.shown import Reported
from headway.stats.summaries import coefficient_lines, quantile_lines

INTERVALS = ("confidence", "prediction")


class Residual(NamedTuple):
    """Covariance of the coefficients (p, p), with the residual degrees of freedom for all their combinations."""

    vcov: np.ndarray
    df_resid: int

    def df(self, combinations: np.ndarray) -> np.ndarray:
        """The df of each row of `combinations` (r, p)."""
        return np.full(len(combinations), float(self.df_resid))


def ols(formula: str, data: Any, *, weights: str | None = None) -> LinearModel:
    """Fit a linear model by least squares.

    Args:
        formula: such as "cor ~ same_model + log10(n_params)".
        data: a polars or pandas data frame. Rows with a missing value in a column of the formula are left out.
        weights: name of a column of prior weights w: the variance of a row is σ² / w.

    Raises:
        StatisticsError: the model cannot be fitted. The message says which part of the formula or the data is wrong.
    """
    parsed = parse(formula, Table(data).names)
    parsed.refuse_smooths("ols")
    parsed.refuse_bars("ols")
    frame = model_frame(parsed, data, weights)
    x, dropped = without_collinear(frame.design(parsed.intercept, parsed.terms))
    n, p = x.matrix.shape
    if n <= p:
        raise StatisticsError(f"the table has {n} complete rows for {p} coefficients. Give more rows, or fewer effects")
    if np.ptp(frame.y) == 0:
        raise StatisticsError(f"the response {parsed.response} does not vary: it is {frame.y[0]:g} in every row")
    return LinearModel(frame, x, dropped)


@dataclass(frozen=True, eq=False, repr=False)
class LinearModel(Reported):
    """A fitted linear model. Matrices are in the order of `coefficients["term"]`.

    Attributes:
        frame: the fitted data, with `n_dropped` and `notices`.
        x: the design, without collinear columns.
        dropped: names of these columns.
    """

    frame: ModelFrame
    x: Design
    dropped: tuple[str, ...]

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about rows and columns that were left out."""
        left_out = f"collinear coefficients were left out: {', '.join(self.dropped)}"
        return self.frame.notices + ((left_out,) if self.dropped else ())

    @cached_property
    def _qr(self) -> tuple[np.ndarray, np.ndarray]:
        return np.linalg.qr(self.frame.weighted(self.x.matrix))

    @cached_property
    def beta(self) -> np.ndarray:
        """The coefficients (p,)."""
        q, r = self._qr
        x, y = self.frame.weighted(self.x.matrix), self.frame.weighted(self.frame.target)
        beta = np.linalg.solve(r, q.T @ y)
        return beta + np.linalg.solve(r, q.T @ (y - x @ beta))  # refined once

    @property
    def fitted(self) -> np.ndarray:
        """Xβ̂ and the offset (n_obs,)."""
        return self.x.matrix @ self.beta + self.frame.offset

    @property
    def residuals(self) -> np.ndarray:
        """y minus the fitted values (n_obs,)."""
        return self.frame.y - self.fitted

    @property
    def residual_quantiles(self) -> Quantiles:
        """Quantiles of the residuals times the square roots of their weights, as R's summary prints them."""
        return quantiles(self.frame.weighted(self.residuals))

    @property
    def df_resid(self) -> int:
        return self.n_obs - len(self.x.names)

    @cached_property
    def rss(self) -> float:
        """The weighted residual sum of squares."""
        rest = self.frame.weighted(self.residuals)
        return float(rest @ rest)

    @property
    def sigma(self) -> float:
        """The residual standard error."""
        return float(np.sqrt(self.rss / self.df_resid))

    @cached_property
    def vcov(self) -> np.ndarray:
        """The covariance of the coefficients (p, p)."""
        inverse = np.linalg.inv(self._qr[1])
        return self.sigma**2 * inverse @ inverse.T

    def inference(self, df: str = "residual") -> Residual:
        """Covariance of β and degrees of freedom of its combinations, which are those of the residual whatever `df` says."""
        return Residual(self.vcov, self.df_resid)

    @cached_property
    def coefficients(self) -> pl.DataFrame:
        """term, estimate, std_error, t, p."""
        std_error = np.sqrt(np.diag(self.vcov))
        t = self.beta / std_error
        columns = {"estimate": self.beta, "std_error": std_error, "t": t, "p": t_p(t, self.df_resid)}
        return pl.DataFrame({"term": list(self.x.names), **columns}, schema_overrides={"term": pl.String})

    def coefficient_tests(self) -> pl.DataFrame:
        """term, estimate, std_error, df, t, p: `coefficients` with the residual degrees of freedom."""
        df = pl.lit(float(self.df_resid)).alias("df")
        return self.coefficients.select("term", "estimate", "std_error", df, "t", "p")

    @property
    def _has_intercept(self) -> bool:
        return self.frame.formula.intercept

    @property
    def _explained(self) -> float:
        # R's summary takes the fitted values with the offset, but centres them only if there is an intercept.
        fitted = self.fitted
        centre = np.average(fitted, weights=self.frame.weights) if self._has_intercept else 0.0
        return float(np.sum(self.frame.weighted(fitted - centre) ** 2))

    @property
    def r_squared(self) -> float:
        """Share of explained variance; without an intercept, share of the sum of squares."""
        return self._explained / (self._explained + self.rss)

    @property
    def adj_r_squared(self) -> float:
        return 1 - (1 - self.r_squared) * (self.n_obs - self._has_intercept) / self.df_resid

    @property
    def f_df(self) -> tuple[int, int]:
        """The degrees of freedom of F."""
        return len(self.x.names) - self._has_intercept, self.df_resid

    @property
    def f(self) -> float:
        """F statistic of all coefficients but the intercept; NaN if there are none."""
        between, within = self.f_df
        return self._explained / between / (self.rss / within) if between else float("nan")

    @property
    def p(self) -> float:
        """p-value of `f`."""
        return float(f_p(self.f, *self.f_df)) if self.f_df[0] else float("nan")

    @property
    def log_lik(self) -> float:
        return self.frame.log_weights / 2 - self.n_obs / 2 * (1 + float(np.log(2 * np.pi * self.rss / self.n_obs)))

    @property
    def aic(self) -> float:
        return -2 * self.log_lik + 2 * (len(self.x.names) + 1)

    @property
    def bic(self) -> float:
        return -2 * self.log_lik + float(np.log(self.n_obs)) * (len(self.x.names) + 1)

    def confint(self, level: float = 0.95) -> pl.DataFrame:
        """term, lower, upper: t intervals of the coefficients.

        Raises:
            StatisticsError: the level is not between 0 and 1.
        """
        require_level(level)
        margin = t_quantile((1 + level) / 2, self.df_resid) * self.coefficients["std_error"].to_numpy()
        return pl.DataFrame(
            {"term": self.coefficients["term"], "lower": self.beta - margin, "upper": self.beta + margin}
        )

    def predict(self, new: Any = None, *, interval: str | None = None, level: float = 0.95) -> Any:
        """Predict the expected response for the rows of `new`, or for the fitted rows; NaN if a value is missing.

        With an `interval`, return a frame with fit, se, lower, upper: for "confidence", where the expected response lies; for
        "prediction", where one more response of prior weight 1 will lie.

        Raises:
            StatisticsError: a column is missing, a factor has a level that is not in the fitted data, or the interval or level
                is invalid.
        """
        if interval is not None and interval not in INTERVALS:
            raise StatisticsError(f"unknown interval {interval!r}: choose {' or '.join(map(repr, INTERVALS))}")
        require_level(level)
        x, offset = self._new_rows(new)
        fit = x @ self.beta + offset
        if interval is None:
            return fit
        variance = np.einsum("ij,jk,ik->i", x, self.vcov, x) + (self.sigma**2 if interval == "prediction" else 0.0)
        margin = t_quantile((1 + level) / 2, self.df_resid) * np.sqrt(variance)
        return pl.DataFrame({"fit": fit, "se": np.sqrt(variance), "lower": fit - margin, "upper": fit + margin})

    def _new_rows(self, new: Any) -> tuple[np.ndarray, np.ndarray]:
        """Design and offset of other rows, or of the fitted ones."""
        if new is None:
            return self.x.matrix, self.frame.offset
        formula, table = self.frame.formula, Table(new)
        values = self.frame.of_new(table, {variable for term in formula.terms for variable in term})
        full = design(values, formula.intercept, formula.terms, table.height)
        return full.keep(self.x.places).matrix, self.frame.offset_of_new(table)

    def summary(self) -> str:
        """The fit as text, in the layout of R's summary.lm."""
        largest = max(abs(value) for value in self.residual_quantiles)
        decimals = max(0, 5 - int(np.ceil(np.log10(largest)))) if largest > 0 else 5
        lines = [
            f"Formula: {self.formula}",
            "",
            "Residuals:",
            *quantile_lines(self.residual_quantiles, decimals),
            "",
            "Coefficients:",
            *coefficient_lines(self.coefficients, "t"),
            "",
            f"Residual standard error: {_rounded(self.sigma)} on {self.df_resid} degrees of freedom",
        ]
        if self.f_df[0]:
            p = p_values([self.p], 4)[0]
            lines += [
                f"Multiple R-squared:  {_rounded(self.r_squared)},\tAdjusted R-squared:  {_rounded(self.adj_r_squared)}",
                f"F-statistic: {_rounded(self.f)} on {self.f_df[0]} and {self.f_df[1]} DF,  p-value: {p}",
            ]
        return "\n".join([*lines, *self.notices])


def _rounded(value: float) -> str:
    return signif([value], 4)[0]

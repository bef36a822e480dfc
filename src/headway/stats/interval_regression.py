"""Regression of times that are known only to lie in intervals, as by survreg of R's survival.

    fit = interval_regression("~ log10(n_params)", runs, lower="after", upper="by", cluster="seed")

The model is accelerated failure time: log T = Xβ + σ ε, where ε is normal (T is log-normal), logistic (log-logistic), or has the
smallest extreme value's distribution (Weibull). A row with bounds (l, u] adds log{F(z_u) - F(z_l)} to the log-likelihood,
with z = (log t - xβ) / σ; an exact time adds log f(z) - log(σ t). Kalbfleisch & Prentice 2002, ch. 2 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.stats.columns import Factor, Integers, Table
from headway.stats.differences import hessian_of
from headway.stats.distributions import normal_quantile
from headway.stats.formula import parse
from headway.stats.likelihood_intervals import extreme_in_region
from headway.stats.model_frame import Design, ModelFrame, design, model_frame, without_collinear
from headway.stats.wald import WaldTested

Floats = np.ndarray
_ZERO = "interval_regression needs a column that is 0"


class _Error(Protocol):
    """The distribution of ε: log density and distribution function, its complement, and the quantiles."""

    def cdf(self, z: Floats) -> Floats: ...
    def sf(self, z: Floats) -> Floats: ...
    def pdf(self, z: Floats) -> Floats: ...
    def log_pdf(self, z: Floats) -> Floats: ...
    def log_pdf_slope(self, z: Floats) -> Floats: ...
    def quantile(self, p: float) -> float: ...


class _Normal:
    def cdf(self, z: Floats) -> Floats:
        from scipy.special import ndtr

        return np.asarray(ndtr(z))

    def sf(self, z: Floats) -> Floats:
        return self.cdf(-z)

    def pdf(self, z: Floats) -> Floats:
        return np.exp(self.log_pdf(z))

    def log_pdf(self, z: Floats) -> Floats:
        return -(z**2) / 2 - np.log(2 * np.pi) / 2

    def log_pdf_slope(self, z: Floats) -> Floats:
        return -z

    def quantile(self, p: float) -> float:
        return normal_quantile(p)


class _Logistic:
    def cdf(self, z: Floats) -> Floats:
        from scipy.special import expit

        return np.asarray(expit(z))

    def sf(self, z: Floats) -> Floats:
        return self.cdf(-z)

    def pdf(self, z: Floats) -> Floats:
        return self.cdf(z) * self.sf(z)

    def log_pdf(self, z: Floats) -> Floats:
        return -np.abs(z) - 2 * np.log1p(np.exp(-np.abs(z)))

    def log_pdf_slope(self, z: Floats) -> Floats:
        return 1 - 2 * self.cdf(z)

    def quantile(self, p: float) -> float:
        return float(np.log(p / (1 - p)))


class _SmallestExtreme:
    def cdf(self, z: Floats) -> Floats:
        return -np.expm1(-np.exp(np.minimum(z, 700.0)))

    def sf(self, z: Floats) -> Floats:
        return np.exp(-np.exp(np.minimum(z, 700.0)))

    def pdf(self, z: Floats) -> Floats:
        return np.exp(self.log_pdf(z))

    def log_pdf(self, z: Floats) -> Floats:
        return z - np.exp(np.minimum(z, 700.0))

    def log_pdf_slope(self, z: Floats) -> Floats:
        return 1 - np.exp(np.minimum(z, 700.0))

    def quantile(self, p: float) -> float:
        return float(np.log(-np.log1p(-p)))


DISTRIBUTIONS: dict[str, _Error] = {"lognormal": _Normal(), "loglogistic": _Logistic(), "weibull": _SmallestExtreme()}


def interval_regression(
    formula: str,
    data: Any,
    lower: str,
    upper: str,
    *,
    distribution: str = "lognormal",
    cluster: str | None = None,
) -> IntervalRegression:
    """Fit times that lie in (lower, upper] by maximum likelihood.

    Args:
        formula: the terms, such as "~ log10(n_params) + suite".
        data: a polars or pandas data frame. Rows with a missing value in a column of the formula are left out.
        lower: name of the column of lower bounds; 0 or a missing value if the time has none (left-censored).
        upper: name of the column of upper bounds; infinity or a missing value if it has none (right-censored). A time
            with equal bounds is known exactly.
        distribution: "lognormal", "loglogistic" or "weibull".
        cluster: a column whose rows with equal values may depend on each other: standard errors then allow for it.

    Raises:
        StatisticsError: the model cannot be fitted. The message says which part of the formula or the data is wrong.
    """
    if distribution not in DISTRIBUTIONS:
        raise StatisticsError(f"unknown distribution {distribution!r}: choose one of {', '.join(DISTRIBUTIONS)}")
    if not formula.lstrip().startswith("~"):
        raise StatisticsError(
            f"the formula {formula!r} must start with ~: the bounds of the times are columns of their own"
        )
    parsed = parse(f"`{_ZERO}` {formula.strip()}")
    parsed.refuse_smooths("interval_regression")
    parsed.refuse_bars("interval_regression")
    parsed.refuse_offsets("interval_regression")
    table = Table(data)
    bounds = _bounds(table, lower, upper)
    groups = None if cluster is None else _groups(table, cluster)
    frame = model_frame(parsed, _with_zero(data, table.height))
    x, dropped = without_collinear(frame.design(parsed.intercept, parsed.terms))
    times = _Times(*(bound[frame.rows] for bound in bounds))
    informative = ~(np.isneginf(times.lower) & np.isposinf(times.upper))
    if informative.sum() <= x.matrix.shape[1]:
        raise StatisticsError(
            f"the table has {int(informative.sum())} rows with a bound for {x.matrix.shape[1]} coefficients. "
            "Give more rows, or fewer effects"
        )
    basis, r = np.linalg.qr(x.matrix)
    root = float(np.sqrt(frame.n_obs))
    likelihood = _Likelihood(DISTRIBUTIONS[distribution], basis * root, times)
    point, converged = likelihood.optimum()
    return IntervalRegression(
        frame, x, dropped, formula.strip(), distribution, likelihood, point, r / root, converged,
        None if groups is None else groups[frame.rows],
    )  # fmt: skip


def _with_zero(data: Any, height: int) -> Any:
    """The table with a column that stands for the response, which is not one column here."""
    if isinstance(data, (pl.DataFrame, pl.LazyFrame)):
        return data.with_columns(pl.lit(0.0).alias(_ZERO))
    if isinstance(data, Mapping):
        return {**data, _ZERO: np.zeros(height)}
    return data.assign(**{_ZERO: 0.0})


def _numbers(table: Table, name: str) -> Floats:
    if name not in table.names:
        raise StatisticsError(f"the table has no column {name!r} of bounds: it has {', '.join(table.names)}")
    column = table.column(name)
    if isinstance(column, Factor):
        raise StatisticsError(f"the bounds {name} are categorical: they must be numbers")
    return column.numbers if isinstance(column, Integers) else column


def _bounds(table: Table, lower: str, upper: str) -> tuple[Floats, Floats]:
    """Logarithms of the bounds: -inf and inf where there is none."""
    low, high = _numbers(table, lower), _numbers(table, upper)
    low, high = np.where(np.isnan(low), 0.0, low), np.where(np.isnan(high), np.inf, high)
    if np.any(low < 0):
        raise StatisticsError(f"{lower} is negative in {int(np.sum(low < 0))} rows: times are positive")
    if np.any(high <= 0):
        raise StatisticsError(f"{upper} is not positive in {int(np.sum(high <= 0))} rows: a time of 0 has no logarithm")
    if np.any(low > high):
        row = int(np.argmax(low > high))
        raise StatisticsError(
            f"{lower} is above {upper} in {int(np.sum(low > high))} rows, such as row {row}: {low[row]:g} and {high[row]:g}"
        )
    with np.errstate(divide="ignore"):
        return np.log(low), np.log(high)


def _groups(table: Table, name: str) -> Floats:
    if name not in table.names:
        raise StatisticsError(f"the table has no column {name!r} of clusters: it has {', '.join(table.names)}")
    column = table.column(name)
    if isinstance(column, Integers):
        column = column.factor
    codes = column.codes if isinstance(column, Factor) else np.unique(column, return_inverse=True)[1]
    if np.any(codes < 0):
        raise StatisticsError(f"the clusters {name} have missing values: give every row one")
    return codes


class _Times(NamedTuple):
    """Logarithms of the bounds, (n,): -inf and inf where there is none."""

    lower: Floats
    upper: Floats

    @property
    def exact(self) -> Floats:
        return self.lower == self.upper


class _Likelihood:
    """The log-likelihood of (β, log σ) for an orthonormal design."""

    def __init__(self, error: _Error, x: Floats, times: _Times) -> None:
        self.error, self.x, self.times = error, x, times

    def rows(self, point: Floats) -> tuple[Floats, Floats]:
        """The log-likelihood of each row (n,), and its slope in the point (n, p + 1)."""
        sigma, mean = float(np.exp(point[-1])), self.x @ point[:-1]
        low, high = self.times
        exact = self.times.exact
        with np.errstate(invalid="ignore"):
            z_low, z_high = (low - mean) / sigma, (high - mean) / sigma
        # From the tail in which no digits cancel.
        upper_tail = z_low > 0
        p = np.where(
            upper_tail, self.error.sf(z_low) - self.error.sf(z_high), self.error.cdf(z_high) - self.error.cdf(z_low)
        )
        p = np.maximum(p, 1e-300)
        z = np.where(exact, z_low, 0.0)
        at = np.where(exact, low, 0.0)
        value = np.where(exact, self.error.log_pdf(z) - point[-1] - at, np.log(p))
        f_low, f_high = self._density(z_low), self._density(z_high)
        by_mean = np.where(exact, -self.error.log_pdf_slope(z), (f_low - f_high) / p) / sigma
        by_log_sigma = np.where(
            exact,
            -1 - z * self.error.log_pdf_slope(z),
            (_times(z_low, f_low) - _times(z_high, f_high)) / p,
        )
        return value, np.column_stack([by_mean[:, None] * self.x, by_log_sigma])

    def _density(self, z: Floats) -> Floats:
        finite = np.isfinite(z)
        return np.where(finite, self.error.pdf(np.where(finite, z, 0.0)), 0.0)

    def deviance(self, point: Floats) -> tuple[float, Floats]:
        """-2 log likelihood, and its gradient."""
        value, slope = self.rows(point)
        return -2 * float(value.sum()), -2 * slope.sum(axis=0)

    def optimum(self) -> tuple[Floats, bool]:
        from scipy.optimize import minimize

        low, high = self.times
        middle = np.where(np.isfinite(low) & np.isfinite(high), (low + high) / 2, np.where(np.isfinite(low), low, high))
        known = np.isfinite(middle)
        beta = np.linalg.lstsq(self.x[known], middle[known], rcond=None)[0]
        spread = float(np.std(middle[known] - self.x[known] @ beta))
        start = np.append(beta, np.log(max(spread, 0.1)))
        found = minimize(self.deviance, start, jac=True, method="BFGS", options={"gtol": 1e-6, "maxiter": 500})
        point = found.x
        for _ in range(5):
            hessian, slope = hessian_of(lambda at: self.deviance(at)[1], point), self.deviance(point)[1]
            step = np.linalg.lstsq(hessian, slope, rcond=1e-10)[0]
            if not np.isfinite(step).all() or self.deviance(point - step)[0] > self.deviance(point)[0] + 1e-9:
                break
            point = point - step
            if np.abs(step).max() < 1e-10:
                break
        return point, bool(np.abs(self.deviance(point)[1]).max() < 1e-3)


def _times(z: Floats, density: Floats) -> Floats:
    """z f(z), which is 0 at infinity."""
    return np.where(np.isfinite(z), z, 0.0) * density


@dataclass(frozen=True, eq=False, repr=False)
class IntervalRegression(WaldTested):
    """A fitted regression of interval-censored times. Matrices are in the order of `coefficients["term"]`.

    Attributes:
        frame: the fitted data, with `n_dropped` and `notices`.
        x: the design, without collinear columns.
        dropped: names of these columns.
        terms: the formula.
        distribution: "lognormal", "loglogistic" or "weibull".
        converged: whether the slope of the likelihood is 0 at the estimates.
    """

    frame: ModelFrame
    x: Design
    dropped: tuple[str, ...]
    terms: str
    distribution: str
    _likelihood: _Likelihood
    _point: Floats
    _r: Floats
    converged: bool
    _clusters: Floats | None

    @property
    def formula(self) -> str:
        return self.terms

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about rows and columns that were left out, and about fits without an optimum."""
        said = list(self.frame.notices)
        if self.dropped:
            said.append(f"collinear coefficients were left out: {', '.join(self.dropped)}")
        if not self.converged:
            said.append("the fit did not converge: the intervals may all overlap, so that the scale goes to 0")
        return tuple(said)

    @property
    def n_censored(self) -> dict[str, int]:
        """Number of rows by what is known: exact, interval, left, right."""
        low, high = self._likelihood.times
        exact, left, right = low == high, np.isneginf(low), np.isposinf(high)
        return {"exact": int(exact.sum()), "interval": int((~exact & ~left & ~right).sum()), "left": int((left & ~right).sum()),
                "right": int((right & ~left).sum())}  # fmt: skip

    @property
    def log_lik(self) -> float:
        return -self._likelihood.deviance(self._point)[0] / 2

    @property
    def aic(self) -> float:
        return -2 * self.log_lik + 2 * len(self._point)

    @property
    def scale(self) -> float:
        """σ, the scale of the errors of log times."""
        return float(np.exp(self._point[-1]))

    @cached_property
    def beta(self) -> Floats:
        """The coefficients (p,): the change of log times."""
        return np.linalg.solve(self._r, self._point[:-1])

    @cached_property
    def _covariance(self) -> Floats:
        """The covariance of (β, log σ); with clusters, Huber and White's sandwich of the clusters' summed scores."""
        inverse = 2 * np.linalg.inv(hessian_of(lambda at: self._likelihood.deviance(at)[1], self._point))
        if self._clusters is not None:
            scores = self._likelihood.rows(self._point)[1]
            sums = np.array([scores[self._clusters == code].sum(axis=0) for code in np.unique(self._clusters)])
            inverse = inverse @ (sums.T @ sums) @ inverse
        to_beta = np.eye(len(self._point))
        to_beta[:-1, :-1] = np.linalg.inv(self._r)
        return to_beta @ inverse @ to_beta.T

    @property
    def vcov(self) -> Floats:
        """The covariance of the coefficients (p, p)."""
        return self._covariance[:-1, :-1]

    @property
    def log_scale_std_error(self) -> float:
        """Standard error of log σ."""
        return float(np.sqrt(self._covariance[-1, -1]))

    def confint(self, level: float = 0.95, method: str = "wald") -> pl.DataFrame:
        """term, lower, upper: intervals of the coefficients.

        Args:
            level: the coverage, such as 0.95.
            method: "wald", or "profile": all values that a likelihood-ratio test does not reject. The latter takes rows as
                independent, whatever the clusters.

        Raises:
            StatisticsError: the level is not between 0 and 1, or the method is unknown.
        """
        if method not in ("wald", "profile"):
            raise StatisticsError(f"unknown method {method!r} of intervals: choose 'wald' or 'profile'")
        wald = super().confint(level)
        if method == "wald":
            return wald
        rise = normal_quantile((1 + level) / 2) ** 2
        rows = np.column_stack([np.linalg.inv(self._r), np.zeros(len(self.beta))])
        steps = self.coefficients["std_error"].to_numpy()
        ends = {
            name: [self._bound(side, row, rise, step) for row, step in zip(rows, steps, strict=True)]
            for name, side in (("lower", -1), ("upper", 1))
        }
        return pl.DataFrame({"term": wald["term"], **ends})

    def _bound(self, side: int, row: Floats, rise: float, step: float) -> float:
        return extreme_in_region(side, lambda x: float(row @ x), self._likelihood.deviance, self._point, rise, step)

    def predict(self, new: Any = None, quantile: float = 0.5) -> Floats:
        """Predict a quantile of the time for the rows of `new`, or for the fitted rows; NaN if a value is missing.

        Raises:
            StatisticsError: a column is missing, a level is not in the fitted data, or the quantile is not between 0 and 1.
        """
        if not 0 < quantile < 1:
            raise StatisticsError(f"a quantile must be between 0 and 1, such as 0.5; it is {quantile}")
        matrix = self.x.matrix
        if new is not None:
            formula, table = self.frame.formula, Table(new)
            values = self.frame.of_new(table, formula.variables)
            matrix = design(values, formula.intercept, formula.terms, table.height).keep(self.x.places).matrix
        z = DISTRIBUTIONS[self.distribution].quantile(quantile)
        return np.exp(matrix @ self.beta + self.scale * z)

    def summary(self) -> str:
        """The fit as text, much as R's survreg prints it."""
        from headway.stats.r_format import coefficient_table

        known = ", ".join(f"{number} {kind}" for kind, number in self.n_censored.items() if number)
        table = self.coefficients
        lines = [
            f"Times in intervals: {self.formula}",
            f"Distribution: {self.distribution}; {self.n_obs} rows: {known}",
            *(["Standard errors allow for clusters (robust)"] if self._clusters is not None else []),
            "",
            *coefficient_table(
                table["term"].to_list(),
                [("Value", table["estimate"].to_list()), ("Std. Error", table["std_error"].to_list())],
                ("z", table["z"].to_list()),
                ("p", table["p"].to_list()),
            ),
            "",
            f"Scale: {self.scale:.4g}    Log-likelihood: {self.log_lik:.4g}    AIC: {self.aic:.4g}",
        ]
        return "\n".join([*lines, *self.notices])

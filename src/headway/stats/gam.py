"""Generalised additive models, with smoothing chosen from the data, as in mgcv.

    fit = gam("y ~ g + s(x, k=10) + te(x, z)", data, method="REML")
    fit.smooths                       term, edf, ref_df, f, p
    fit.predict(new, se=True)         fit, se
    fit.interval(new)                 fit, se, lower, upper of the whole curve at once
    fit.derivative(new, "s(x)")       x, derivative, se, lower, upper

Shapes: n rows, p coefficients. X = [parametric | smooths], b = argmin |y - Xb|² + Σ λ_j b'S_j b for a Gaussian response.
`smooth_terms.py` makes the columns of the smooths, `smoothing.py` and `laml.py` choose λ, `smooth_tests.py` tests the terms.
Sources: Wood (2003) JRSS-B 65; (2004) JASA 99; (2011) JRSS-B 73; (2013) Biometrika 100. `docs/statistics.md` has the algebra.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headway.errors import StatisticsError
from headway.stats.additive_fits import Estimates, Parts, family_estimates, gaussian_estimates
from headway.stats.autocorrelation import Autocorrelation, first_rows, lag_one, most_likely, require_rho
from headway.stats.bands import N_DRAWS, Coverage, band, draws, require_level, standard_errors
from headway.stats.columns import Factor, Table, Value
from headway.stats.distributions import normal_p, t_p
from headway.stats.families import SEPARATED, SmoothFamily, separated, smooth_family_of
from headway.stats.formula import parse
from headway.stats.model_frame import Design, ModelFrame, design, model_frame
from headway.stats.r_format import coefficient_table, signif
from headway.stats.shown import Shown
from headway.stats.smooth_terms import SmoothTerm
from headway.stats.smooth_tests import PenalisedFit, SmoothTest, effects_test, wood_test
from headway.stats.summaries import coefficient_lines
from headway.stats.term_bases import as_rows

Array = NDArray[np.float64]

METHODS = ("GCV.Cp", "REML")


@dataclass(frozen=True, eq=False, repr=False)
class AdditiveModel(Shown):
    """A fitted GAM.

    Attributes:
        frame: the fitted data, with `n_dropped` and `notices`.
        method: "GCV.Cp" or "REML".
        family: distribution of the response, with its link.
        errors: their autocorrelation `rho`, with the first rows of runs.
        parts: the parametric design and the smooths.
        estimates: smoothing parameters, coefficients, and matrices that follow from them.
    """

    frame: ModelFrame
    method: str
    family: SmoothFamily
    errors: Autocorrelation
    parts: Parts
    estimates: Estimates

    @property
    def x(self) -> Design:
        """Parametric part of the design, without collinear columns."""
        return self.parts.x

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of collinear columns that were left out."""
        return self.parts.dropped

    @property
    def terms(self) -> tuple[SmoothTerm, ...]:
        """The smooths."""
        return self.parts.terms

    @property
    def log_sp(self) -> Array:
        """Log smoothing parameters on mgcv's scale, one for each penalty of each smooth."""
        return self.estimates.log_sp

    @property
    def score(self) -> float:
        """Minimum of GCV, or of minus the restricted log-likelihood."""
        return self.estimates.score

    @property
    def converged(self) -> bool:
        """Whether the minimisation converged."""
        return self.estimates.converged

    @property
    def coefficients(self) -> Array:
        """(p,), the parametric ones first."""
        return self.estimates.coefficients

    @property
    def shrinkage(self) -> Array:
        """F = (X'WX + S)⁻¹X'WX, whose diagonal are the effective degrees of freedom of the coefficients."""
        return self.estimates.shrinkage

    @cached_property
    def vcov(self) -> Array:
        """(p, p), Bayesian covariance (X'WX + S)⁻¹φ of the coefficients, the basis of all standard errors."""
        return self.estimates.unscaled * self.scale

    @cached_property
    def fitted(self) -> Array:
        """The expected response of the fitted rows (n_obs,)."""
        return self.family.mean(self.parts.matrix @ self.coefficients)

    @cached_property
    def scale(self) -> float:
        """Estimate of the scale φ of the variance; 1 for families without one."""
        if self.rho:
            return float(self.standardised_residuals @ self.standardised_residuals) / self.df_resid
        return self.family.scale(self.frame.y, self.fitted, self.parts.prior, self.df_resid)

    @property
    def extra(self) -> float | None:
        """The family's own parameter besides the mean, such as the precision of the beta family; None if it has none."""
        known = self.estimates.extra
        return None if known is None or self.family.extra_is_scale else float(np.exp(known))

    @property
    def test_df(self) -> float:
        """Degrees of freedom of tests and intervals: those of the residuals, or infinite if the scale is known."""
        return self.df_resid if self.family.extra_is_scale else float("inf")

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about rows and columns that were left out, and about problems of the fit."""
        found = self.frame.notices
        if self.dropped:
            found += (f"collinear coefficients were left out: {', '.join(self.dropped)}",)
        if separated(self.family, self.fitted):
            found += (SEPARATED,)
        if not self.converged:
            found += (f"the search for the smoothing parameters ({self.method}) did not converge",)
        return found

    @property
    def residuals(self) -> Array:
        return self.frame.y - self.fitted

    @property
    def rho(self) -> float:
        """Autocorrelation of the errors of neighbouring rows; 0 if they are independent."""
        return self.errors.rho

    @property
    def standardised_residuals(self) -> Array:
        """Residuals of equal variance, freed of the autocorrelation `rho` (n_obs,).

        Autocorrelation that is left is a sign that `rho` does not suffice.
        """
        return self.errors.whitened(self.frame.weighted(self.residuals))

    @property
    def edf(self) -> float:
        """Effective degrees of freedom of the whole model, tr F."""
        return float(np.trace(self.shrinkage))

    @property
    def df_resid(self) -> float:
        return self.n_obs - self.edf

    @property
    def r_sq_adj(self) -> float:
        """1 - residual variance / variance of y, each by its degrees of freedom."""
        y = self.frame.y
        around = self.frame.weighted(y - np.average(y, weights=self.frame.weights))
        ratio = np.var(self.frame.weighted(self.residuals), ddof=1) / np.var(around, ddof=1)
        return float(1 - ratio * (self.n_obs - 1) / self.df_resid)

    @property
    def deviance(self) -> float:
        """Twice the log density that a perfect fit would add, times the scale: for a Gaussian the residual sum of squares."""
        return self.family.deviance(self.frame.y, self.fitted, self.parts.prior, self.estimates.extra)

    @property
    def deviance_explained(self) -> float:
        """Share of the null model's deviance that the fit explains.

        The null model is the mean, or a linear predictor of 0 for a formula without an intercept, even if factor levels
        replace it.
        """
        y, prior = self.frame.y, self.parts.prior
        mean = np.average(y, weights=prior) if self.frame.formula.intercept else self.family.mean(np.zeros(1))[0]
        null = self.family.deviance(y, np.full_like(y, mean), prior, self.estimates.extra)
        return float(1 - self.deviance / null)

    @cached_property
    def parametric(self) -> pl.DataFrame:
        """term, estimate, std_error, t, p; z instead of t for families whose scale is known."""
        count = len(self.x.names)
        estimate = self.coefficients[:count]
        std_error = np.sqrt(np.diag(self.vcov)[:count])
        t = estimate / std_error
        p = t_p(t, self.test_df) if np.isfinite(self.test_df) else normal_p(t)
        columns = {"estimate": estimate, "std_error": std_error, self._statistic: t, "p": p}
        return pl.DataFrame({"term": list(self.x.names), **columns}, schema_overrides={"term": pl.String})

    @property
    def _statistic(self) -> str:
        return "t" if np.isfinite(self.test_df) else "z"

    @cached_property
    def smooths(self) -> pl.DataFrame:
        """term, edf, ref_df, f, p; chi2 instead of f for families whose scale is known. They test the term against zero.

        `ref_df` is edf1 = tr(2F - FF) of the term, or, for a term that is penalised as a whole, the rank of its test.
        """
        edf = np.diag(self.shrinkage)
        known = not np.isfinite(self.test_df)
        rows = [
            (term.label, float(edf[term.where].sum()), test.ref_df, test.f * (test.ref_df if known else 1), test.p)
            for term, test in zip(self.terms, self.smooth_tests, strict=True)
        ]
        columns = ("edf", "ref_df", "chi2" if known else "f", "p")
        return pl.DataFrame(rows, schema={"term": pl.String} | dict.fromkeys(columns, pl.Float64), orient="row")

    def edf_1(self, term: SmoothTerm) -> float:
        """edf1 of a term, at most its number of coefficients."""
        f, where = self.shrinkage, term.where
        edf1 = 2 * np.diag(f) - np.einsum("ij,ji->i", f, f)
        return float(min(edf1[where].sum(), term.size))

    @cached_property
    def smooth_tests(self) -> list[SmoothTest]:
        """Wood's test of each term, with the alternative value of its F."""
        return [self._effects_test(term) if term.null_dim == 0 else self._curve_test(term) for term in self.terms]

    def _curve_test(self, term: SmoothTerm) -> SmoothTest:
        where = term.where
        covariance = self.vcov[where, where]
        return wood_test(
            self.estimates.r[:, where], self.coefficients[where], covariance, self.edf_1(term), self.test_df
        )

    def _effects_test(self, term: SmoothTerm) -> SmoothTest:
        others = [other.where for other in self.terms if other.is_effects and other is not term]
        fit = PenalisedFit(
            self.estimates.r, self.estimates.roots, self.coefficients, self.vcov, self.scale, self.test_df
        )
        return effects_test(fit, term.where, others)

    def predict(self, new: Any = None, se: bool = False, *, link: bool = False) -> Any:
        """Predict the expected response for the rows of `new`, or for the fitted rows; NaN if a value is missing.

        With `se`, return a frame with the columns fit and se, the standard error of the expected response. With `link`, both
        are those of the linear predictor, such as log-odds.

        Raises:
            StatisticsError: a column is missing, or a factor has a level that is not in the fitted data.
        """
        matrix = self._matrix(self._values(new))
        eta = matrix @ self.coefficients
        fit = eta if link else self.family.mean(eta)
        if not se:
            return fit
        std_error = standard_errors(matrix, self.vcov)
        return pl.DataFrame({"fit": fit, "se": std_error if link else std_error * self.family.slope(fit)})

    def interval(
        self,
        new: Any = None,
        level: float = 0.95,
        *,
        simultaneous: bool = True,
        n_draws: int = N_DRAWS,
        seed: int = 0,
    ) -> pl.DataFrame:
        """Interval of the expected response in the rows of `new`: fit, se, lower, upper.

        For other families than the Gaussian, the interval of the linear predictor is turned into one of the response; `se` is
        that of the linear predictor.

        Args:
            new: rows with the formula's variables, such as a fine grid; None for the fitted rows.
            level: coverage.
            simultaneous: whether all rows together have that coverage, or each row by itself.
            n_draws: number of draws for the critical value of simultaneous intervals.
            seed: seed of the draws.

        Raises:
            StatisticsError: a column is missing, a level is not in the fitted data, or `level` is invalid.
        """
        require_level(level)
        matrix = self._matrix(self._values(new))
        critical = Coverage(level, simultaneous, n_draws, seed).critical(matrix, self.vcov, self.test_df)
        of_link = band("fit", matrix, self.coefficients, self.vcov, critical)
        return of_link.with_columns(
            pl.Series(name, self.family.mean(of_link[name].to_numpy())) for name in ("fit", "lower", "upper")
        )

    def smooth(
        self,
        term: str,
        new: Any = None,
        level: float = 0.95,
        *,
        simultaneous: bool = False,
        n_draws: int = N_DRAWS,
        seed: int = 0,
    ) -> pl.DataFrame:
        """A smooth by itself, a part of the linear predictor: columns of its variables, estimate, se, lower, upper.

        Curves sum to zero over the fitted rows, and their intervals know it: where a curve is nearly a straight line, they
        are too short near its middle. `interval` has the intercept in it and is not.

        Args:
            term: the smooth's name in `smooths`, such as "s(x)".
            new: rows with the smooth's variables (and `by`), such as a fine grid; None for the fitted rows.
            level: coverage.
            simultaneous: whether all rows together have that coverage, or each row by itself.
            n_draws: number of draws for the critical value of simultaneous intervals.
            seed: seed of the draws.

        Raises:
            StatisticsError: there is no such smooth, a column is missing, or `level` is invalid.
        """
        return self._band_of("estimate", self._term(term), new, {}, Coverage(level, simultaneous, n_draws, seed))

    def derivative(
        self,
        new: Any,
        term: str,
        order: int = 1,
        level: float = 0.95,
        *,
        of: str | None = None,
        simultaneous: bool = False,
        n_draws: int = N_DRAWS,
        seed: int = 0,
    ) -> pl.DataFrame:
        """Derivative of a smooth by a variable: columns of the term's variables, derivative, se, lower, upper.

        Args:
            new: rows with the smooth's variables (and `by`), such as a fine grid; None for the fitted rows.
            term: the smooth's name in `smooths`, such as "s(x)".
            order: 1 or 2.
            level: coverage.
            of: the variable to differentiate by, if the smooth has several numeric ones.
            simultaneous: whether all rows together have that coverage, or each row by itself.
            n_draws: number of draws for the critical value of simultaneous intervals.
            seed: seed of the draws.

        Raises:
            StatisticsError: there is no such smooth or variable, or the order or level is invalid.
        """
        smooth = self._term(term)
        if order not in (1, 2):
            raise StatisticsError(f"there is no derivative of order {order} here: choose 1 or 2")
        orders = {self._numeric(smooth, of): order}
        return self._band_of("derivative", smooth, new, orders, Coverage(level, simultaneous, n_draws, seed))

    def draws(self, n: int = 1000, seed: int = 0) -> Array:
        """(n, p) posterior draws of the coefficients, given the smoothing parameters and the scale: N(b, `vcov`)."""
        return draws(self.coefficients, self.vcov, n, seed)

    def _band_of(
        self, name: str, smooth: SmoothTerm, new: Any, orders: dict[str, int], coverage: Coverage
    ) -> pl.DataFrame:
        """A smooth, or its derivative of `orders` by variable, with intervals."""
        require_level(coverage.level)
        where, values = smooth.where, self._values(new, smooth.needed)
        matrix, covariance = smooth.columns(values, orders), self.vcov[where, where]
        critical = coverage.critical(matrix, covariance, self.test_df)
        estimates = band(name, matrix, self.coefficients[where], covariance, critical)
        return pl.DataFrame(_shown(smooth, values)).hstack(estimates)

    def _term(self, label: str) -> SmoothTerm:
        """The smooth with that label.

        Raises:
            StatisticsError: there is none, or there are several.
        """
        found = [one for one in self.terms if one.label == label]
        if not found:
            raise StatisticsError(f"the model has no smooth {label!r}; it has {', '.join(t.label for t in self.terms)}")
        if len(found) > 1:
            raise StatisticsError(
                f"the model has {len(found)} smooths called {label!r}: rename a column that `by` names"
            )
        return found[0]

    def _numeric(self, smooth: SmoothTerm, of: str | None) -> str:
        """The numeric variable `of` of a smooth; None if it has only one."""
        known = [name for name in smooth.variables if not isinstance(self.frame.values[name], Factor)]
        if of is None and len(known) == 1:
            return known[0]
        if of not in known:
            choice = f"choose {' or '.join(map(repr, known))}" if known else "it has none"
            raise StatisticsError(f"{smooth.label} has no numeric variable {of!r} to differentiate by: {choice}")
        return of

    def summary(self) -> str:
        """The fit as text, in the layout of mgcv's summary."""
        own = f" ({self.family.extra_name} {_g(self.extra, 4)})" if self.extra is not None else ""
        lines = [
            f"Family: {self.family.name}{own}",
            f"Link function: {self.family.link}",
            "",
            "Formula:",
            self.formula,
            "",
        ]
        parametric, smooths = self.parametric, self.smooths
        if parametric.height:
            lines += ["Parametric coefficients:", *coefficient_lines(parametric, self._statistic), ""]
        statistic = ("F", "f") if "f" in smooths.columns else ("Chi.sq", "chi2")
        lines += ["Approximate significance of smooth terms:"]
        lines += coefficient_table(
            smooths["term"].to_list(),
            [("edf", smooths["edf"].to_list()), ("Ref.df", smooths["ref_df"].to_list())],
            (statistic[0], smooths[statistic[1]].to_list()),
            ("p-value", smooths["p"].to_list()),
        )
        name = {"GCV.Cp": "GCV", "REML": "-REML"}[self.method]
        lines += [
            "",
            f"R-sq.(adj) = {_g(self.r_sq_adj, 3)}   Deviance explained = {_g(100 * self.deviance_explained, 3)}%",
            f"{name} = {_g(self.score, 5)}  Scale est. = {_g(self.scale, 5)}  n = {self.n_obs}",
        ]
        lines += [self.errors.words] if self.rho else []
        return "\n".join([*lines, *self.notices])

    def _values(self, new: Any, variables: tuple[str, ...] | None = None) -> dict[str, Value]:
        if new is None:
            return self.frame.values
        return self.frame.of_new(Table(new), variables or self.frame.formula.variables)

    def _matrix(self, values: dict[str, Value]) -> Array:
        formula = self.frame.formula
        n_rows = len(as_rows(next(iter(values.values())))) if values else self.n_obs
        full = design(values, formula.intercept, formula.terms, n_rows)
        parametric = full.keep(self.x.places).matrix
        return np.hstack([parametric, *(term.columns(values) for term in self.terms)])


def gam(
    formula: str,
    data: Any,
    method: Literal["GCV.Cp", "REML"] | None = None,
    *,
    family: str = "gaussian",
    weights: str | None = None,
    rho: float | Literal["estimate", "REML"] = 0.0,
    ar_start: str | None = None,
) -> AdditiveModel:
    """Fit a generalised additive model.

    Args:
        formula: such as "y ~ s(x, k=10)", "y ~ g + s(x, by=g)" or "y ~ te(x, z) + s(run, bs='re')".
            `s(x)` is a curve; `k` (default 10) is its largest dimension. `bs` is "tp" (thin-plate regression spline), "cr"
            (cubic regression spline) or "cc" (cyclic: the ends meet).
            `s(g, bs="re")` has a random effect for each level of g, `s(g, x, bs="re")` a random slope of x, and
            `s(x, g, bs="fs")` a random curve, all with the same smoothing.
            `te(x, z)` is a surface, and `ti(x, z)` what x and z do together beyond `s(x) + s(z)`; `k` (default 5) and `bs`
            ("cr", "cc", "tp") are one value or one for each variable, such as `k=c(5, 8)`.
            `by` gives each level of a factor its own curve (for an ordered factor, each level but the first), or
            multiplies the curve by a number.
        data: a polars or pandas data frame. Rows with a missing value in a column of the formula are left out.
        method: criterion for the smoothing parameters: generalised cross-validation ("GCV.Cp", the default for a Gaussian
            response), or restricted maximum likelihood ("REML", the only one for other families).
        family: distribution of the response: "gaussian", "binomial" (0 or 1, or a share of `weights`; logit link),
            "poisson" (log), "gamma" (positive; log) or "beta" (strictly between 0 and 1; logit).
        weights: name of the column with each row's number of trials (binomial), or with prior weights.
        rho: autocorrelation of the errors of neighbouring rows, as in mgcv's `bam`. Rows are in order of time within runs.
            "estimate" takes the lag-1 autocorrelation of the residuals of a fit with independent errors, which is too low
            if a curve has followed the errors. "REML" takes the value of largest restricted likelihood.
        ar_start: name of a column of true and false, true in the first row of each run; None if the table is one run.

    Raises:
        StatisticsError: the model cannot be fitted. The message says which part of the formula or the data is wrong.
    """
    distribution = smooth_family_of(family)
    chosen = method or ("GCV.Cp" if family == "gaussian" else "REML")
    _require_method(chosen, family, rho)
    frame = _frame(formula, data, weights)
    starts = first_rows(data, ar_start, frame.rows)
    parts = Parts.of(frame)
    distribution.require(frame.y, parts.prior, str(frame.formula.response))

    def fit(correlation: float, source: str) -> AdditiveModel:
        errors = Autocorrelation(correlation, starts, source)
        if family == "gaussian":
            return AdditiveModel(frame, chosen, distribution, errors, parts, gaussian_estimates(parts, chosen, errors))
        return AdditiveModel(frame, chosen, distribution, errors, parts, family_estimates(parts, distribution))

    if rho == "estimate":
        return fit(lag_one(fit(0.0, "given").residuals, starts), "estimate")
    if rho == "REML":
        return fit(most_likely(lambda at: fit(at, "REML").score), "REML")
    return fit(float(rho), "given")


def _require_method(method: str, family: str, rho: float | str) -> None:
    """Check that the smoothing criterion and the errors suit the family.

    Raises:
        StatisticsError: they do not.
    """
    if method not in METHODS:
        raise StatisticsError(f"there is no method {method!r} for a GAM; choose {' or '.join(map(repr, METHODS))}")
    require_rho(rho, method)
    if family != "gaussian" and method != "REML":
        raise StatisticsError(f'the family {family!r} needs method="REML", and the method is {method!r}')
    if family != "gaussian" and rho != 0:
        raise StatisticsError(
            f"autocorrelated errors (rho) are those of a Gaussian response, and the family is {family!r}"
        )


def _frame(formula: str, data: Any, weights: str | None) -> ModelFrame:
    """The variables of an additive model.

    Raises:
        StatisticsError: the formula is no formula of an additive model, or the data do not fit it.
    """
    parsed = parse(formula, Table(data).names)
    parsed.refuse_bars("gam")
    if not parsed.smooths:
        raise StatisticsError(f"{formula!r} has no smooth: write s(x) for a curve of x, or use ols for straight lines")
    parsed.refuse_offsets("gam")
    frame = model_frame(parsed, data, weights)
    if np.ptp(frame.y) == 0:
        raise StatisticsError(f"the response {parsed.response} does not vary: it is {frame.y[0]:g} in every row")
    return frame


def _shown(smooth: SmoothTerm, values: dict[str, Value]) -> dict[str, Any]:
    """The variables of a smooth as columns of a frame."""
    return {name: _labels(values[name]) for name in smooth.variables}


def _labels(value: Value) -> Any:
    if not isinstance(value, Factor):
        return value
    levels = np.array([*value.levels, None], dtype=object)
    return levels[value.codes].tolist()


def _g(value: float, digits: int) -> str:
    return signif([value], digits)[0]

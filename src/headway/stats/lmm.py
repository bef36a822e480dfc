"""Linear mixed models, fitted as in lme4 and tested as in lmerTest.

    fit = lmm("Reaction ~ Days + (Days | Subject)", data)
    print(fit.summary())

`deviance.py` has the algebra. docs/statistics.md has the sources and the agreement with R.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.stats.bands import require_level
from headway.stats.columns import Table
from headway.stats.deviance import Shape, State
from headway.stats.distributions import f_p, normal_quantile, t_p, t_quantile
from headway.stats.explained import RSquared, Variances, variances
from headway.stats.formula import parse
from headway.stats.identifiability import undetermined
from headway.stats.kenward_roger import KenwardRoger
from headway.stats.likelihood_intervals import bootstrap_intervals, profile_intervals
from headway.stats.model_frame import Design, ModelFrame, design, model_frame, without_collinear
from headway.stats.newton import minimise
from headway.stats.prediction_intervals import Effects, Rows, degrees_of_freedom, relative_variance
from headway.stats.quantiles import Quantiles, quantiles
from headway.stats.random_effects import (
    SINGULAR,
    RandomTerm,
    any_singular,
    correlations_of,
    covariances_of,
    levels_of,
    products,
    random_terms,
    variances_of,
)
from headway.stats.satterthwaite import Satterthwaite, type_three
from headway.stats.shown import Reported
from headway.stats.summaries import (
    coefficient_lines,
    correlation_lines,
    criterion_lines,
    group_line,
    quantile_lines,
    random_lines,
)

DF_METHODS = ("satterthwaite", "kenward-roger")


def lmm(formula: str, data: Any, method: str = "REML", *, weights: str | None = None) -> MixedModel:
    """Fit a linear mixed model.

    Args:
        formula: such as "Reaction ~ Days + (Days | Subject)".
        data: a polars or pandas data frame. Rows with a missing value in a column of the formula are left out.
        method: "REML" or "ML".
        weights: name of a column of prior weights w: the residual variance of a row is σ² / w.

    Raises:
        StatisticsError: the model cannot be fitted. The message says which part of the formula or the data is wrong.
    """
    if method not in ("REML", "ML"):
        raise StatisticsError(f'the method is {method!r}: choose "REML" or "ML"')
    parsed = parse(formula, Table(data).names)
    parsed.refuse_smooths("lmm")
    if not parsed.bars:
        raise StatisticsError(f"the formula {formula!r} has no random term, such as (1 | group): add one, or use ols")
    return fit_frame(model_frame(parsed, data, weights), method)


def fit_frame(frame: ModelFrame, method: str) -> MixedModel:
    """Fit the model of a frame by "REML" or "ML".

    Raises:
        StatisticsError: the model cannot be fitted. The message says which part of the formula or the data is wrong.
    """
    formula = frame.formula
    x, dropped = without_collinear(frame.design(formula.intercept, formula.terms))
    n, p = x.matrix.shape
    if n <= p:
        raise StatisticsError(
            f"the table has {n} complete rows for {p} fixed effects. Give more rows, or fewer effects"
        )
    if np.ptp(frame.y) == 0:
        raise StatisticsError(f"the response {formula.response} does not vary: it is {frame.y[0]:g} in every row")
    terms = random_terms(frame)

    y = frame.weighted(frame.target)
    basis, r = np.linalg.qr(frame.weighted(x.matrix))
    along = basis.T @ y
    rest = y - basis @ along
    again = basis.T @ rest  # a second projection makes the rest orthogonal to X up to rounding
    rest -= basis @ again
    norm = float(np.linalg.norm(rest))
    if norm <= 1e-12 * np.linalg.norm(y):
        raise StatisticsError(f"the fixed effects fit {formula.response} without residual: nothing is left to model")
    cross = products(_weighted(frame, terms), np.column_stack([basis, rest / norm]))
    shape = Shape(tuple(t.n_effects for t in terms), tuple(t.n_levels for t in terms))
    state, converged = _optimum(lambda theta: State(cross, shape, theta, method == "REML"), shape)
    return MixedModel(frame, x, dropped, tuple(terms), method, state, norm, r, along + again, converged)


def _weighted(frame: ModelFrame, terms: Sequence[RandomTerm]) -> list[RandomTerm]:
    return [replace(term, columns=frame.weighted(term.columns)) for term in terms]


def _optimum(at: Any, shape: Shape) -> tuple[State, bool]:
    """Minimise the deviance. Variances that are 0 up to rounding become exactly 0."""
    state, converged, _ = minimise(at, shape.start())
    diagonal = shape.is_diagonal
    for entry in np.flatnonzero(diagonal & (np.abs(state.theta) < SINGULAR)):
        theta = state.theta.copy()
        theta[entry] = 0.0
        rounded = at(theta)
        if rounded.deviance <= state.deviance + 1e-9:
            state = rounded
    # The deviance may have a second minimum where all variances of a term are 0.
    for term in range(len(shape.n_effects)):
        own = np.array([entry[0] == term for entry in shape.entries])
        edge = at(np.where(own, 0.0, state.theta))
        if edge.deviance < state.deviance - 1e-7:
            state, converged, _ = minimise(at, edge.theta)
    return state, converged


@dataclass(frozen=True, eq=False, repr=False)
class MixedModel(Reported):
    """A fitted linear mixed model. Matrices of fixed effects are in the order of `fixed["term"]`.

    Attributes:
        frame: the fitted data, with `n_dropped` and `notices`.
        x: design of the fixed effects, without collinear columns.
        dropped: names of these columns.
        terms: the random terms, most levels first.
        method: "REML" or "ML".
        state: the deviance at the estimates, in the units of an orthonormal design.
        unit: norm of y after projection on what X leaves, the unit of `state`.
        converged: whether the slope of the deviance is 0 at the estimates.
    """

    frame: ModelFrame
    x: Design
    dropped: tuple[str, ...]
    terms: tuple[RandomTerm, ...]
    method: str
    state: State
    unit: float
    _r: np.ndarray
    _along: np.ndarray
    converged: bool

    # what was fitted ------------------------------------------------------------------------------------------

    @property
    def n_groups(self) -> dict[str, int]:
        """Number of levels of each group."""
        return levels_of(self.terms)

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about rows and columns that were left out, and about singular, undetermined or unconverged fits."""
        said = list(self.frame.notices)
        if self.dropped:
            said.append(f"collinear fixed effects were left out: {', '.join(self.dropped)}")
        if self.singular:
            said.append("boundary (singular) fit: a variance is estimated as 0, or a correlation as -1 or 1")
        if self.undetermined:
            said.append(
                f"the data do not determine the variances of {' and '.join(self.undetermined)}: other values fit as well. "
                "Leave out a redundant term or effect"
            )
        if not self.converged:
            said.append("the fit did not converge, so do not trust the estimates. Are there too many random effects?")
        return tuple(said)

    # the criterion --------------------------------------------------------------------------------------------

    @cached_property
    def criterion(self) -> float:
        """The REML criterion, or the deviance (-2 log likelihood) by ML, at the estimates."""
        units = 2 * self.state.n_free * np.log(self.unit)
        design_volume = 2 * np.sum(np.log(np.abs(np.diag(self._r)))) if self.method == "REML" else 0.0
        return float(self.state.deviance + units + design_volume) - self.frame.log_weights

    @property
    def log_lik(self) -> float:
        """The log-likelihood; for REML, the restricted one."""
        return -self.criterion / 2

    @property
    def n_parameters(self) -> int:
        """Fixed effects, entries of the covariance factors, and σ."""
        return len(self.x.names) + len(self.state.theta) + 1

    @property
    def aic(self) -> float:
        return self.criterion + 2 * self.n_parameters

    @property
    def bic(self) -> float:
        return self.criterion + float(np.log(self.n_obs)) * self.n_parameters

    @property
    def df_resid(self) -> int:
        return self.n_obs - self.n_parameters

    @property
    def sigma(self) -> float:
        """The residual standard deviation."""
        return self.unit * float(np.sqrt(self.state.sigma2))

    # fixed effects --------------------------------------------------------------------------------------------

    @cached_property
    def beta(self) -> np.ndarray:
        """The fixed effects (p,)."""
        return self.beta_at(self.state.beta)

    @cached_property
    def to_beta(self) -> np.ndarray:
        """(p, p) maps the coefficients of the orthonormal design (`state.beta`) to changes of β."""
        return self.unit * np.linalg.inv(self._r)

    def beta_at(self, coefficients: np.ndarray) -> np.ndarray:
        """β (p,) for coefficients (p,) of the orthonormal design."""
        return np.linalg.solve(self._r, self._along + self.unit * coefficients)

    @cached_property
    def _satterthwaite(self) -> Satterthwaite:
        return Satterthwaite(self.state, self.to_beta)

    @cached_property
    def _kenward_roger(self) -> KenwardRoger:
        if self.method != "REML":
            raise StatisticsError(
                'Kenward and Roger\'s method is defined for REML only: fit the model with method="REML"'
            )
        return KenwardRoger(self.state, self.to_beta)

    def inference(self, df: str = "satterthwaite") -> Satterthwaite | KenwardRoger:
        """Covariance of β and degrees of freedom of its combinations.

        Args:
            df: "satterthwaite" or "kenward-roger".

        Raises:
            StatisticsError: the method is unknown, or the fit is by ML and the method needs REML.
        """
        if df not in DF_METHODS:
            raise StatisticsError(f"unknown degrees of freedom {df!r}: choose {' or '.join(map(repr, DF_METHODS))}")
        return self._satterthwaite if df == "satterthwaite" else self._kenward_roger

    @property
    def vcov(self) -> np.ndarray:
        """The covariance of the fixed effects (p, p)."""
        return self._satterthwaite.vcov

    @property
    def correlation(self) -> np.ndarray:
        """The correlation of the fixed effects (p, p)."""
        sd = np.sqrt(np.diag(self.vcov))
        return self.vcov / np.outer(sd, sd)

    @cached_property
    def fixed(self) -> pl.DataFrame:
        """term, estimate, std_error, df, t, p: t tests with Satterthwaite's df."""
        return self.tests()

    def coefficient_tests(self) -> pl.DataFrame:
        """The frame `fixed`."""
        return self.fixed

    def tests(self, df: str = "satterthwaite") -> pl.DataFrame:
        """term, estimate, std_error, df, t, p: t tests of the fixed effects.

        Args:
            df: "satterthwaite", or "kenward-roger", which also corrects the standard errors for small samples (REML only).

        Raises:
            StatisticsError: the method is unknown, or does not suit the fit.
        """
        by = self.inference(df)
        std_error = np.sqrt(np.diag(by.vcov))
        free = by.df(np.eye(len(self.beta)))
        t = self.beta / std_error
        columns = {"estimate": self.beta, "std_error": std_error, "df": free, "t": t, "p": t_p(t, free)}
        return pl.DataFrame({"term": list(self.x.names), **columns}, schema_overrides={"term": pl.String})

    # random effects -------------------------------------------------------------------------------------------

    @cached_property
    def covariances(self) -> dict[str, np.ndarray]:
        """The covariance matrix of each random term's effects, by the term's name."""
        of_unit = covariances_of(self.terms, self._factors)
        return {name: self.sigma**2 * covariance for name, covariance in of_unit.items()}

    @property
    def _factors(self) -> list[np.ndarray]:
        return self.state.shape.factors(self.state.theta)

    @cached_property
    def random(self) -> pl.DataFrame:
        """group, term, variance, sd; the last row is the residual."""
        own = variances_of(self.terms, self.covariances)
        residual = pl.DataFrame([("Residual", None, self.sigma**2)], schema=own.schema, orient="row")
        return pl.concat([own, residual]).with_columns(sd=pl.col("variance").sqrt())

    @cached_property
    def random_correlations(self) -> pl.DataFrame:
        """group, term_1, term_2, correlation; NaN where a variance is 0."""
        return correlations_of(self.terms, self.covariances)

    @cached_property
    def _variances(self) -> Variances:
        factors = self.state.shape.factors(self.state.theta)
        return variances(self.x.matrix @ self.beta, self.terms, factors, self.sigma)

    @property
    def r_squared(self) -> RSquared:
        """Share of variance of the fixed effects (`marginal`), and of fixed and random effects (`conditional`)."""
        return self._variances.r_squared

    @property
    def icc(self) -> float:
        """Intraclass correlation: the random effects' share of the variance that the fixed effects leave."""
        return self._variances.icc

    @cached_property
    def singular(self) -> bool:
        """Whether a variance of a random effect is 0, or a correlation is ±1."""
        return any_singular(self.terms, self._factors)

    @cached_property
    def undetermined(self) -> tuple[str, ...]:
        """Random terms whose variances can be traded for others without changing the fit, as in (1 | g) + (1 | g)."""
        basis, terms = np.linalg.qr(self.frame.weighted(self.x.matrix))[0], _weighted(self.frame, self.terms)
        return tuple(self.terms[number].text for number in undetermined(tuple(terms), self.state, basis))

    @cached_property
    def _modes(self) -> list[np.ndarray]:
        """b̂ = G Z'V⁻¹(y - Xβ̂) of each term, (l, p)."""
        state = self.state
        c = np.append(-state.beta, 1.0)
        factors = state.shape.factors(state.theta)
        triples = zip(factors, state.d, self.terms, strict=True)
        return [self.unit * (d @ c) @ (f @ f.T) / term.scale for f, d, term in triples]

    @cached_property
    def ranef(self) -> pl.DataFrame:
        """group, level, term, value, sd: conditional modes of the random effects and their conditional sd."""
        factors = self.state.shape.factors(self.state.theta)
        frames = []
        for number, (term, factor, modes) in enumerate(zip(self.terms, factors, self._modes, strict=True)):
            g = factor @ factor.T
            # var(b | y) = σ² (G - G K G), for known β and θ
            variance = np.diagonal(g - g @ self.state.own_k(number) @ g, axis1=1, axis2=2)
            sd = self.sigma * np.sqrt(np.maximum(variance, 0)) / term.scale
            frames.append(
                pl.DataFrame(
                    {
                        "group": [term.name] * term.size,
                        "level": np.repeat(np.array(term.group.levels, dtype=object), term.n_effects).tolist(),
                        "term": list(term.effects) * term.n_levels,
                        "value": modes.ravel(),
                        "sd": sd.ravel(),
                    }
                )
            )
        return pl.concat(frames)

    # rows -----------------------------------------------------------------------------------------------------

    @cached_property
    def fitted(self) -> np.ndarray:
        """Xβ̂ + Zb̂ and the offset of the fitted rows (n_obs,)."""
        pieces = (term.times(modes * term.scale) for term, modes in zip(self.terms, self._modes, strict=True))
        return self._population + sum(pieces)

    @property
    def _population(self) -> np.ndarray:
        """Xβ̂ and the offset of the fitted rows (n_obs,)."""
        return self.x.matrix @ self.beta + self.frame.offset

    @property
    def residuals(self) -> np.ndarray:
        """y minus the fitted values (n_obs,)."""
        return self.frame.y - self.fitted

    @cached_property
    def scaled_residuals(self) -> Quantiles:
        """Quantiles of the residuals divided by their standard deviation, σ by the square root of the weight."""
        return quantiles(self.frame.weighted(self.residuals) / self.sigma)

    def predict(self, new: Any = None, random: bool = True, *, interval: str | None = None, level: float = 0.95) -> Any:
        """Predict the expected response for the rows of `new`, or for the fitted rows.

        With `interval="prediction"`, return a frame with fit, se, df, lower, upper: where one more response of each row will
        lie. It covers the residual, the uncertainty of the fixed effects and that of the groups' effects. With `random`, the
        response is one of the row's own groups. Without, it is one of new levels of all groups, whose effects vary too. New
        responses have prior weight 1.

        Args:
            new: a table with the formula's columns. Rows with a missing value give NaN.
            random: whether to add the groups' effects. Without them, the prediction is for the population.
            interval: "prediction", or None for the expected response alone.
            level: coverage of the interval.

        Raises:
            StatisticsError: a column is missing, a level is not in the fitted data, or the interval or level is invalid.
        """
        if interval is not None:
            return self._prediction_interval(new, random, interval, level)
        if new is None:
            return self.fitted if random else self._population
        table = Table(new)
        out = self._fixed_columns(table) @ self.beta + self.frame.offset_of_new(table)
        if random:
            for term, modes in zip(self.terms, self._modes, strict=True):
                columns, codes = self._effect_columns(term, table), self.frame.group_of_new(table, term.bar.group)
                out = out + np.einsum("np,np->n", columns, modes[codes])
        return out

    def _fixed_columns(self, table: Table) -> np.ndarray:
        """The design of the fixed effects in other rows, (rows, p)."""
        formula = self.frame.formula
        values = self.frame.of_new(table, {variable for term in formula.terms for variable in term})
        full = design(values, formula.intercept, formula.terms, table.height)
        return full.keep(self.x.places).matrix

    def _effect_columns(self, term: RandomTerm, table: Table) -> np.ndarray:
        """The columns of a random term in other rows, (rows, p_i)."""
        bar = term.bar
        values = self.frame.of_new(table, {variable for effect in bar.terms for variable in effect})
        return design(values, bar.intercept, bar.terms, table.height).matrix

    def _prediction_interval(self, new: Any, random: bool, interval: str, level: float) -> pl.DataFrame:
        """fit, se, df, lower, upper of one more response."""
        if interval != "prediction":
            raise StatisticsError(f'unknown interval {interval!r}: choose "prediction"')
        require_level(level)
        rows = self._rows(None if new is None else Table(new), random)
        basis, terms = self._orthonormal(self.frame.weighted(self.x.matrix)), _weighted(self.frame, self.terms)
        variance = relative_variance(basis, terms, self.state.shape, rows)
        df = degrees_of_freedom(self.state, self._satterthwaite.a, variance)
        fit, se = self.predict(new, random), self.sigma * np.sqrt(variance(self.state.theta))
        margin = t_quantile((1 + level) / 2, df) * se
        return pl.DataFrame({"fit": fit, "se": se, "df": df, "lower": fit - margin, "upper": fit + margin})

    def _rows(self, table: Table | None, random: bool) -> Rows:
        """The columns of fixed and random effects in other rows, or in the fitted ones."""
        frame, effects = self.frame, []
        for term in self.terms:
            columns = term.columns if table is None else self._effect_columns(term, table) / term.scale
            own = term.group.codes if table is None or not random else frame.group_of_new(table, term.bar.group)
            effects.append(Effects(columns, own if random else None))
        x = self.x.matrix if table is None else self._fixed_columns(table)
        return Rows(self._orthonormal(x), effects)

    def _orthonormal(self, x: np.ndarray) -> np.ndarray:
        """Columns of the orthonormal design, X R⁻¹."""
        return np.linalg.solve(self._r.T, x.T).T

    def simulate(self, n: int, seed: int = 0) -> np.ndarray:
        """Responses (n, n_obs) drawn from the fitted model, with new random effects and residuals."""
        rng = np.random.default_rng(seed)
        mean, out = self._population, np.empty((n, self.n_obs))
        sd = self.sigma / self.frame.weighted(np.ones(self.n_obs))
        factors = self.state.shape.factors(self.state.theta)
        for row in out:
            row[:] = mean + sd * rng.normal(size=self.n_obs)
            for term, factor in zip(self.terms, factors, strict=True):
                effects = self.sigma * rng.normal(size=(term.n_levels, term.n_effects)) @ factor.T
                row += term.times(effects)
        return out

    def refitted(self, *, response: np.ndarray | None = None, method: str | None = None) -> MixedModel:
        """Fit the same model to another response (n_obs,), or by another method.

        Raises:
            StatisticsError: the model cannot be fitted.
        """
        if response is None and method in (None, self.method):
            return self
        frame = self.frame if response is None else replace(self.frame, y=response)
        return fit_frame(frame, method or self.method)

    def state_at(self, theta: np.ndarray) -> State:
        """The deviance and related quantities at other parameters θ of the random effects."""
        return State(self.state.products, self.state.shape, theta, self.state.reml)

    # inference ------------------------------------------------------------------------------------------------

    def confint(
        self, level: float = 0.95, method: str = "satterthwaite", *, n: int = 1000, seed: int = 0
    ) -> pl.DataFrame:
        """term, lower, upper: intervals of the fixed effects.

        Args:
            level: the coverage, such as 0.95.
            method: t intervals with the df of "satterthwaite" or "kenward-roger"; normal ones ("wald"); "profile", by the
                likelihood; or "bootstrap", percentiles over responses simulated from the fit. The last two also give the
                standard deviations and correlations of the random effects, under lme4's names, such as `sd_(Intercept)|g`.
            n: number of bootstrap samples.
            seed: seed of the bootstrap.

        Raises:
            StatisticsError: the level is not between 0 and 1, the method is unknown, or it does not suit the fit.
        """
        require_level(level)
        if method == "profile":
            return profile_intervals(self, level).drop("estimate")
        if method == "bootstrap":
            return bootstrap_intervals(self, level, n, seed).drop("estimate")
        if method not in (*DF_METHODS, "wald"):
            known = ", ".join((*DF_METHODS, "wald", "profile", "bootstrap"))
            raise StatisticsError(f"unknown method {method!r} of intervals: choose one of {known}")
        tests = self.tests("kenward-roger" if method == "kenward-roger" else "satterthwaite")
        tail = (1 + level) / 2
        width = normal_quantile(tail) if method == "wald" else t_quantile(tail, tests["df"].to_numpy())
        margin = width * tests["std_error"].to_numpy()
        return pl.DataFrame({"term": tests["term"], "lower": self.beta - margin, "upper": self.beta + margin})

    def anova(self, df: str = "satterthwaite") -> pl.DataFrame:
        """term, sum_sq, mean_sq, num_df, den_df, f, p: type III F tests of each term.

        Args:
            df: "satterthwaite" or "kenward-roger".

        Raises:
            StatisticsError: collinear columns were left out, so type III tests are not defined; or the method is unknown.
        """
        by = self.inference(df)
        if self.dropped:
            raise StatisticsError(
                f"type III tests are not defined because fixed effects were left out ({', '.join(self.dropped)}): "
                "leave the term out of the formula, or compare two fits by lrt"
            )
        formula = self.frame.formula
        sums, treatment = (
            self.frame.design(formula.intercept, formula.terms, coding) for coding in ("sum", "treatment")
        )
        to_treatment = np.linalg.lstsq(treatment.matrix, self.x.matrix, rcond=None)[0]
        rows = []
        for number, term in enumerate(formula.terms, start=1):
            columns = ([at for at, of in enumerate(coding.assign) if of == number] for coding in (sums, treatment))
            combinations = type_three(sums.matrix, treatment.matrix, *columns) @ to_treatment
            test = by.f_test(combinations, self.beta)
            mean_square = test.f * self.sigma**2
            p = float(f_p(test.f, test.df_1, test.df_2))
            rows.append((":".join(term), mean_square * test.df_1, mean_square, test.df_1, test.df_2, test.f, p))
        return pl.DataFrame(rows, schema=_ANOVA_SCHEMA, orient="row")

    def summary(self) -> str:
        """The fit as text, in lmerTest's layout."""
        by = "REML" if self.method == "REML" else "maximum likelihood"
        criterion = (
            [f"REML criterion at convergence: {self.criterion:.1f}"]
            if self.method == "REML"
            else criterion_lines(self.aic, self.bic, self.log_lik, self.df_resid)
        )
        lines = [
            f"Linear mixed model fit by {by}. t-tests use Satterthwaite's method",
            f"Formula: {self.formula}",
            "",
            *criterion,
            "",
            "Scaled residuals:",
            *quantile_lines(self.scaled_residuals),
            "",
            "Random effects:",
            *random_lines(self.random, self.random_correlations, [term.n_effects for term in self.terms]),
            group_line(self.n_obs, self.n_groups),
            "",
        ]
        fixed = self.fixed
        if fixed.height:
            lines += ["Fixed effects:", *coefficient_lines(fixed, "t")]
        if fixed.height > 1:
            lines += [
                "",
                "Correlation of Fixed Effects:",
                *correlation_lines(fixed["term"].to_list(), self.correlation),
            ]
        return "\n".join([*lines, *self.notices])


_ANOVA_SCHEMA = {
    "term": pl.String,
    "sum_sq": pl.Float64,
    "mean_sq": pl.Float64,
    "num_df": pl.Int64,
    "den_df": pl.Float64,
    "f": pl.Float64,
    "p": pl.Float64,
}

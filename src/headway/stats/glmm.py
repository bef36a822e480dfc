"""Generalised linear mixed models of shares and counts, fitted as by lme4's glmer.

    fit = glmm("correct ~ log10(step) + (1 | run)", data, weights="trials")
    print(fit.summary())

`laplace.py` has the algebra.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.stats.columns import Table
from headway.stats.deviance import Shape
from headway.stats.differences import hessian_of
from headway.stats.families import SEPARATED, Family, family_of, separated
from headway.stats.formula import parse
from headway.stats.laplace import Mode, Problem
from headway.stats.model_frame import Design, ModelFrame, design, model_frame, without_collinear
from headway.stats.quantiles import quantiles
from headway.stats.random_effects import (
    SINGULAR,
    RandomTerm,
    any_singular,
    correlations_of,
    covariances_of,
    levels_of,
    random_terms,
    variances_of,
)
from headway.stats.summaries import coefficient_lines, criterion_lines, group_line, quantile_lines, random_lines
from headway.stats.wald import WaldTested

Floats = np.ndarray
_LARGEST = 50_000_000  # entries of Z, which is dense here: 400 MB


def glmm(formula: str, data: Any, family: str = "binomial", *, weights: str | None = None) -> GeneralisedMixedModel:
    """Fit a generalised linear mixed model by maximum likelihood, with Laplace's approximation.

    Args:
        formula: such as "correct ~ depth + (1 | run)". For the binomial, the response is 0 or 1, or a share of `weights`.
        data: a polars or pandas data frame. Rows with a missing value in a column of the formula are left out.
        family: "binomial" with the logit link, or "poisson" with the logarithmic link.
        weights: name of the column with each row's number of trials (binomial), or with prior weights.

    Raises:
        StatisticsError: the model cannot be fitted. The message says which part of the formula or the data is wrong.
    """
    parsed = parse(formula, Table(data).names)
    parsed.refuse_smooths("glmm")
    if not parsed.bars:
        raise StatisticsError(f"the formula {formula!r} has no random term, such as (1 | group): add one")
    frame, distribution = model_frame(parsed, data, weights), family_of(family)
    prior = np.ones(frame.n_obs) if frame.weights is None else frame.weights
    distribution.require(frame.y, prior, str(parsed.response))
    if np.ptp(frame.y) == 0:
        raise StatisticsError(f"the response {parsed.response} does not vary: it is {frame.y[0]:g} in every row")
    x, dropped = without_collinear(frame.design(parsed.intercept, parsed.terms))
    terms = random_terms(frame)
    size = sum(term.size for term in terms)
    if size * frame.n_obs > _LARGEST:
        raise StatisticsError(
            f"{size:,} random effects of {frame.n_obs:,} rows are too many: at most {_LARGEST:,} in all"
        )
    shape = Shape(tuple(term.n_effects for term in terms), tuple(term.n_levels for term in terms))
    z = np.concatenate([_columns(term) for term in terms], axis=1)
    # An orthonormal design gives all coefficients one scale.
    basis, r = np.linalg.qr(x.matrix)
    root = float(np.sqrt(frame.n_obs))
    problem = Problem(distribution, frame.y, prior, frame.offset, basis * root, z, shape)
    point, converged = _optimum(problem)
    return GeneralisedMixedModel(frame, x, dropped, tuple(terms), distribution, problem, point, r / root, converged)


def _columns(term: RandomTerm) -> Floats:
    """The term's columns of Z, (n, q), level by level."""
    n = len(term.columns)
    out = np.zeros((n, term.n_levels, term.n_effects))
    out[np.arange(n), term.group.codes] = term.columns
    return out.reshape(n, term.size)


def _optimum(problem: Problem) -> tuple[Floats, bool]:
    """Minimise the deviance over (θ, β). Return the point, and whether its slope is 0."""
    from scipy.optimize import minimize

    at = _Memory(problem)
    start = np.append(problem.shape.start(), _without_random_effects(problem))
    found = minimize(at.value_and_gradient, start, jac=True, method="BFGS", options={"gtol": 1e-5, "maxiter": 500})
    point = found.x
    # Newton's steps sharpen the optimum: BFGS stops where rounding hides the decrease.
    for _ in range(5):
        hessian, slope = hessian_of(at.gradient, point), at.gradient(point)
        values, vectors = np.linalg.eigh(hessian)
        sound = values > 1e-8 * values.max()
        step = vectors[:, sound] @ (vectors[:, sound].T @ slope / values[sound])
        point = point - step
        if np.abs(step).max() < 1e-9:
            break
    if at.value(point) > at.value(found.x) + 1e-9:
        point = found.x
    diagonal = np.append(problem.shape.is_diagonal, np.zeros(problem.x.shape[1], dtype=bool))
    for entry in np.flatnonzero(diagonal & (np.abs(point) < SINGULAR)):
        rounded = point.copy()
        rounded[entry] = 0.0
        if at.value(rounded) <= at.value(point) + 1e-9:
            point = rounded
    return point, bool(np.abs(at.gradient(point)).max() < 1e-2)


class _Memory:
    """The deviance and its gradient; searches for û begin at the last û."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.u = problem, np.zeros(problem.z.shape[1])
        self.k = len(problem.shape.entries)

    def mode(self, point: Floats) -> Mode:
        mode = Mode(self.problem, point[: self.k], point[self.k :], self.u)
        if np.isfinite(mode.penalised):
            self.u = mode.u
        return mode

    def value(self, point: Floats) -> float:
        return self.mode(point).deviance

    def gradient(self, point: Floats) -> Floats:
        return self.mode(point).gradient

    def value_and_gradient(self, point: Floats) -> tuple[float, Floats]:
        mode = self.mode(point)
        return mode.deviance, mode.gradient


def _without_random_effects(problem: Problem) -> Floats:
    """Coefficients without random effects, by iteratively reweighted least squares."""
    eta = problem.family.start(problem.y, problem.prior)
    beta = np.zeros(problem.x.shape[1])
    for _ in range(25):
        mu = problem.family.mean(eta)
        variance = np.maximum(problem.family.variance(mu), 1e-10)
        root = np.sqrt(problem.prior * variance)
        working = eta - problem.offset + (problem.y - mu) / variance
        new = np.linalg.lstsq(problem.x * root[:, None], working * root, rcond=None)[0]
        if np.abs(new - beta).max(initial=0) < 1e-8:
            break
        beta = new
        eta = np.clip(problem.x @ beta + problem.offset, -30, 30)
    return beta


class Asymptotic(NamedTuple):
    """Covariance of the coefficients (p, p), with normal tests: the degrees of freedom are infinite."""

    vcov: Floats

    def df(self, combinations: Floats) -> Floats:
        """Infinity for each row of `combinations` (r, p)."""
        return np.full(len(combinations), np.inf)


@dataclass(frozen=True, eq=False, repr=False)
class GeneralisedMixedModel(WaldTested):
    """A fitted generalised linear mixed model. Matrices of fixed effects are in the order of `fixed["term"]`.

    Attributes:
        frame: the fitted data, with `n_dropped` and `notices`.
        x: design of the fixed effects, without collinear columns.
        dropped: names of these columns.
        terms: the random terms, most levels first.
        family: the distribution of the response.
        converged: whether the slope of the deviance is 0 at the estimates.
    """

    frame: ModelFrame
    x: Design
    dropped: tuple[str, ...]
    terms: tuple[RandomTerm, ...]
    family: Family
    _problem: Problem
    _point: Floats
    _r: Floats
    converged: bool

    @property
    def n_groups(self) -> dict[str, int]:
        """Number of levels of each group."""
        return levels_of(self.terms)

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about rows and columns that were left out, and about singular, separated or unconverged fits."""
        said = list(self.frame.notices)
        if self.dropped:
            said.append(f"collinear fixed effects were left out: {', '.join(self.dropped)}")
        if self.singular:
            said.append("boundary (singular) fit: a variance is estimated as 0, or a correlation as -1 or 1")
        if self.separated:
            said.append(SEPARATED)
        if not self.converged:
            said.append("the fit did not converge, so do not trust the estimates. Are there too many random effects?")
        return tuple(said)

    @cached_property
    def _mode(self) -> Mode:
        k = len(self._problem.shape.entries)
        return Mode(self._problem, self._point[:k], self._point[k:], np.zeros(self._problem.z.shape[1]))

    @property
    def log_lik(self) -> float:
        """The log-likelihood by Laplace's approximation."""
        return -self._mode.deviance / 2

    @property
    def n_parameters(self) -> int:
        """Fixed effects and entries of the covariance factors."""
        return len(self._point)

    @property
    def aic(self) -> float:
        return -2 * self.log_lik + 2 * self.n_parameters

    @property
    def bic(self) -> float:
        return -2 * self.log_lik + float(np.log(self.n_obs)) * self.n_parameters

    @property
    def df_resid(self) -> int:
        return self.n_obs - self.n_parameters

    @cached_property
    def beta(self) -> Floats:
        """The fixed effects (p,)."""
        return np.linalg.solve(self._r, self._point[len(self._problem.shape.entries) :])

    @cached_property
    def vcov(self) -> Floats:
        """The covariance of the fixed effects (p, p), from the Hessian of the deviance in (θ, β), as in lme4."""
        k = len(self._problem.shape.entries)
        hessian = hessian_of(_Memory(self._problem).gradient, self._point)
        inverse = np.linalg.pinv(hessian, rcond=1e-10, hermitian=True)[k:, k:] * 2
        to_beta = np.linalg.inv(self._r)
        return to_beta @ inverse @ to_beta.T

    def inference(self, df: str = "asymptotic") -> Asymptotic:
        """Covariance of β for normal tests, whatever `df` says."""
        return Asymptotic(self.vcov)

    @property
    def fixed(self) -> pl.DataFrame:
        """term, estimate, std_error, z, p: Wald tests of the fixed effects."""
        return self.coefficients

    @cached_property
    def covariances(self) -> dict[str, Floats]:
        """The covariance matrix of each random term's effects, by the term's name."""
        return covariances_of(self.terms, self._factors)

    @property
    def _factors(self) -> list[Floats]:
        return self._problem.shape.factors(self._mode.theta)

    @cached_property
    def random(self) -> pl.DataFrame:
        """group, term, variance, sd."""
        return variances_of(self.terms, self.covariances).with_columns(sd=pl.col("variance").sqrt())

    @cached_property
    def random_correlations(self) -> pl.DataFrame:
        """group, term_1, term_2, correlation; NaN where a variance is 0."""
        return correlations_of(self.terms, self.covariances)

    @property
    def singular(self) -> bool:
        """Whether a variance of a random effect is 0, or a correlation is ±1."""
        return any_singular(self.terms, self._factors)

    @property
    def separated(self) -> bool:
        """Whether fitted means of a binomial are 0 or 1 up to rounding."""
        return separated(self.family, self._mode.mu)

    @cached_property
    def ranef(self) -> pl.DataFrame:
        """group, level, term, value: modes of the random effects given the data."""
        frames = []
        for term, factor, start in zip(self.terms, self._factors, self._problem.starts, strict=True):
            u = self._mode.u[start : start + term.size].reshape(term.n_levels, term.n_effects)
            values = u @ factor.T / term.scale
            frames.append(
                pl.DataFrame(
                    {
                        "group": [term.name] * term.size,
                        "level": [level for level in term.group.levels for _ in term.effects],
                        "term": list(term.effects) * term.n_levels,
                        "value": values.ravel(),
                    }
                )
            )
        return pl.concat(frames)

    @property
    def fitted(self) -> Floats:
        """The fitted means (n_obs,), with the random effects."""
        return self._mode.mu

    @property
    def residuals(self) -> Floats:
        """Pearson residuals (n_obs,): y minus the mean, over its standard deviation."""
        return (self.frame.y - self._mode.mu) * np.sqrt(
            self._problem.prior / np.maximum(self.family.variance(self._mode.mu), 1e-300)
        )

    def predict(self, new: Any = None, random: bool = True) -> Floats:
        """Predict the mean response for the rows of `new`, or for the fitted rows.

        Args:
            new: a table with the formula's columns. Rows with a missing value give NaN.
            random: whether to add the groups' effects. Without them, the prediction is for random effects of 0.

        Raises:
            StatisticsError: a column is missing, or a level is not in the fitted data.
        """
        if new is None:
            eta = self._mode.fixed
            return self.fitted if random else self.family.mean(eta)
        formula, table = self.frame.formula, Table(new)
        values = self.frame.of_new(table, {variable for term in formula.terms for variable in term})
        full = design(values, formula.intercept, formula.terms, table.height)
        eta = full.keep(self.x.places).matrix @ self.beta + self.frame.offset_of_new(table)
        if random:
            for term in self.terms:
                eta = eta + self._group_effect(term, table)
        return self.family.mean(eta)

    def _group_effect(self, term: RandomTerm, table: Table) -> Floats:
        bar = term.bar
        values = self.frame.of_new(table, {variable for effect in bar.terms for variable in effect})
        columns = design(values, bar.intercept, bar.terms, table.height).matrix
        own = self.ranef.filter(pl.col("group") == term.name)["value"].to_numpy().reshape(term.n_levels, term.n_effects)
        return np.einsum("np,np->n", columns, own[self.frame.group_of_new(table, bar.group)])

    def summary(self) -> str:
        """The fit as text, in lme4's layout."""
        lines = [
            "Generalized linear mixed model fit by maximum likelihood (Laplace Approximation)",
            f" Family: {self.family.name}  ( {self.family.link} )",
            f"Formula: {self.formula}",
            "",
            *criterion_lines(self.aic, self.bic, self.log_lik, self.df_resid),
            "",
            "Scaled residuals:",
            *quantile_lines(quantiles(self.residuals)),
            "",
            "Random effects:",
            *random_lines(self.random, self.random_correlations, [term.n_effects for term in self.terms]),
            group_line(self.n_obs, self.n_groups),
            "",
            "Fixed effects:",
            *coefficient_lines(self.fixed, "z"),
        ]
        return "\n".join([*lines, *self.notices])

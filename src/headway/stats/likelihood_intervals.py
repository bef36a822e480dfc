"""Profile and parametric-bootstrap intervals of a mixed model's fixed effects, standard deviations and correlations.

A profile interval holds all values of a parameter that a likelihood-ratio test does not reject: the smallest ML deviance
with the parameter fixed there is at most χ²₁ above the minimum (Bates et al. 2015, section 5.1, lme4's default). With a
fixed effect l'β at b, the residual sum of squares is ρ²(b) = ρ² + (b - l'β̂)² / l'W_xx⁻¹l. A bound is the extreme of the
parameter over the region of all (θ, σ) or (θ, b) with a deviance that low.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.stats.deviance import State
from headway.stats.differences import hessian_of
from headway.stats.distributions import normal_quantile
from headway.stats.model_frame import Design
from headway.stats.random_effects import RandomTerm

Floats = np.ndarray
_ZERO = 1e-4  # a standard deviation below this share of σ counts as 0, as in a singular fit
_FAR = 30.0  # the search stays within this multiple of the region of the quadratic approximation


class MixedModel(Protocol):
    """What the intervals need of a fit: `lmm.MixedModel` has it."""

    @property
    def terms(self) -> tuple[RandomTerm, ...]: ...
    @property
    def x(self) -> Design: ...
    @property
    def state(self) -> State: ...
    @property
    def unit(self) -> float: ...
    @property
    def n_obs(self) -> int: ...
    @property
    def sigma(self) -> float: ...
    @property
    def beta(self) -> Floats: ...
    @property
    def vcov(self) -> Floats: ...
    @property
    def to_beta(self) -> Floats: ...
    def state_at(self, theta: Floats) -> State: ...
    def simulate(self, n: int, seed: int = 0) -> Floats: ...
    def refitted(self, *, response: Floats | None = None, method: str | None = None) -> MixedModel: ...


class Parameter(NamedTuple):
    """A parameter of a mixed model, under the name that lme4's `confint(oldNames = FALSE)` gives it.

    `value(theta, log_sigma)` computes it, σ in the unit of the response. `combination` is l of a fixed effect l'β.
    """

    name: str
    estimate: float
    step: float
    low: float
    high: float
    value: Callable[[Floats, float], float] | None = None
    combination: Floats | None = None


def profile_intervals(fit: MixedModel, level: float) -> pl.DataFrame:
    """term, estimate, lower, upper: likelihood-ratio intervals of the ML fit, as lme4's `confint(method = "profile")`."""
    ml = fit.refitted(method="ML")
    region = _Region(ml, float(normal_quantile((1 + level) / 2)) ** 2)
    rows = [(parameter.name, parameter.estimate, *region.bounds(parameter)) for parameter in parameters(ml)]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def bootstrap_intervals(fit: MixedModel, level: float, n: int, seed: int) -> pl.DataFrame:
    """term, estimate, lower, upper: percentile intervals over `n` responses that are simulated from the fit and refitted.

    Raises:
        StatisticsError: `n` is too small for the level.
    """
    tail = (1 - level) / 2
    if n * tail < 1:
        raise StatisticsError(
            f"{n} bootstrap samples are too few for an interval of {level:.0%}: take at least {int(np.ceil(1 / tail))}"
        )
    draws = np.array([[p.estimate for p in parameters(fit.refitted(response=y))] for y in fit.simulate(n, seed)])
    lower, upper = np.nanquantile(draws, [tail, 1 - tail], axis=0)
    own = parameters(fit)
    names, estimates = [p.name for p in own], [p.estimate for p in own]
    return pl.DataFrame({"term": names, "estimate": estimates, "lower": lower, "upper": upper})


def parameters(fit: MixedModel) -> list[Parameter]:
    """Standard deviations and correlations of each random term, σ, and the fixed effects, in lme4's order."""
    return [*_of_random_terms(fit), *_fixed_effects(fit)]


def _of_random_terms(fit: MixedModel) -> Iterator[Parameter]:
    state, unit = fit.state, fit.unit
    sigma = np.log(np.sqrt(state.sigma2))
    for number, term in enumerate(fit.terms):
        for column in range(term.n_effects):
            for row in range(column, term.n_effects):
                name, of = (
                    (f"sd_{term.effects[row]}", _sd)
                    if row == column
                    else (f"cor_{term.effects[row]}.{term.effects[column]}", _correlation)
                )

                def value(
                    theta: Floats,
                    log_sigma: float,
                    n: int = number,
                    r: int = row,
                    c: int = column,
                    of: Callable[[Floats, int, int], float] = of,
                ) -> float:
                    factor = np.exp(log_sigma) * state.shape.factors(theta)[n]
                    return of(factor, r, c) * (unit / fit.terms[n].scale[r] if r == c else 1.0)

                estimate = value(state.theta, sigma)
                low, high = (0.0, np.inf) if row == column else (-1.0, 1.0)
                step = max(estimate, 0.1 * fit.sigma) / 2 if row == column else 0.2
                yield Parameter(f"{name}|{term.name}", estimate, step, low, high, value)
    yield Parameter(
        "sigma", fit.sigma, fit.sigma / 10, 0.0, np.inf, lambda theta, log_sigma: unit * float(np.exp(log_sigma))
    )


def _sd(factor: Floats, row: int, _column: int) -> float:
    return float(np.linalg.norm(factor[row]))


def _correlation(factor: Floats, row: int, column: int) -> float:
    length = np.linalg.norm(factor[row]) * np.linalg.norm(factor[column])
    return float(factor[row] @ factor[column] / length) if length > 0 else float("nan")


def _fixed_effects(fit: MixedModel) -> Iterator[Parameter]:
    std_error = np.sqrt(np.diag(fit.vcov))
    for place, name in enumerate(fit.x.names):
        yield Parameter(
            name,
            float(fit.beta[place]),
            float(std_error[place]),
            -np.inf,
            np.inf,
            combination=np.eye(len(fit.beta))[place],
        )


class _Region:
    """The parameters whose ML deviance is at most `rise` above its minimum. Bounds are the extremes of a parameter there.

    One search along the region's edge gives a bound, while a root search would minimise anew at each trial value. For a
    variance or a correlation the point is (θ, log σ), with β at its best; for a fixed effect it is (θ, l'β).
    """

    def __init__(self, fit: MixedModel, rise: float) -> None:
        self.fit, self.n = fit, fit.n_obs
        self.best = np.append(fit.state.theta, np.log(np.sqrt(fit.state.sigma2)))
        self.rise = rise

    def bounds(self, parameter: Parameter) -> tuple[float, float]:
        """The smallest and the largest value of the parameter in the region."""
        if parameter.combination is not None:
            rows = parameter.combination @ self.fit.to_beta
            best = np.append(self.fit.state.theta, rows @ self.fit.state.beta)
            least = parameter.estimate - best[-1]
            lower, upper = (
                extreme_in_region(
                    side,
                    lambda x: float(x[-1]),
                    partial(self._with_fixed_effect, rows),
                    best,
                    self.rise,
                    parameter.step,
                )
                for side in (-1, 1)
            )
            return lower + least, upper + least
        assert parameter.value is not None
        value = parameter.value

        def of(x: Floats) -> float:
            return value(x[:-1], x[-1])

        lower, upper = (
            extreme_in_region(side, of, self._deviance, self.best, self.rise, parameter.step) for side in (-1, 1)
        )
        return (0.0 if lower < _ZERO * self.fit.sigma and parameter.low == 0 else lower), upper

    def _deviance(self, x: Floats) -> tuple[float, Floats]:
        """-2 log likelihood of (θ, log σ) with β at its best, and its gradient."""
        state, sigma2 = self.fit.state_at(x[:-1]), float(np.exp(2 * x[-1]))
        by = state.derivatives
        deviance = state.log_det + self.n * float(np.log(2 * np.pi * sigma2)) + state.rss / sigma2
        return deviance, np.append(by.log_det + by.rss / sigma2, 2 * self.n - 2 * state.rss / sigma2)

    def _with_fixed_effect(self, rows: Floats, x: Floats) -> tuple[float, Floats]:
        """-2 log likelihood of (θ, l'β) with σ and the rest of β at their best, and its gradient."""
        state = self.fit.state_at(x[:-1])
        by, w = state.derivatives, state.w_xx_inverse @ rows
        distance, variance = x[-1] - rows @ state.beta, rows @ w
        rss = state.rss + distance**2 / variance
        beta_by = np.array([w @ (by_w[:-1, -1] - by_w[:-1, :-1] @ state.beta) for by_w in by.w])
        variance_by = np.array([-w @ by_w[:-1, :-1] @ w for by_w in by.w])
        rss_by = by.rss - 2 * distance * beta_by / variance - distance**2 * variance_by / variance**2
        deviance = state.log_det + self.n * (1 + float(np.log(2 * np.pi * rss / self.n)))
        return deviance, np.append(by.log_det + self.n * rss_by / rss, 2 * self.n * distance / variance / rss)


def extreme_in_region(
    side: int,
    value: Callable[[Floats], float],
    deviance: Callable[[Floats], tuple[float, Floats]],
    best: Floats,
    rise: float,
    step: float,
) -> float:
    """The largest (side 1) or smallest (side -1) value where the deviance is at most `rise` above its minimum at `best`.

    In z, with x = best + A z, the region is about a sphere. The search starts where the quadratic approximation has its
    extreme: at `best` itself the deviance has no slope, so a search would not know how far to go.

    Args:
        deviance: returns the deviance and its gradient.
        step: the size of a change of the value that matters.
    """
    from scipy.optimize import minimize

    highest = deviance(best)[0] + rise
    a = _standardising(lambda x: deviance(x)[1], best)
    along = _slope(lambda z: value(best + a @ z), np.zeros(len(best)))
    length = float(np.linalg.norm(along))
    radius = float(np.sqrt(rise))
    slack = {
        "type": "ineq",
        "fun": lambda z: highest - deviance(best + a @ z)[0],
        "jac": lambda z: -a.T @ deviance(best + a @ z)[1],
    }
    found = minimize(
        lambda z: -side * value(best + a @ z) / step, side * radius * along / length if length else along + 1.0,
        method="SLSQP", constraints=[slack], bounds=[(-_FAR * radius, _FAR * radius)] * len(best),
        options={"ftol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    return float(value(best + a @ found.x))


def _standardising(gradient: Callable[[Floats], Floats], at: Floats) -> Floats:
    """A with A'HA = 2I for the Hessian H of a deviance at its minimum. Flat directions count as nearly flat."""
    values, vectors = np.linalg.eigh(hessian_of(gradient, at, 1e-4 * np.maximum(np.abs(at), 0.1)))
    return np.asarray(vectors * np.sqrt(2 / np.maximum(values, 1e-4 * values.max())))


def _slope(function: Callable[[Floats], float], at: Floats) -> Floats:
    return np.array([(function(at + h) - function(at - h)) / (2 * h.max()) for h in 1e-5 * np.eye(len(at))])


_SCHEMA = {"term": pl.String, "estimate": pl.Float64, "lower": pl.Float64, "upper": pl.Float64}

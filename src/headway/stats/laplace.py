"""The Laplace approximation of a generalised mixed model's deviance, with its exact gradient.

    η = Xβ + ZΛu + offset,   u ~ N(0, I),   y | u ~ the family with mean g⁻¹(η)

Λ is block diagonal: for every level of a random term the same lower triangle T, whose entries are θ. With û the mode of u
given y, W the diagonal of dμ/dη times the prior weights, and M = Λ'Z'WZΛ + I:

    d(θ, β) = -2 log p(y | û) + |û|² + log|M|                              (Bates et al. 2015; lme4's glmer with nAGQ = 1)

û solves Λ'Z'(y - μ)w = û by Newton's method. At û the first two summands have no slope in u, so that only log|M| needs
the derivative of û:  ∂û = M⁻¹ Λ'Z'(-W ∂η)  for β, and the same with Λ_a'Z'(y - μ)w added for θ_a.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headway.stats.deviance import Shape
from headway.stats.families import Family

Floats = np.ndarray
_MOST_STEPS = 100
_ENOUGH = 1e-12  # relative change of the penalised deviance at which û counts as found


@dataclass(frozen=True)
class Problem:
    """The data of a model.

    Attributes:
        family: the distribution of the response.
        y, prior, offset: (n,).
        x: (n, p) design of the fixed effects.
        z: (n, q) design of the random effects, term by term and level by level.
        shape: layout of θ.
    """

    family: Family
    y: Floats
    prior: Floats
    offset: Floats
    x: Floats
    z: Floats
    shape: Shape

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first column of each term in z."""
        sizes = [p * n for p, n in zip(self.shape.n_effects, self.shape.n_levels, strict=True)]
        return tuple(int(start) for start in np.cumsum([0, *sizes[:-1]]))

    def times_lambda(self, factors: list[Floats]) -> Floats:
        """Z times the block-diagonal matrix of `factors`, one for each term: (n, q)."""
        out = np.empty_like(self.z)
        for start, p, n, factor in zip(self.starts, self.shape.n_effects, self.shape.n_levels, factors, strict=True):
            block = self.z[:, start : start + p * n].reshape(-1, n, p)
            out[:, start : start + p * n] = (block @ factor).reshape(-1, n * p)
        return out


class Mode:
    """û at one (θ, β), and the Laplace deviance there.

    Args:
        start: (q,) where the search for û begins.
    """

    def __init__(self, problem: Problem, theta: Floats, beta: Floats, start: Floats) -> None:
        self.problem, self.theta = problem, theta
        self.zl = problem.times_lambda(problem.shape.factors(theta))
        self.fixed = problem.x @ beta + problem.offset
        self.u = start
        self._set(start)
        for _ in range(_MOST_STEPS):
            before, at = self.penalised, self.u
            slope = self.zl.T @ (problem.prior * (problem.y - self.mu)) - self.u
            step = np.linalg.solve(self.m, slope)
            for _ in range(30):
                self._set(at + step)
                if self.penalised <= before + _ENOUGH * (1 + abs(before)):
                    break
                step = step / 2
            if abs(before - self.penalised) <= _ENOUGH * (1 + abs(before)) and np.abs(step).max(initial=0) < 1e-6:
                break

    def _set(self, u: Floats) -> None:
        family = self.problem.family
        self.u = u
        self.mu = family.mean(self.fixed + self.zl @ u)
        self.w = self.problem.prior * family.variance(self.mu)
        density = family.log_density(self.problem.y, self.mu, self.problem.prior)
        self.penalised = -2 * float(density.sum()) + float(u @ u)
        self.__dict__.pop("m", None)

    @cached_property
    def m(self) -> Floats:
        """M (q, q)."""
        m = self.zl.T @ (self.w[:, None] * self.zl)
        m[np.diag_indices_from(m)] += 1
        return m

    @property
    def deviance(self) -> float:
        """-2 log likelihood by Laplace's approximation."""
        return self.penalised + float(np.linalg.slogdet(self.m)[1])

    @property
    def gradient(self) -> Floats:
        """The slope of the deviance in (θ, β)."""
        problem, shape = self.problem, self.problem.shape
        rest = problem.prior * (problem.y - self.mu)
        inverse = np.linalg.inv(self.m)
        half = self.zl @ inverse  # (n, q)
        leverage = np.einsum("nq,nq->n", half, self.zl)
        # log|M| through W: Σ_i dw_i/dη_i (ZΛM⁻¹Λ'Z')_ii dη_i
        through_w = problem.prior * problem.family.variance_slope(self.mu) * leverage
        out = []
        for term, row, column in shape.entries:
            unit = [np.zeros((p, p)) for p in shape.n_effects]
            unit[term][row, column] = 1.0
            zl_a = problem.times_lambda(unit)
            direct = zl_a @ self.u
            du = inverse @ (zl_a.T @ rest - self.zl.T @ (self.w * direct))
            eta = direct + self.zl @ du
            trace = 2 * np.einsum("nq,n,nq->", half, self.w, zl_a)
            out.append(-2 * rest @ direct + through_w @ eta + trace)
        du = -inverse @ (self.zl.T @ (self.w[:, None] * problem.x))  # (q, p)
        eta = problem.x + self.zl @ du
        return np.array([*out, *(-2 * rest @ problem.x + through_w @ eta)])

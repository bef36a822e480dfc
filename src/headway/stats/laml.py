"""Smoothing parameters of additive models of other families, by Laplace's approximation of the restricted likelihood.

    V(ρ, e) = -l(b) + b'Sb/2 + log|H|/2 - log|S|₊/2 - M/2 log 2π,   H = X'WX + S,   S = Σ_j e^ρ_j S_j

b maximises l(b) - b'Sb/2, W = -∂²l/∂η² and M is the number of coefficients without penalty. e is the family's parameter besides
the mean, if it has one. The gradient is exact. With h_i = x_i'H⁻¹x_i:

    ∂b/∂ρ_j = -H⁻¹ λ_j S_j b,   ∂b/∂e = H⁻¹ X' ∂l'/∂e
    ∂V/∂ρ_j = λ_j b'S_jb/2 + λ_j tr(H⁻¹S_j)/2 + Σ_i h_i ∂W_i/∂ρ_j / 2 - ∂log|S|₊/∂ρ_j / 2

Shapes: n rows, p coefficients, m penalties, k = m or m + 1 parameters.
Source: Wood (2011) JRSS-B 73, 3-36, §2; Wood, Pya & Säfken (2016) JASA 111, 1548-1563, for e.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headway.errors import StatisticsError
from headway.stats.differences import hessian_of
from headway.stats.families import LogDensity, SmoothFamily
from headway.stats.penalties import Penalty
from headway.stats.smoothing import at_rest, initial_log_sp, largest, log_determinant, minimise_likelihood, padded_roots

Array = NDArray[np.float64]

_MOST_STEPS = 100
_CLOSE = 1e-6  # gain of the likelihood from which on Newton's steps need no check
_ENOUGH = 1e-20  # gain of the last step for each row
_AT_EDGE = 1e-12  # ratio of information of rows
_MOST_HALVINGS = 30


class LaplaceMinimum(NamedTuple):
    """The parameters of smallest V: log λ on mgcv's scale (m,), e or None, V, the coefficients (p,), and whether the slope is 0."""

    log_sp: Array
    extra: float | None
    score: float
    coefficients: Array
    converged: bool


@dataclass
class LaplaceProblem:
    """The data of a model, with coefficients in the eigenvectors of their penalties (`turn`).

    Attributes:
        x: (n, p), the model matrix times `turn`.
        start: log λ, and e if there is one, from which the search starts (k,).
        latest: the coefficients that were found last (p,), from which the next search for them starts.
    """

    family: SmoothFamily
    y: Array
    prior: Array
    x: Array
    penalties: tuple[Penalty, ...]
    turn: Array
    start: Array
    latest: Array

    @classmethod
    def of(
        cls, family: SmoothFamily, y: Array, prior: Array, x: Array, penalties: tuple[Penalty, ...]
    ) -> LaplaceProblem:
        extra = family.start_extra(y)
        eta = family.start(y, prior)
        weight = family.derivatives(y, eta, prior, next(iter(extra), None)).expected
        log_sp = initial_log_sp(penalties, weight @ x**2)  # ρ
        relative = log_sp + (extra[0] if family.extra_is_scale else 0.0)
        turn = _eigenbases(penalties, x.shape[1])
        turned = tuple(_turned(penalty) for penalty in penalties)
        problem = cls(family, y, prior, x @ turn, turned, turn, np.append(relative, extra), np.zeros(x.shape[1]))
        information = (weight[:, None] * problem.x).T @ problem.x
        problem.latest = np.linalg.solve(information + problem.penalty(log_sp), problem.x.T @ (weight * eta))
        return problem

    @cached_property
    def roots(self) -> tuple[Array, ...]:
        """E_j (rank_j, p) of all penalties."""
        return padded_roots(self.penalties, self.x.shape[1])

    @property
    def null_dim(self) -> int:
        """M, the number of coefficients without penalty."""
        return self.x.shape[1] - sum(penalty.rank for penalty in self.penalties)

    def log_density(self, eta: Array, extra: float | None) -> LogDensity:
        return self.family.derivatives(self.y, eta, self.prior, extra)

    def penalty(self, log_sp: Array) -> Array:
        """S (p, p)."""
        return sum(
            (np.exp(rho) * root.T @ root for rho, root in zip(log_sp, self.roots, strict=True)),
            np.zeros((self.x.shape[1], self.x.shape[1])),
        )


def minimise_laplace(
    family: SmoothFamily, y: Array, prior: Array, x: Array, penalties: tuple[Penalty, ...]
) -> LaplaceMinimum:
    """Find the smoothing parameters, and the family's other parameter, that minimise V.

    Raises:
        StatisticsError: the penalised likelihood has no maximum to start from.
    """
    problem = LaplaceProblem.of(family, y, prior, x, penalties)
    if LaplacePoint(problem, problem.start).mode.lower is None:
        raise StatisticsError(
            f"the {family.name} likelihood has no largest value for these data: do terms separate the answers, or is k too large?"
        )
    _, best = minimise_likelihood(lambda theta: LaplacePoint(problem, theta), problem.start)
    return LaplaceMinimum(best.relative_log_sp, best.extra, best.score, problem.turn @ best.mode.beta, at_rest(best))


class Mode(NamedTuple):
    """The coefficients of the largest penalised likelihood (p,), the log density there, and L of H = LL' (None: not positive)."""

    beta: Array
    at: LogDensity
    lower: Array | None


@dataclass(frozen=True)
class LaplacePoint:
    """V, its gradient and its Hessian at the parameters `theta` (k,): log λ, then e.

    Where e is log φ, the scale of the variance, `theta` has log λ relative to it, as mgcv does: ρ_j = θ_j - e. The same search
    then leads to the same one of several minima.
    """

    problem: LaplaceProblem
    theta: Array

    @property
    def relative_log_sp(self) -> Array:
        """log λ on mgcv's scale."""
        return self.theta[: len(self.problem.roots)]

    @property
    def log_sp(self) -> Array:
        """ρ."""
        return self.relative_log_sp - (self.theta[-1] if self.problem.family.extra_is_scale else 0.0)

    @property
    def extra(self) -> float | None:
        return float(self.theta[-1]) if len(self.theta) > len(self.problem.roots) else None

    @cached_property
    def mode(self) -> Mode:
        """Newton's method for b, with Fisher's information where H is not positive."""
        problem, s = self.problem, self.problem.penalty(self.log_sp)
        beta = problem.latest
        at = problem.log_density(problem.x @ beta, self.extra)
        for _ in range(_MOST_STEPS):
            gradient = problem.x.T @ at.first - s @ beta
            lower = _cholesky(problem.x, -at.second, s)
            usable = _cholesky(problem.x, at.expected, s) if lower is None else lower
            if usable is None:
                return Mode(beta, at, None)
            step = _solve(usable, gradient)
            gain = float(gradient @ step)
            if gain > _CLOSE:
                beta, at = self._uphill(beta, at, step, s)
                continue
            beta = beta + step  # so close to the top, rounding of the likelihood would refuse good steps
            at = problem.log_density(problem.x @ beta, self.extra)
            at_edge = at.expected.min() < _AT_EDGE * at.expected.max()  # means of 0 or 1: b runs away without end
            if at_edge or gain <= _ENOUGH * len(problem.y):
                break
        problem.latest = beta
        return Mode(beta, at, _cholesky(problem.x, -at.second, s))

    def _uphill(self, beta: Array, at: LogDensity, step: Array, s: Array) -> tuple[Array, LogDensity]:
        """The first point beta + step, beta + step/2, … with a larger penalised likelihood."""
        here = float(at.value.sum() - beta @ s @ beta / 2)
        for _ in range(_MOST_HALVINGS):
            new = beta + step
            there = self.problem.log_density(self.problem.x @ new, self.extra)
            value = float(there.value.sum() - new @ s @ new / 2)
            if value >= here - 1e-12 * (1 + abs(here)):
                return new, there
            step = step / 2
        return beta, at

    @property
    def size(self) -> float:
        """A log-likelihood has no unit, and grows with n."""
        return float(len(self.problem.y))

    @property
    def rounding(self) -> float:
        """Rounding of V: log densities are differences of numbers as large as the information that y bears."""
        return 1e-13 * max(self.size, abs(self.score), float(self.mode.at.expected.sum()))

    @property
    def slope(self) -> float:
        """The largest entry of the gradient, in units of `size`; infinite where H is not positive definite."""
        slope = largest(self.gradient) / self.size
        return slope if np.isfinite(slope) else float("inf")

    @cached_property
    def score(self) -> float:
        """V; infinite where H is not positive definite."""
        mode, problem = self.mode, self.problem
        if mode.lower is None:
            return float("inf")
        penalty = sum(
            np.exp(rho) * np.sum((e @ mode.beta) ** 2) for rho, e in zip(self.log_sp, problem.roots, strict=True)
        )
        determinants = 2 * np.sum(np.log(np.diag(mode.lower))) - log_determinant(problem.penalties, self.log_sp).value
        return float(-mode.at.value.sum() + (penalty + determinants - problem.null_dim * np.log(2 * np.pi)) / 2)

    @cached_property
    def gradient(self) -> Array:
        """∂V (k,)."""
        problem, (beta, at, lower) = self.problem, self.mode
        if lower is None:
            return np.full(len(self.theta), np.nan)
        half = _solve_lower(lower, problem.x.T)
        leverage = np.sum(half**2, axis=0)  # h
        pull = leverage * at.third  # ∂log|H| by η

        def through_mode(right: Array) -> float:
            """∂log|H| through b, for ∂b = H⁻¹ right."""
            return float(-pull @ (problem.x @ _solve(lower, right)))

        slope = -log_determinant(problem.penalties, self.log_sp).gradient
        for j, (rho, root) in enumerate(zip(self.log_sp, problem.roots, strict=True)):
            scaled = np.exp(rho / 2) * root
            along = scaled @ beta
            slope[j] += along @ along + np.sum(_solve_lower(lower, scaled.T) ** 2) - through_mode(scaled.T @ along)
        if self.extra is None:
            return slope / 2
        assert at.first_by_extra is not None
        assert at.second_by_extra is not None
        by_extra = through_mode(problem.x.T @ at.first_by_extra) - float(leverage @ at.second_by_extra)
        through_scale = float(slope.sum()) if self.problem.family.extra_is_scale else 0.0  # ∂ρ_j/∂e = -1
        return np.append(slope / 2, -at.by_extra + (by_extra - through_scale) / 2)

    @cached_property
    def hessian(self) -> Array:
        """∂²V (k, k), by differences of the exact gradient."""
        steps = np.full(len(self.theta), 1e-3)
        return hessian_of(lambda theta: LaplacePoint(self.problem, theta).gradient, self.theta, steps)


def _eigenbases(penalties: tuple[Penalty, ...], p: int) -> Array:
    """(p, p) rotation of each term's coefficients to the eigenvectors of its penalty.

    S of a curve is then diagonal, and H keeps its accuracy however large λ becomes.
    """
    turn = np.eye(p)
    for penalty in penalties:
        turn[penalty.where, penalty.where] = penalty.eigenvectors
    return turn


def _turned(penalty: Penalty) -> Penalty:
    """The penalty of coefficients that were rotated by its eigenvectors."""
    vectors = penalty.eigenvectors
    matrices = [vectors.T @ matrix @ vectors for matrix in penalty.matrices]
    if len(matrices) == 1:
        diagonal = np.where(np.arange(len(vectors)) < len(vectors) - penalty.rank, 0.0, np.diag(matrices[0]))
        matrices = [np.diag(diagonal)]
    return Penalty(penalty.where, tuple(matrices), penalty.ranks, penalty.rank)


def _cholesky(x: Array, weights: Array, s: Array) -> Array | None:
    """L of X'WX + S = LL', or None if it is not positive definite."""
    h = (weights[:, None] * x).T @ x + s
    try:
        return np.asarray(np.linalg.cholesky((h + h.T) / 2), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None


def _solve_lower(lower: Array, right: Array) -> Array:
    from scipy.linalg import solve_triangular

    return np.asarray(solve_triangular(lower, right, lower=True))


def _solve(lower: Array, right: Array) -> Array:
    """(LL')⁻¹ right."""
    from scipy.linalg import solve_triangular

    return np.asarray(solve_triangular(lower, _solve_lower(lower, right), lower=True, trans=1))

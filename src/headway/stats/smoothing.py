"""The smoothing criteria GCV and REML of a penalised regression, with their derivatives, and their minimisers.

    minimise |y - X b|² + Σ_j λ_j b'S_j b,   ρ_j = log λ_j

All is done on R and z of the QR decomposition X = QR, z = Q'y: (p, p) and (p,), however many rows there are.

Sources: Wood (2004) Stable and efficient multiple smoothing parameter estimation for GAMs, JASA 99, 673-686 (GCV);
Wood (2011) Fast stable REML and ML estimation of semiparametric GLMs, JRSS-B 73, 3-36 (REML). Starting values and limits
are those observed in mgcv 1.8, so that the same local minimum is found. Tolerances differ: mgcv's depend on the unit of y,
and may stop a search far above the minimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from headway.stats.penalties import LogDeterminant, Penalty

Array = NDArray[np.float64]

_MAX_STEP = 5.0  # in log λ
_MAX_HALVINGS = 30
_MAX_ITERATIONS = 200
_LEAPS = np.array([-10.0, -7.5, -5.0, -2.5, 2.5, 5.0, 7.5, 10.0])  # in log λ
# Largest slope at convergence, in units of the criterion's `size`: about 1e-9 degrees of freedom. Rounding errors of the
# criteria are about 1e-14, and the next Newton step would square the rest.
_AT_REST = 1e-9
_ROUNDING = 1e-13  # of scores, in the same units


class Point(Protocol):
    """A criterion at a point: its value, gradient (m,) and Hessian (m, m).

    `size` is the unit of its differences. Two scores are equal if they differ by less than `rounding`.
    """

    @property
    def score(self) -> float: ...
    @property
    def gradient(self) -> Array: ...
    @property
    def hessian(self) -> Array: ...
    @property
    def size(self) -> float: ...
    @property
    def rounding(self) -> float: ...
    @property
    def slope(self) -> float: ...


P = TypeVar("P", bound=Point)


class Value(NamedTuple):
    """A criterion with its gradient (m,) and Hessian (m, m).

    `size` is the unit of its differences, so that the unit of y does not affect when a search stops.
    """

    score: float
    gradient: Array
    hessian: Array
    size: float

    @property
    def rounding(self) -> float:
        return _ROUNDING * max(self.size, abs(self.score))

    @property
    def slope(self) -> float:
        """The largest entry of the gradient, in units of `size`."""
        return largest(self.gradient) / self.size


class Minimum(NamedTuple):
    """Minimum of a criterion: log λ (m,), its value, and whether its slope is 0."""

    log_sp: Array
    score: float
    converged: bool


@dataclass(frozen=True)
class Problem:
    """A penalised regression in reduced form: R (p, p), z = Q'y (p,), the rest of |y|², n rows, and the penalties.

    `roots` are the E_j (rank_j, p) of all m penalty matrices, one term after the other.
    """

    r: Array
    z: Array
    rss_outside: float
    n: int
    penalties: tuple[Penalty, ...]
    roots: tuple[Array, ...]

    @classmethod
    def of(cls, x: Array, y: Array, penalties: tuple[Penalty, ...]) -> Problem:
        q, r = np.linalg.qr(x)
        z = q.T @ y
        rest = y - q @ z
        return cls(r, z, float(rest @ rest), len(y), penalties, padded_roots(penalties, x.shape[1]))

    @property
    def null_dim(self) -> int:
        """Number of unpenalised coefficients."""
        return len(self.z) - sum(penalty.rank for penalty in self.penalties)

    def initial(self) -> Array:
        """log λ that balances penalty and data: tr(X'X) / tr(S) over the penalised coefficients."""
        return initial_log_sp(self.penalties, np.sum(self.r**2, axis=0))

    def decompose(self, log_sp: Array) -> Decomposition:
        """The SVD [R; √λ_j E_j] = U D V', from which all quantities follow as stable products."""
        stacked = np.vstack([self.r, *(np.exp(rho / 2) * e for rho, e in zip(log_sp, self.roots, strict=True))])
        u, d, vt = np.linalg.svd(stacked, full_matrices=False)
        return Decomposition(u[: len(self.z)], d, vt)


def padded_roots(penalties: tuple[Penalty, ...], p: int) -> tuple[Array, ...]:
    """The E_j of all penalties as (rank_j, p), with zeros for the coefficients of other terms."""
    roots = []
    for penalty in penalties:
        for root in penalty.roots:
            padded = np.zeros((len(root), p))
            padded[:, penalty.where] = root
            roots.append(padded)
    return tuple(roots)


def initial_log_sp(penalties: tuple[Penalty, ...], information: Array) -> Array:
    """log λ that balances penalty and data: tr(X'WX) / tr(S_j) over the coefficients that S_j penalises.

    Args:
        information: diagonal of X'WX, (p,).
    """
    log_sp = []
    for penalty in penalties:
        for matrix in penalty.matrices:
            held = np.abs(matrix).max(axis=0) > 1e-10 * np.abs(matrix).max()
            log_sp.append(np.log(information[penalty.where][held].sum() / np.diag(matrix)[held].sum()))
    return np.array(log_sp)


def log_determinant(penalties: tuple[Penalty, ...], log_sp: Array) -> LogDeterminant:
    """log|Σ_j λ_j S_j|₊ of all terms together, whose penalties do not overlap."""
    places = np.split(log_sp, np.cumsum([len(penalty.matrices) for penalty in penalties])[:-1])
    parts = [penalty.log_determinant(own) for penalty, own in zip(penalties, places, strict=True)]
    hessian, first = np.zeros((len(log_sp), len(log_sp))), 0
    for part in parts:
        own = slice(first, first + len(part.gradient))
        hessian[own, own] = part.hessian
        first = own.stop
    return LogDeterminant(sum(part.value for part in parts), np.concatenate([p.gradient for p in parts]), hessian)


class Decomposition(NamedTuple):
    u: Array  # (p, p): the rows of U that belong to R, so that the influence matrix is QUU'Q'
    d: Array  # (p,)
    vt: Array  # (p, p)

    def whitened_penalties(self, problem: Problem, log_sp: Array) -> list[Array]:
        """M_j = λ_j D⁻¹V'S_jVD⁻¹."""
        halves = [np.exp(rho / 2) * (e @ self.vt.T) / self.d for rho, e in zip(log_sp, problem.roots, strict=True)]
        return [half.T @ half for half in halves]


def gcv(problem: Problem, log_sp: Array) -> Value:
    """n |y - Ay|² / (n - tr A)², A the influence matrix."""
    parts = problem.decompose(log_sp)
    y1 = parts.u.T @ problem.z
    m = parts.whitened_penalties(problem, log_sp)
    g = parts.u.T @ parts.u
    k = [m_j @ g for m_j in m]
    rss = problem.rss_outside + float(np.sum((problem.z - parts.u @ y1) ** 2))
    df = problem.n - float(np.sum(parts.u**2))

    my, ky = np.array([m_j @ y1 for m_j in m]), np.array([k_j @ y1 for k_j in k])
    kty = np.array([k_j.T @ y1 for k_j in k])
    d_rss = 2 * (my @ y1 - ky @ y1)
    d_df = np.array([np.trace(k_j) for k_j in k])
    mk = my @ ky.T
    dd_rss = 2 * (mk + mk.T - 2 * my @ my.T) + kty @ my.T + my @ kty.T + np.diag(d_rss)
    dd_df = -2 * np.array([[np.sum(m_j * k_i.T) for m_j in m] for k_i in k]) + np.diag(d_df)

    cross = np.outer(d_rss, d_df)
    n = problem.n
    score = n * rss / df**2
    return Value(
        score,
        n * (d_rss / df**2 - 2 * rss * d_df / df**3),
        n
        * (
            dd_rss / df**2
            - 2 * (cross + cross.T) / df**3
            - 2 * rss * dd_df / df**3
            + 6 * rss * np.outer(d_df, d_df) / df**4
        ),
        size=score,  # GCV has the unit of y²
    )


def gcv_scores(problem: Problem, log_sp: Array) -> Array:
    """`gcv`'s score alone at many places (places, m): (places,)."""
    penalties = [np.exp(rho / 2)[:, None, None] * e for rho, e in zip(log_sp.T, problem.roots, strict=True)]
    stacked = np.concatenate([np.broadcast_to(problem.r, (len(log_sp), *problem.r.shape)), *penalties], axis=1)
    u = np.linalg.svd(stacked, full_matrices=False)[0][:, : len(problem.z)]
    off = problem.z - (u @ (problem.z @ u)[..., None])[..., 0]
    df = problem.n - (u**2).sum(axis=(1, 2))
    return np.asarray(problem.n * (problem.rss_outside + (off**2).sum(axis=1)) / df**2)


def reml(problem: Problem, parameters: Array) -> Value:
    """Minus the restricted log-likelihood in (ρ, log φ), φ the variance of the errors.

    P/2φ + (n - M)/2 log 2πφ + (log|X'X + S| - log|S|₊)/2, with P = min_b |y - Xb|² + b'Sb and M = `null_dim`.
    """
    log_sp, phi = parameters[:-1], np.exp(parameters[-1])
    parts = problem.decompose(log_sp)
    y1 = parts.u.T @ problem.z
    m = parts.whitened_penalties(problem, log_sp)
    # z'z - y1'y1 would lose digits if the fit is close, so P is computed as a sum of squares.
    penalty = sum(float(y1 @ m_j @ y1) for m_j in m)
    rss = problem.rss_outside + float(np.sum((problem.z - parts.u @ y1) ** 2))
    p = rss + penalty
    free = problem.n - problem.null_dim
    det = log_determinant(problem.penalties, log_sp)
    score = p / (2 * phi) + free / 2 * np.log(2 * np.pi * phi) + np.log(parts.d).sum() - det.value / 2

    my = np.array([m_j @ y1 for m_j in m])
    d_p = my @ y1  # dP/dρ_j = λ_j b'S_j b
    dd_p = np.diag(d_p) - 2 * my @ my.T
    traces = np.array([np.trace(m_j) for m_j in m])
    dd_log_det = np.diag(traces) - np.array([[np.sum(m_i * m_j) for m_j in m] for m_i in m])
    gradient = np.append(d_p / (2 * phi) + (traces - det.gradient) / 2, free / 2 - p / (2 * phi))
    hessian = np.empty((len(parameters), len(parameters)))
    hessian[:-1, :-1] = dd_p / (2 * phi) + (dd_log_det - det.hessian) / 2
    hessian[-1, :-1] = hessian[:-1, -1] = -d_p / (2 * phi)
    hessian[-1, -1] = p / (2 * phi)
    return Value(float(score), gradient, hessian, size=float(free))  # a log-likelihood has no unit, and grows with n


def minimise_gcv(problem: Problem) -> Minimum:
    """Find the minimum of GCV in log λ.

    If the Hessian is not positive definite, the step goes downhill with length 1. GCV of few rows has several minima, such as
    a curve and a straight line. From the minimum that is downhill from the start, each λ is therefore tried smaller and
    larger, and a lower place leads to another minimum.
    """

    def criterion(point: Array) -> Value:
        return gcv(problem, point)

    at, here = _minimise(criterion, problem.initial(), _gcv_steps)
    for smooth in np.eye(len(at)):
        places = at + _LEAPS[:, None] * smooth
        scores = gcv_scores(problem, places)
        if scores.min() < here.score * (1 - _ROUNDING):
            at, here = _minimise(criterion, places[scores.argmin()], _gcv_steps)
    return Minimum(at, here.score, at_rest(here))


def minimise_reml(problem: Problem, y_variance: float) -> Minimum:
    """Find the minimum of REML in (log λ, log φ), starting at a tenth of the variance of y."""
    start = np.append(problem.initial(), np.log(y_variance / 10))
    at, here = minimise_likelihood(lambda point: reml(problem, point), start)
    return Minimum(at[:-1], here.score, at_rest(here))


def minimise_likelihood(criterion: Callable[[Array], P], start: Array) -> tuple[Array, P]:
    """Find the minimum of minus a log-likelihood that is downhill from the start, and return it with the criterion there.

    If the Hessian is not positive definite, two steps are tried and the better is taken: Newton's step with positive
    eigenvalues, and a step of length 1 downhill.
    """
    return _minimise(
        criterion, start, lambda value, newton, convex: [newton] if convex else [newton, _steepest_step(value)]
    )


def at_rest(value: Point) -> bool:
    """Whether a search has ended at a slope of 0."""
    return value.slope <= _AT_REST


def largest(gradient: Array) -> float:
    """The largest absolute entry."""
    return float(np.abs(gradient).max(initial=0))


def _gcv_steps(value: Point, newton: Array, convex: bool) -> list[Array]:
    return [newton] if convex else [_steepest_step(value)]


def _minimise(
    criterion: Callable[[Array], P], at: Array, steps: Callable[[P, Array, bool], list[Array]]
) -> tuple[Array, P]:
    """Run Newton's method, and return its end point with the criterion there.

    A log λ that goes to infinity (the data want a straight line) is left where its slope becomes 0. The lowest point of
    `steps` is taken. If none is lower, a step downhill is tried.
    """
    here = criterion(at)
    for _ in range(_MAX_ITERATIONS):
        if here.slope <= _AT_REST:
            break
        moving = np.abs(here.gradient) > _AT_REST * here.size / len(at)
        convex = bool(np.linalg.eigvalsh(here.hessian[np.ix_(moving, moving)])[0] > 0)
        tried = steps(here, _newton_step(here, moving), convex)
        lower = [point for step in tried if (point := _descend(criterion, at, here, step))]
        if not lower and (point := _descend(criterion, at, here, _steepest_step(here))):
            lower = [point]
        if not lower:
            break
        at, here = min(lower, key=lambda point: point[1].score)
    return at, here


def _newton_step(value: Point, moving: NDArray[np.bool_]) -> Array:
    """-|H|⁻¹g in the `moving` parameters, with H's absolute eigenvalues. Components are limited to `_MAX_STEP`."""
    eigenvalues, vectors = np.linalg.eigh(value.hessian[np.ix_(moving, moving)])
    size = np.maximum(np.abs(eigenvalues), np.abs(eigenvalues).max(initial=0) * np.finfo(float).eps ** 0.5)
    step = np.zeros(len(value.gradient))
    step[moving] = -vectors @ ((vectors.T @ value.gradient[moving]) / size)
    return step * min(1.0, _MAX_STEP / max(np.abs(step).max(initial=0), _MAX_STEP))


def _steepest_step(value: Point) -> Array:
    """Step downhill whose largest component is 1."""
    return -value.gradient / max(np.abs(value.gradient).max(), np.finfo(float).tiny)


def _descend(criterion: Callable[[Array], P], at: Array, here: P, step: Array) -> tuple[Array, P] | None:
    """The first lower point of at + step, at + step/2, at + step/4...; None if there is none.

    Near the minimum, scores differ only by rounding but slopes are still meaningful. There a flatter point is accepted.
    """
    for _ in range(_MAX_HALVINGS):
        there = criterion(at + step)
        gain = here.score - there.score
        as_low = abs(gain) <= here.rounding
        if there.slope < here.slope if as_low else gain > 0:
            return at + step, there
        step = step / 2
    return None

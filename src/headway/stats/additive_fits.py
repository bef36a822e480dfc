"""Smoothing parameters and coefficients of an additive model: for a Gaussian response, and for other families."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headway.errors import StatisticsError
from headway.stats.autocorrelation import Autocorrelation
from headway.stats.families import SmoothFamily
from headway.stats.laml import minimise_laplace
from headway.stats.model_frame import Design, ModelFrame, without_collinear
from headway.stats.penalties import Penalty
from headway.stats.smooth_terms import SmoothTerm, smooth_terms
from headway.stats.smoothing import Problem, minimise_gcv, minimise_reml

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Parts:
    """What a model's formula makes of its data: the parametric design, the smooths, and all columns together."""

    frame: ModelFrame
    x: Design
    dropped: tuple[str, ...]
    terms: tuple[SmoothTerm, ...]

    @classmethod
    def of(cls, frame: ModelFrame) -> Parts:
        x, dropped = without_collinear(frame.design(frame.formula.intercept, frame.formula.terms))
        return cls(frame, x, dropped, smooth_terms(frame, len(x.names)))

    @cached_property
    def matrix(self) -> Array:
        """The model matrix (n, p)."""
        return np.hstack([self.x.matrix, *(term.columns(self.frame.values) for term in self.terms)])

    @cached_property
    def penalties(self) -> tuple[Penalty, ...]:
        return tuple(term.penalty() for term in self.terms)

    @property
    def prior(self) -> Array:
        """Weights of the rows (n,)."""
        return np.ones(self.frame.n_obs) if self.frame.weights is None else self.frame.weights


class Estimates(NamedTuple):
    """The smoothing parameters of a model, and what follows from them.

    Attributes:
        log_sp: log λ on mgcv's scale (m,).
        extra: the family's parameter besides the mean, a logarithm, or None.
        score: minimum of the criterion.
        converged: whether its slope is 0.
        coefficients: b (p,).
        unscaled: (X'WX + S)⁻¹ (p, p).
        r: (p, p), R of √W X = QR.
        roots: √λ_j E_j, below each other.
        shrinkage: F = (X'WX + S)⁻¹X'WX.
    """

    log_sp: Array
    extra: float | None
    score: float
    converged: bool
    coefficients: Array
    unscaled: Array
    r: Array
    roots: Array
    shrinkage: Array


def gaussian_estimates(parts: Parts, method: str, errors: Autocorrelation) -> Estimates:
    """Fit a Gaussian response by "GCV.Cp" or "REML".

    Raises:
        StatisticsError: the data do not determine the coefficients.
    """
    frame = parts.frame
    x, y = (errors.whitened(frame.weighted(rows)) for rows in (parts.matrix, frame.y))
    problem = Problem.of(x, y, parts.penalties)
    _refuse_unidentified(problem, parts)
    minimum = minimise_gcv(problem) if method == "GCV.Cp" else minimise_reml(problem, float(np.var(y)))
    volume = errors.log_volume + frame.log_weights / 2 if method == "REML" else 0.0
    found = _posterior(problem, minimum.log_sp)
    return Estimates(minimum.log_sp, None, minimum.score - volume, minimum.converged, *found)


def family_estimates(parts: Parts, family: SmoothFamily) -> Estimates:
    """Fit a response of another family by Laplace approximate REML.

    Inference is that of mgcv: W is Fisher's information at the estimates.

    Raises:
        StatisticsError: the data do not determine the coefficients.
    """
    y, prior = parts.frame.y, parts.prior
    _refuse_unidentified(Problem.of(parts.matrix, y, parts.penalties), parts)
    minimum = minimise_laplace(family, y, prior, parts.matrix, parts.penalties)
    at = family.derivatives(y, parts.matrix @ minimum.coefficients, prior, minimum.extra)
    log_scale = minimum.extra if family.extra_is_scale and minimum.extra is not None else 0.0
    root = np.sqrt(at.expected * np.exp(log_scale))[:, None]  # √W
    found = _posterior(Problem.of(root * parts.matrix, np.zeros_like(y), parts.penalties), minimum.log_sp)
    estimates = Estimates(minimum.log_sp, minimum.extra, minimum.score, minimum.converged, *found)
    return estimates._replace(coefficients=minimum.coefficients)


def _posterior(problem: Problem, log_sp: Array) -> tuple[Array, Array, Array, Array, Array]:
    """b, (X'WX + S)⁻¹, R, √λ_j E_j and F of a penalised regression."""
    svd = problem.decompose(log_sp)
    half = svd.vt.T / svd.d  # half @ half.T = (X'WX + S)⁻¹
    shrinkage = half @ (svd.u.T @ svd.u) @ (svd.d[:, None] * svd.vt)  # VD⁻¹U'UDV'
    roots = np.vstack([np.exp(rho / 2) * e for rho, e in zip(log_sp, problem.roots, strict=True)])
    return half @ (svd.u.T @ problem.z), half @ half.T, problem.r, roots, shrinkage


def _refuse_unidentified(problem: Problem, parts: Parts) -> None:
    """Raise StatisticsError if the data do not determine the coefficients.

    Terms that are penalised as a whole may overlap with others, as random effects do: the penalty tells them apart.
    """
    terms = parts.terms
    n, p = problem.n, terms[-1].where.stop
    if n <= p:
        raise StatisticsError(f"the table has {n} complete rows for {p} coefficients. Give more rows, or lower k")
    held = np.ones(p, dtype=bool)
    for term in terms:
        held[term.where] = not term.may_overlap
    columns = problem.r[:, held]
    left_over = np.abs(np.diag(np.linalg.qr(columns, mode="r")))
    short = np.flatnonzero(held)[left_over <= 1e-9 * np.linalg.norm(columns, axis=0)]
    if len(short):
        guilty = next((t.label for t in terms if t.where.start <= short[0] < t.where.stop), "a parametric term")
        raise StatisticsError(
            f"{guilty} can be made of the terms before it, or has too few rows: leave one of them out, or lower its k "
            f"(in {parts.frame.formula.text!r})"
        )

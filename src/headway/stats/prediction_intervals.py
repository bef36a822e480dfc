"""Prediction intervals of mixed models: where one more response will lie.

    y_new = x'β + z'b + ε,   b = Λu,   u ~ N(0, σ²I),   ε ~ N(0, σ²)

With C = [X'X, X'ZΛ; Λ'Z'X, Λ'Z'ZΛ + I] of the fitted rows, the error of the prediction has, given θ (Henderson 1975, Biometrics
31, 423-447), the variance

    known groups:  σ² (1 + m'C⁻¹m),   m = [x; Λ'z]
    new groups:    σ² (1 + m'C⁻¹m + |Λ'z|²),   m = [x; 0]

The interval is ± t √variance, with Satterthwaite's degrees of freedom for the whole variance. θ is treated as known in m'C⁻¹m.

Shapes: n fitted rows, m new rows, p fixed and q random effects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from headway.errors import StatisticsError
from headway.stats.deviance import Shape, State
from headway.stats.random_effects import RandomTerm

LARGEST = 100_000_000  # entries of Z, which is dense here: 800 MB
_STEP = 1e-4  # of θ, which is relative to σ


class Effects(NamedTuple):
    """Columns of a random term in some rows (rows, p_i), in units of mean square 1, and the rows' levels (None: a new one)."""

    columns: np.ndarray
    codes: np.ndarray | None


@dataclass(frozen=True)
class Rows:
    """New rows: fixed effects in the orthonormal design (m, p), and the columns of each random term."""

    x: np.ndarray
    effects: Sequence[Effects]


def relative_variance(
    basis: np.ndarray, terms: Sequence[RandomTerm], shape: Shape, new: Rows
) -> Callable[[np.ndarray], np.ndarray]:
    """The variance of the prediction errors over σ², (m,), as a function of θ.

    Args:
        basis: orthonormal design of the fitted rows, (n, p), weighted.
        terms: the random terms of the fitted rows, weighted.
        shape: layout of θ.
        new: the new rows.

    Raises:
        StatisticsError: the random effects are too many for dense algebra.
    """
    n, q = len(basis), sum(term.size for term in terms)
    if n * q > LARGEST:
        raise StatisticsError(
            f"prediction intervals need {n} rows times {q} random effects, and {LARGEST:,} is the most"
        )
    fitted = [_expanded(Effects(term.columns, term.group.codes), term.n_levels) for term in terms]
    known = [effects.codes is not None for effects in new.effects]
    placed = [
        _expanded(effects, term.n_levels) if knows else np.zeros((len(new.x), term.size))
        for effects, term, knows in zip(new.effects, terms, known, strict=True)
    ]

    def at(theta: np.ndarray) -> np.ndarray:
        factors = shape.factors(theta)
        design = np.hstack([basis, *(_times(z, t) for z, t in zip(fitted, factors, strict=True))])
        rows = np.hstack([new.x, *(_times(z, t) for z, t in zip(placed, factors, strict=True))])
        c = design.T @ design
        random = np.arange(len(c)) >= basis.shape[1]
        c[random, random] += 1
        error = np.sum(np.linalg.solve(np.linalg.cholesky(c), rows.T) ** 2, axis=0)
        new_levels = sum(
            np.sum((effects.columns @ t) ** 2, axis=1)
            for effects, t, knows in zip(new.effects, factors, known, strict=True)
            if not knows
        )
        return 1 + error + new_levels

    return at


def degrees_of_freedom(state: State, a: np.ndarray, at: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Satterthwaite's df of σ² u(θ), (m,): 2 v² / g'Ag with the derivatives g of v by (θ, σ).

    Args:
        state: the fit.
        a: covariance of (θ̂, σ̂).
        at: u.
    """
    sigma2, u = state.sigma2, at(state.theta)
    steps = _STEP * np.eye(len(state.theta))
    by_theta = [sigma2 * (at(state.theta + step) - at(state.theta - step)) / (2 * _STEP) for step in steps]
    g = np.array([*by_theta, 2 * np.sqrt(sigma2) * u])
    return 2 * (sigma2 * u) ** 2 / np.einsum("km,kl,lm->m", g, a, g)


def _expanded(effects: Effects, n_levels: int) -> np.ndarray:
    """(rows, levels · p): the columns of each row in the place of its level."""
    n, p = effects.columns.shape
    out = np.zeros((n, n_levels, p))
    out[np.arange(n), effects.codes] = effects.columns
    return out.reshape(n, n_levels * p)


def _times(z: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Z (I ⊗ T)."""
    return (z.reshape(len(z), -1, len(factor)) @ factor).reshape(z.shape)

"""Satterthwaite's degrees of freedom (Kuznetsova, Brockhoff & Christensen 2017, J. Stat. Softw. 82(13), eq. 4-9).

With φ = (θ, σ), A = 2 H⁻¹ the covariance of φ̂ from the Hessian of the deviance that σ is not profiled out of, and
g = ∂ var(l'β̂) / ∂φ:

    df = 2 var(l'β̂)² / (g'Ag)

The derivatives are exact, while lmerTest computes them numerically. At θ = 0 the derivative of the variance is 0, and so is
its share in g'Ag, so the df stay finite.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headway.stats.deviance import State

# Directions of φ in which the deviance is flat are left out of the inverse, as in lmerTest.
_FLAT = 1e-8


class FTest(NamedTuple):
    f: float
    df_1: int
    df_2: float


class Satterthwaite:
    """Degrees of freedom of linear combinations of the fixed effects.

    Args:
        state: the fit, in the units of the orthonormal design.
        to_beta: (p, p) maps its coefficients to β.
    """

    def __init__(self, state: State, to_beta: np.ndarray) -> None:
        sigma2, nu = state.sigma2, state.n_free
        by, k = state.derivatives, len(state.theta)
        hessian = np.empty((k + 1, k + 1))
        hessian[:k, :k] = by.log_det_2 + (by.log_det_x_2 if state.reml else 0.0) + by.rss_2 / sigma2
        hessian[:k, k] = hessian[k, :k] = -2 * by.rss / sigma2**1.5
        hessian[k, k] = -2 * nu / sigma2 + 6 * state.rss / sigma2**2
        values, vectors = np.linalg.eigh(hessian)
        sound = values > _FLAT
        self.a = 2 * (vectors[:, sound] / values[sound]) @ vectors[:, sound].T

        inverse = state.w_xx_inverse
        by_theta = [-sigma2 * inverse @ w @ inverse for w in by.w[:, :-1, :-1]]
        by_phi = np.array([*by_theta, 2 * np.sqrt(sigma2) * inverse]).reshape(k + 1, *inverse.shape)
        self.vcov = sigma2 * to_beta @ inverse @ to_beta.T
        self.vcov_by_phi = to_beta @ by_phi @ to_beta.T

    def df(self, combinations: np.ndarray) -> np.ndarray:
        """The df of each row l of `combinations` (r, p)."""
        variance = np.einsum("ri,ij,rj->r", combinations, self.vcov, combinations)
        g = np.einsum("ri,kij,rj->rk", combinations, self.vcov_by_phi, combinations)
        with np.errstate(divide="ignore"):
            return 2 * variance**2 / np.einsum("rk,kl,rl->r", g, self.a, g)

    def f_test(self, combinations: np.ndarray, beta: np.ndarray) -> FTest:
        """F test that all rows of `combinations` (r, p), of full rank, are 0 on β.

        The rows are made uncorrelated, and their df ν_m are pooled: df = 2E / (E - r), E = Σ ν_m / (ν_m - 2) over ν_m > 2
        (Fai & Cornelius 1996).
        """
        variances, axes = np.linalg.eigh(combinations @ self.vcov @ combinations.T)
        independent = axes.T @ combinations
        t2 = (independent @ beta) ** 2 / variances
        n = len(combinations)
        return FTest(float(t2.mean()), n, _pooled(self.df(independent)))


def _pooled(df: np.ndarray) -> float:
    if len(df) == 1 or np.ptp(df) < 1e-8 * df.max():
        return float(df.mean())
    if np.any(df <= 2):
        return 2.0
    e = float(np.sum(df / (df - 2)))
    return 2 * e / (e - len(df))


def type_three(
    marginal: np.ndarray, treatment: np.ndarray, in_marginal: list[int], in_treatment: list[int]
) -> np.ndarray:
    """Combinations of treatment-coded coefficients that are tested by a type III test of one term.

    Type III tests a term averaged over the other factors' levels with equal weights. With factors coded to sum to zero, this
    is the test of the term's own coefficients. Both codings span the same space, so β_sum = C β_treatment. The rows of C are
    combined so that each tests one coefficient of the term, because with unequal df their choice matters.

    Args:
        marginal: (n, p) design with sum-to-zero contrasts.
        treatment: (n, p) design with treatment contrasts.
        in_marginal, in_treatment: the term's columns in each.
    """
    c = np.linalg.lstsq(marginal, treatment, rcond=None)[0][in_marginal]
    return np.linalg.solve(c[:, in_treatment], c)

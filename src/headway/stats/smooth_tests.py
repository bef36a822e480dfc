"""Is there anything to a smooth? F and p of Wood (2013) On p-values for smooth components, Biometrika 100, 221-228.

T = f' V⁻ f for the fitted curve f = Xβ with covariance V = X V_β X', V⁻ a pseudo-inverse of fractional rank r = edf1.
With k = ⌊r⌋ and ν = r - k the k - 1 leading eigenvalues of V are inverted, the next two share the rank 1 + ν through
[1, ρ; ρ, ν], ρ = √(ν(1-ν)/2). Under the null T is χ²_{k-1} + ν₁χ²₁ + ν₂χ²₁, ν₁,₂ = (1 + ν ± √(1-ν²))/2, over χ²_κ/κ for
the estimated scale; F = T/r.

The sign of ρ depends on the signs of two eigenvectors, which are arbitrary: T has two values, equally valid. mgcv shows one
or the other, as its numerical routines happen to sign the vectors. Here F is always the smaller one, so that it does not
depend on the order of rows, the direction of x or rounding; the other is `f_alternative`. p is the mean of the two
values' p, which no sign moves; mgcv's p is the same to the accuracy of its own integral.

A term that is penalised as a whole (random effects, curves by groups, cyclic curves) can vanish, and has a test of its own:
`effects_test`, by Wood (2013) A simple test for random effects in regression models, Biometrika 100, 1005-1010.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headway.stats.distributions import chi2_p, f_p

Array = NDArray[np.float64]

_WHOLE_RANK = 1e-8  # a fraction of rank below this is rounding
_NODES = np.linspace(0.0, 30.0, 1201)


class SmoothTest(NamedTuple):
    """F (chi-square / `ref_df` if the scale is known), p, the other value of F, and the reference degrees of freedom."""

    f: float
    p: float
    f_alternative: float
    ref_df: float


def wood_test(r: Array, beta: Array, covariance: Array, rank: float, df_resid: float) -> SmoothTest:
    """F and p-value of a smooth.

    Args:
        r: (p, k), the smooth's columns of R in X = QR.
        beta: (k,), its coefficients; covariance: (k, k), their Bayesian covariance.
        rank: its edf1, at most k.
        df_resid: residual degrees of freedom, κ; infinite if the scale is known.
    """
    from scipy.linalg import eigh, qr

    root = qr(r, mode="r")[0][: len(beta)]
    v = root @ covariance @ root.T
    values, vectors = eigh((v + v.T) / 2, driver="evr")
    values, vectors = values[::-1], vectors[:, ::-1]
    ref_df, rank = rank, float(min(rank, np.sum(values > values[0] * np.finfo(float).eps ** 0.9)))
    projected = vectors.T @ (root @ beta)  # U'f

    whole = int(np.floor(rank + _WHOLE_RANK))
    part = max(rank - whole, 0.0)
    if whole >= len(values) or part < _WHOLE_RANK:
        f = float(np.sum(projected[:whole] ** 2 / values[:whole])) / rank
        return SmoothTest(f, _f_or_chi2_p(f, rank, df_resid), f, ref_df)
    if whole == 0:  # less than one degree of freedom: the leading direction alone
        f = float(projected[0] ** 2 / values[0])
        return SmoothTest(f, _f_or_chi2_p(f, 1.0, df_resid), f, ref_df)
    squares = projected[: whole + 1] ** 2 / values[: whole + 1]
    both = float(np.sum(squares[:whole]) + part * squares[whole])
    cross = float(np.sqrt(2 * part * (1 - part) * squares[whole - 1] * squares[whole]))  # 2ρ|u₁u₂|
    nu_1 = (1 + part + np.sqrt(1 - part**2)) / 2
    weights = np.array([nu_1, 1 + part - nu_1])
    p = np.mean([chi2_mixture_p(t, weights, whole - 1, df_resid) for t in (both - cross, both + cross)])
    return SmoothTest((both - cross) / rank, float(p), (both + cross) / rank, ref_df)


class PenalisedFit(NamedTuple):
    """What tests of random effects need of a fit.

    Args:
        r: (p, p), R of X = QR.
        roots: (q, p), √λ_j E_j of all penalties, below each other.
        beta: (p,); vcov: (p, p), their Bayesian covariance; scale: φ.
        df_resid: residual degrees of freedom; infinite if the scale is known.
    """

    r: Array
    roots: Array
    beta: Array
    vcov: Array
    scale: float
    df_resid: float


def effects_test(fit: PenalisedFit, where: slice, others: Sequence[slice]) -> SmoothTest:
    """Test whether the coefficients `where`, penalised as a whole, are anything but zero.

    T = |R_m b|²/φ, with R_m the part of R that is the term's own, given all terms before it. `others` are the coefficients of
    random effects, which are left in the covariance of y: V = I + R_2 S_2⁻¹ R_2' = L'L. Under the null T is Σ e_i χ²₁ over
    χ²_κ/κ, for the eigenvalues e of R_m V_e R_m' and the frequentist covariance V_e.
    """
    fixed = np.ones(len(fit.beta), dtype=bool)
    for other in others:
        fixed[other] = False
    own = np.zeros(len(fit.beta), dtype=bool)
    own[where] = True
    lx = fit.r  # L R
    if not fixed.all():
        r_2, root_2 = fit.r[:, ~fixed], fit.roots[:, ~fixed]
        v = np.eye(len(fit.r)) + r_2 @ np.linalg.solve(root_2.T @ root_2, r_2.T)
        lx = np.linalg.cholesky(v).T @ fit.r
    last = np.concatenate([np.flatnonzero(fixed & ~own), np.flatnonzero(own)])
    size = int(own.sum())
    r_m = np.asarray(np.linalg.qr(np.vstack([lx, fit.roots])[:, last], mode="r"))[-size:, -size:]
    statistic = float(np.sum((r_m @ fit.beta[where]) ** 2)) / fit.scale
    half = lx @ fit.vcov[:, where] @ r_m.T / fit.scale  # half'half = R_m V_e R_m'/φ
    weights = np.linalg.svd(half, compute_uv=False) ** 2
    seen = weights > weights[0] * np.finfo(float).eps ** 0.8
    rank = float(seen.sum())
    p = chi2_mixture_p(statistic, weights[seen], 0.0, fit.df_resid)
    return SmoothTest(statistic / rank, p, statistic / rank, rank)


def _f_or_chi2_p(f: float, df: float, df_resid: float) -> float:
    return chi2_p(f * df, df) if np.isinf(df_resid) else float(f_p(f, df, df_resid))


def chi2_mixture_p(statistic: float, weights: Array, df: float, df_resid: float) -> float:
    """P(Σ w_i χ²₁ + χ²_df > statistic · χ²_κ/κ), κ = `df_resid`, which is infinite if the right side is the statistic itself.

    With M(s) the moment generating function of the difference, the tail is 1/2πi ∫ M(s)/s ds along any vertical line right
    of 0. The line through the saddlepoint is taken (Helstrom 1996, IEEE
    Trans. Aerosp. Electron. Syst. 32, 1013-1019): there the integrand hardly oscillates, and small p keep their relative accuracy, which Davies' (1980) contour, the imaginary axis, does not give.
    """
    from scipy.optimize import brentq

    if statistic <= 0:
        return 1.0
    w, halves = np.append(weights, 1.0), np.append(np.full(len(weights), 0.5), df / 2)
    w, halves = w[(w > 0) & (halves > 0)], halves[(w > 0) & (halves > 0)]
    unit = w.max()
    w, against = w / unit, statistic / unit
    known = bool(np.isinf(df_resid))
    share = 0.0 if known else 2 * against / df_resid  # χ²_κ/κ times `against` has the transform (1 + s·share)^(-κ/2)

    def slope(s: float) -> float:
        return float(2 * halves @ (w / (1 - 2 * w * s)) - against / (1 + share * s) - 1 / s)

    saddle = brentq(slope, 0.5e-12, 0.5 * (1 - 1e-12))
    curvature = 4 * halves @ (w / (1 - 2 * w * saddle)) ** 2 + against * share / (1 + share * saddle) ** 2
    width = 1 / np.sqrt(curvature + saddle**-2)

    # the trapezoidal rule in t, u = sinh t, converges exponentially: the integrand is analytic about the line
    s = saddle + 1j * width * np.sinh(_NODES)
    log_integrand = -(np.log(1 - 2 * s[:, None] * w) @ halves) - np.log(s)
    log_integrand -= against * s if known else df_resid / 2 * np.log(1 + share * s)
    height = log_integrand[0].real
    area = np.exp(log_integrand - height).real * np.cosh(_NODES)
    total = _NODES[1] * (area.sum() - area[0] / 2)
    return float(min(1.0, np.exp(height) * width * total / np.pi))

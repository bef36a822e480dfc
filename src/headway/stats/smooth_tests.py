"""Is there anything to a smooth? F and p of Wood (2013) On p-values for smooth components, Biometrika 100, 221-228.

T = f' V⁻ f for the fitted curve f = Xβ with covariance V = X V_β X', V⁻ a pseudo-inverse of fractional rank r = edf1.
With k = ⌊r⌋ and ν = r - k the k - 1 leading eigenvalues of V are inverted, the next two share the rank 1 + ν through
[1, ρ; ρ, ν], ρ = √(ν(1-ν)/2). Under the null T is χ²_{k-1} + ν₁χ²₁ + ν₂χ²₁, ν₁,₂ = (1 + ν ± √(1-ν²))/2, over χ²_κ/κ for
the estimated scale; F = T/r.

The sign of ρ depends on the signs of two eigenvectors, which are arbitrary: T has two values, equally valid. mgcv shows one
or the other, as its numerical routines happen to sign the vectors. Here F is always the smaller one, so that it does not
depend on the order of rows, the direction of x or rounding; the other is `f_alternative`. p is the mean of the two
values' p, which no sign moves; mgcv's p is the same to the accuracy of its own integral.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headway.stats.distributions import f_p

Array = NDArray[np.float64]

_WHOLE_RANK = 1e-8  # a fraction of rank below this is rounding
_NODES = np.linspace(0.0, 30.0, 1201)


class SmoothTest(NamedTuple):
    f: float
    p: float
    f_alternative: float


def wood_test(r: Array, beta: Array, covariance: Array, rank: float, df_resid: float) -> SmoothTest:
    """F and p-value of a smooth.

    Args:
        r: (p, k), the smooth's columns of R in X = QR.
        beta: (k,), its coefficients; covariance: (k, k), their Bayesian covariance.
        rank: its edf1, at most k.
        df_resid: residual degrees of freedom, κ.
    """
    from scipy.linalg import eigh, qr

    root = qr(r, mode="r")[0][: len(beta)]
    v = root @ covariance @ root.T
    values, vectors = eigh((v + v.T) / 2, driver="evr")
    values, vectors = values[::-1], vectors[:, ::-1]
    rank = float(min(rank, np.sum(values > values[0] * np.finfo(float).eps ** 0.9)))
    projected = vectors.T @ (root @ beta)  # U'f

    whole = int(np.floor(rank + _WHOLE_RANK))
    part = max(rank - whole, 0.0)
    if whole >= len(values) or part < _WHOLE_RANK:
        f = float(np.sum(projected[:whole] ** 2 / values[:whole])) / rank
        return SmoothTest(f, float(f_p(f, rank, df_resid)), f)
    if whole == 0:  # less than one degree of freedom: the leading direction alone
        f = float(projected[0] ** 2 / values[0])
        return SmoothTest(f, float(f_p(f, 1.0, df_resid)), f)
    squares = projected[: whole + 1] ** 2 / values[: whole + 1]
    both = float(np.sum(squares[:whole]) + part * squares[whole])
    cross = float(np.sqrt(2 * part * (1 - part) * squares[whole - 1] * squares[whole]))  # 2ρ|u₁u₂|
    nu_1 = (1 + part + np.sqrt(1 - part**2)) / 2
    weights = np.array([nu_1, 1 + part - nu_1])
    p = np.mean([chi2_mixture_f_p(t, weights, whole - 1, df_resid) for t in (both - cross, both + cross)])
    return SmoothTest((both - cross) / rank, float(p), (both + cross) / rank)


def chi2_mixture_f_p(statistic: float, weights: Array, df: int, df_resid: float) -> float:
    """P(Σ w_i χ²₁ + χ²_df > statistic · χ²_κ/κ), κ = `df_resid`.

    With M(s) the moment generating function of the difference, the tail is 1/2πi ∫ M(s)/s ds along any vertical line right
    of 0. The line through the saddlepoint is taken (Helstrom 1996, IEEE
    Trans. Aerosp. Electron. Syst. 32, 1013-1019): there the integrand hardly oscillates, and small p keep their relative accuracy, which Davies' (1980) contour, the imaginary axis, does not give.
    """
    from scipy.optimize import brentq

    weighted = weights > 0
    all_weights = np.concatenate([weights[weighted], [1.0], [-statistic / df_resid]])
    halves = np.concatenate([np.full(weighted.sum(), 0.5), [df / 2], [df_resid / 2]])

    def slope(s: float) -> float:
        return float(2 * halves @ (all_weights / (1 - 2 * all_weights * s)) - 1 / s)

    highest = 1 / (2 * all_weights[halves > 0].max())
    saddle = brentq(slope, highest * 1e-12, highest * (1 - 1e-12))
    width = 1 / np.sqrt(4 * halves @ (all_weights / (1 - 2 * all_weights * saddle)) ** 2 + saddle**-2)

    # the trapezoidal rule in t, u = sinh t, converges exponentially: the integrand is analytic about the line
    s = saddle + 1j * width * np.sinh(_NODES)
    log_integrand = -(np.log(1 - 2 * s[:, None] * all_weights) @ halves) - np.log(s)
    height = log_integrand[0].real
    area = np.exp(log_integrand - height).real * np.cosh(_NODES)
    total = _NODES[1] * (area.sum() - area[0] / 2)
    return float(min(1.0, np.exp(height) * width * total / np.pi))

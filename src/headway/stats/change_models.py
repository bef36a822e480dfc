"""The curves that `change_points` compares, each fitted to many series at once by least squares.

Shapes: s series, t grid points; x = log10(step + 1), (t,); y (s, t). Each fit has `rss` (s,), `parameters` (s,) and
`fitted` (s, t). The parameters include the variance of the errors and, for steps, the positions of the breaks.

| model | curve | parameters |
|---|---|---|
| constant | one level | 2 |
| line | a straight line in x | 3 |
| smooth | a thin-plate regression spline, smoothed by REML: the GAM | edf + 1 |
| sigmoid | a logistic rise or fall whose middle 80% spans at least a given factor of steps | 5 |
| m steps | m + 1 levels | 2 m + 2 |
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headway.stats.smooths import ThinPlate

Array = NDArray[np.float64]

SMOOTH_K = 10
MIN_SEGMENT = 2  # a level with a single grid point could be an outlier
_LOG_SP = np.arange(-18.0, 18.01, 0.25)
_LOGISTIC_80 = 2 * np.log(9.0)  # a logistic rises from 10% to 90% over this many of its scales


class Fit(NamedTuple):
    rss: Array
    parameters: Array
    fitted: Array


def constant(y: Array) -> Fit:
    fitted = np.broadcast_to(y.mean(axis=1, keepdims=True), y.shape)
    return Fit(np.sum((y - fitted) ** 2, axis=1), np.full(len(y), 2.0), fitted)


def line(x: Array, y: Array) -> Fit:
    basis = np.linalg.qr(np.column_stack([np.ones_like(x), x]))[0]
    fitted = y @ basis @ basis.T
    return Fit(np.sum((y - fitted) ** 2, axis=1), np.full(len(y), 3.0), fitted)


class Smoother:
    """The GAM y ~ s(x) by REML for many series over the same x, in a basis that turns smoothing into shrinkage.

    With X = QR and R⁻ᵀSR⁻¹ = U diag(w) U' (Demmler & Reinsch 1975, Numer. Math. 24, 375-382), the fit is
    QU diag(1/(1 + λw)) U'Q'y, and REML of λ, profiled over the variance, is a sum over coordinates.
    """

    def __init__(self, x: Array) -> None:
        self.basis = ThinPlate.of(x, min(SMOOTH_K, len(np.unique(x)) - 1))
        q, r = np.linalg.qr(self.basis.columns(x))
        inverse = np.linalg.inv(r)
        weights, vectors = np.linalg.eigh(inverse.T @ self.basis.penalty @ inverse)
        weights[: self.basis.null_dim] = 0.0  # not penalised
        self.weights = weights  # (k,)
        self.rotation = q @ vectors  # (t, k)
        self.to_coefficients = inverse @ vectors  # (k, k)

    def log_sp(self, y: Array) -> Array:
        """Choose log λ of each series (s,) by REML."""
        z = y @ self.rotation
        outside = np.maximum(np.sum(y**2, axis=1) - np.sum(z**2, axis=1), 0.0)
        free = y.shape[1] - self.basis.null_dim
        rank = len(self.weights) - self.basis.null_dim
        loaded = np.exp(_LOG_SP)[:, None] * self.weights  # (λ, k)
        penalised = outside[:, None] + z**2 @ (loaded / (1 + loaded)).T  # P(λ), (s, λ)
        determinants = np.sum(np.log1p(loaded), axis=1) - rank * _LOG_SP
        tiny = np.finfo(float).tiny
        return _LOG_SP[np.argmin(free * np.log(np.maximum(penalised, tiny)) + determinants, axis=1)]

    def __call__(self, y: Array) -> Fit:
        centre = y.mean(axis=1, keepdims=True)
        shrinkage = 1 / (1 + np.exp(self.log_sp(y - centre))[:, None] * self.weights)  # (s, k)
        fitted = ((y - centre) @ self.rotation * shrinkage) @ self.rotation.T + centre
        return Fit(np.sum((y - fitted) ** 2, axis=1), shrinkage.sum(axis=1) + 1, fitted)

    def steepest(self, y: Array, at: Array) -> Array:
        """The point of `at` where each series' curve is steepest (s,)."""
        centred = y - y.mean(axis=1, keepdims=True)
        shrinkage = 1 / (1 + np.exp(self.log_sp(centred))[:, None] * self.weights)
        coefficients = (centred @ self.rotation * shrinkage) @ self.to_coefficients.T
        slopes = coefficients @ self.basis.columns(at, order=1).T
        return at[np.argmax(np.abs(slopes), axis=1)]


class Sigmoids:
    """Logistic curves of all widths from `narrowest` decades (10% to 90%) to the whole grid, centred within the grid."""

    def __init__(self, x: Array, narrowest: float) -> None:
        span = float(x[-1] - x[0])
        widths = np.geomspace(narrowest, max(span, 2 * narrowest), 12)
        centres = np.linspace(x[0], x[-1], 8 * len(x) if len(x) <= 50 else 400)
        scaled = (x - centres[:, None, None]) / (widths[:, None] / _LOGISTIC_80)  # (centre, width, t)
        curves = (0.5 * (1 + np.tanh(scaled / 2))).reshape(-1, len(x))
        curves = curves - curves.mean(axis=1, keepdims=True)
        size = np.linalg.norm(curves, axis=1, keepdims=True)
        self.curves = (curves / size)[size[:, 0] > 1e-8]

    def __call__(self, y: Array) -> Fit:
        centre = y.mean(axis=1, keepdims=True)
        heights = (y - centre) @ self.curves.T
        best = np.argmax(np.abs(heights), axis=1)
        rows = np.arange(len(y))
        fitted = centre + heights[rows, best, None] * self.curves[best]
        return Fit(np.sum((y - fitted) ** 2, axis=1), np.full(len(y), 5.0), fitted)


def breaks(y: Array, most: int) -> list[NDArray[np.intp]]:
    """Breaks (s, m) of the least-squares piecewise-constant fit, for m = 1, 2, ... `most`.

    A break b is between the points b - 1 and b. The solution is exact, by dynamic programming (Bellman 1961; Auger &
    Lawrence 1989, Bull. Math. Biol. 51, 39-54). Larger m are left out if the grid has no room for m + 1 levels.
    """
    s, t = y.shape
    centred = y - y.mean(axis=1, keepdims=True)
    sums = np.concatenate([np.zeros((s, 1)), np.cumsum(centred, axis=1)], axis=1)
    squares = np.concatenate([np.zeros((s, 1)), np.cumsum(centred**2, axis=1)], axis=1)

    def cost(start: NDArray[np.intp], stop: int) -> Array:
        """Sum of squares about the mean of the points start..stop-1: (s, len(start))."""
        total = sums[:, [stop]] - sums[:, start]
        return squares[:, [stop]] - squares[:, start] - total**2 / (stop - start)

    least = np.full((s, t + 1), np.inf)
    for stop in range(MIN_SEGMENT, t + 1):
        least[:, stop] = cost(np.array([0]), stop)[:, 0]
    last: list[NDArray[np.intp]] = []  # last[m][:, stop]: the last of m + 1 breaks before `stop`
    found = []
    for m in range(1, most + 1):
        if (m + 1) * MIN_SEGMENT > t:
            break
        below, least = least, np.full((s, t + 1), np.inf)
        where = np.zeros((s, t + 1), dtype=np.intp)
        for stop in range((m + 1) * MIN_SEGMENT, t + 1):
            starts = np.arange(m * MIN_SEGMENT, stop - MIN_SEGMENT + 1)
            total = below[:, starts] + cost(starts, stop)
            best = np.argmin(total, axis=1)
            least[:, stop] = total[np.arange(s), best]
            where[:, stop] = starts[best]
        last.append(where)
        found.append(_trace_back(last, t))
    return found


def _trace_back(last: list[NDArray[np.intp]], t: int) -> NDArray[np.intp]:
    rows = np.arange(len(last[0]))
    stop = np.full(len(rows), t)
    places = []
    for where in reversed(last):
        stop = where[rows, stop]
        places.append(stop)
    return np.column_stack(places[::-1])


def steps(y: Array, places: NDArray[np.intp]) -> Fit:
    """Fit the levels between given breaks (s, m)."""
    s, t = y.shape
    segment = np.sum(np.arange(t)[None, None, :] >= places[:, :, None], axis=1)  # (s, t)
    fitted = np.empty_like(y)
    for level in range(places.shape[1] + 1):
        member = segment == level
        means = np.sum(y * member, axis=1) / member.sum(axis=1)
        fitted[member] = np.repeat(means, member.sum(axis=1))
    return Fit(np.sum((y - fitted) ** 2, axis=1), np.full(s, 2.0 * places.shape[1] + 2), fitted)

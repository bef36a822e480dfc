"""The bases of smooths of one variable: thin-plate (`tp`), cubic (`cr`) and cyclic cubic (`cc`) regression splines.

Shapes: n rows, u unique values or knots, k basis functions before the sum-to-zero constraint.

    basis = ThinPlate.of(x, k)
    basis.columns(x_new)              (m, k)   the basis functions
    basis.columns(x_new, order=1)     (m, k)   their derivatives
    basis.penalty                     (k, k)   b'Sb = the wiggliness of the curve, on mgcv's scale

Sources: Wood (2003) Thin plate regression splines, JRSS-B 65, 95-114; Wood (2017) Generalized Additive Models, 2nd ed.,
§5.3.1 (cubic) and §5.4.3 (scaling and constraints).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headway.errors import StatisticsError
from headway.stats.r_random import r_sample

Array = NDArray[np.float64]

MAX_KNOTS = 2000  # more unique values are subsampled, as in mgcv
_FULL_EIGEN_LIMIT = 200  # a full eigendecomposition is faster than a partial one up to this many unique values


class Basis(Protocol):
    """Interface of a smooth's basis."""

    @property
    def penalty(self) -> Array: ...
    @property
    def null_dim(self) -> int: ...  # dimension of the space that is not penalised

    def columns(self, x: Array, order: int = 0) -> Array: ...


@dataclass(frozen=True)
class ThinPlate:
    """The thin-plate regression spline: the best rank-k approximation of a smoothing spline.

    With E_ij = |x_i - x_j|³/12 over the unique x and E = U D U', the k eigenvectors U_k of largest |eigenvalue| are kept;
    the coefficients d of U_k obey T'U_k d = 0 for T = [1, x], which d = Z b does. The basis is [E U_k Z, 1, x], its
    penalty Z'D_k Z; columns have root mean square 1 over the data.
    """

    knots: Array  # (u,), centred by `shift`
    shift: float
    weights: Array  # (u, k - 2): U_k Z, scaled
    scale: Array  # (k,): what the columns were divided by
    penalty: Array
    null_dim: int = 2

    @classmethod
    def of(cls, x: Array, k: int) -> ThinPlate:
        shift = float(x.mean())
        knots = _knots(x) - shift
        values, vectors = _leading_eigen(knots, k)
        kernel = _null_space(vectors.T @ np.column_stack([np.ones_like(knots), knots]))  # Z
        raw = cls(knots, shift, vectors @ kernel, np.ones(k), np.zeros((k, k)))
        columns = raw.columns(x)
        scale = np.sqrt(np.mean(columns**2, axis=0))
        penalty = np.zeros((k, k))
        penalty[: k - 2, : k - 2] = (kernel.T * values) @ kernel / np.outer(scale[: k - 2], scale[: k - 2])
        return cls(knots, shift, raw.weights, scale, rescaled(penalty, columns / scale))

    def columns(self, x: Array, order: int = 0) -> Array:
        unique, row = np.unique(x, return_inverse=True)  # tied values are computed once
        centred = unique - self.shift
        radial = radial_sums(centred, self.knots, self.weights, order)
        constant = np.full_like(centred, float(order == 0))
        linear = [centred, np.ones_like(centred), np.zeros_like(centred)][order]
        return (np.column_stack([radial, constant, linear]) / self.scale)[row]


@dataclass(frozen=True)
class CubicRegression:
    """The natural cubic spline, stated by its values at k knots spread evenly through the unique x.

    With h the knots' distances, second derivatives at the knots are F b, F = B⁻¹D bordered by zeros, and the integrated
    squared second derivative is b'D'B⁻¹D b. Beyond the last knots it goes on as a straight line.
    """

    knots: Array  # (k,)
    curvature: Array  # (k, k): F
    penalty: Array
    null_dim: int = 2

    @classmethod
    def of(cls, x: Array, k: int) -> CubicRegression:
        knots = np.quantile(np.unique(x), np.linspace(0, 1, k))
        h = np.diff(knots)
        inner = np.arange(k - 2)
        second_difference = np.zeros((k - 2, k))  # D
        second_difference[inner, inner] = 1 / h[:-1]
        second_difference[inner, inner + 1] = -1 / h[:-1] - 1 / h[1:]
        second_difference[inner, inner + 2] = 1 / h[1:]
        band = np.diag((h[:-1] + h[1:]) / 3) + np.diag(h[1:-1] / 6, 1) + np.diag(h[1:-1] / 6, -1)  # B
        solved = np.linalg.solve(band, second_difference)
        curvature = np.vstack([np.zeros(k), solved, np.zeros(k)])
        penalty = second_difference.T @ solved
        raw = cls(knots, curvature, penalty)
        return cls(knots, curvature, rescaled((penalty + penalty.T) / 2, raw.columns(x)))

    def columns(self, x: Array, order: int = 0) -> Array:
        knots = self.knots
        inside = np.clip(x, knots[0], knots[-1])
        j = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, len(knots) - 2)
        if order == 0:
            slope = _cubic_piece(knots, self.curvature, inside, j, 1)
            return _cubic_piece(knots, self.curvature, inside, j, 0) + (x - inside)[:, None] * slope
        columns = _cubic_piece(knots, self.curvature, inside, j, order)
        if order >= 2:
            columns[(x < knots[0]) | (x > knots[-1])] = 0.0
        return columns


@dataclass(frozen=True)
class CyclicCubic:
    """The cubic spline whose ends meet with equal value, slope and curvature, stated by its values at k - 1 knots.

    With h the knots' distances, second derivatives at the knots are B⁻¹D b, and the integrated squared second derivative is
    b'D'B⁻¹D b, as in `CubicRegression` but with the last knot being the first. Beyond the data the curve repeats itself.
    """

    knots: Array  # (k,): the last one is the first one of the next round
    curvature: Array  # (k - 1, k - 1): B⁻¹D
    penalty: Array
    null_dim: int = 1

    @classmethod
    def of(cls, x: Array, k: int) -> CyclicCubic:
        knots = np.quantile(np.unique(x), np.linspace(0, 1, k))
        after = np.diff(knots)
        before = np.roll(after, 1)
        to_the_next = np.roll(np.eye(k - 1), 1, axis=1)  # row i has its 1 in column i + 1
        off = to_the_next * (after / 6)[:, None]
        band = np.diag((before + after) / 3) + off + off.T  # B
        off = to_the_next / after[:, None]
        second_difference = off + off.T - np.diag(1 / before + 1 / after)  # D
        curvature = np.asarray(np.linalg.solve(band, second_difference), dtype=np.float64)
        penalty = second_difference.T @ curvature
        raw = cls(knots, curvature, penalty)
        return cls(knots, curvature, rescaled((penalty + penalty.T) / 2, raw.columns(x)))

    def columns(self, x: Array, order: int = 0) -> Array:
        start, end = self.knots[0], self.knots[-1]
        inside = np.where((x < start) | (x > end), start + np.mod(x - start, end - start), x)
        j = np.clip(np.searchsorted(self.knots, inside, side="right") - 1, 0, len(self.knots) - 2)
        return _cubic_piece(self.knots, self.curvature, inside, j, order)


def _cubic_piece(knots: Array, curvature: Array, x: Array, j: NDArray[np.intp], order: int) -> Array:
    """Derivative of `order`, by the values at the knots, of the cubic between knots j and j + 1.

    The knot after the last row of `curvature` is the first one.
    """
    h = knots[j + 1] - knots[j]
    left, right = knots[j + 1] - x, x - knots[j]
    at_left, at_right, curve_left, curve_right = {
        0: (left / h, right / h, (left**3 / h - h * left) / 6, (right**3 / h - h * right) / 6),
        1: (-1 / h, 1 / h, (-3 * left**2 / h + h) / 6, (3 * right**2 / h - h) / 6),
        2: (0 * h, 0 * h, left / h, right / h),
    }[order]
    following = (j + 1) % len(curvature)
    columns = curve_left[:, None] * curvature[j] + curve_right[:, None] * curvature[following]
    rows = np.arange(len(x))
    columns[rows, j] += at_left
    columns[rows, following] += at_right
    return columns


BASES: dict[str, type[ThinPlate] | type[CubicRegression] | type[CyclicCubic]] = {
    "tp": ThinPlate,
    "cr": CubicRegression,
    "cc": CyclicCubic,
}
_SMALLEST_K = {"tp": 3, "cr": 3, "cc": 4}


def basis_of(label: str, bs: str, k: int, x: Array) -> Basis:
    """Make the basis `bs` of dimension `k` for the values `x`.

    Raises:
        StatisticsError: k is too small, or there are fewer than k unique values. `label` names the smooth.
    """
    if k < _SMALLEST_K[bs]:
        raise StatisticsError(f"{label}: k={k} leaves no room for a curve; k must be at least {_SMALLEST_K[bs]}")
    n_unique = len(np.unique(x))
    if n_unique < k:
        raise StatisticsError(
            f"{label}: k={k} basis functions need {k} unique values, and there are {n_unique}: "
            f"set k={n_unique} or less"
            + ("" if n_unique >= _SMALLEST_K[bs] else ", or put the variable in as a factor")
        )
    return BASES[bs].of(x, k)


def sum_to_zero(columns: Array) -> Array:
    """(k, k - 1) coefficients of curves that sum to zero over the rows of `columns` (n, k)."""
    constraint = columns.sum(axis=0)
    return np.linalg.qr(constraint[:, None], mode="complete")[0][:, 1:]


def radial_sums(x: Array, knots: Array, weights: Array, order: int = 0) -> Array:
    """sum_j |x - knots_j|³/12 weights_j, or its derivative of `order` with respect to x: (m, k).

    The knots left of a point and those right of it are summed on their own. Each is a sum of powers of a distance, which a
    step to the next point changes by the binomial theorem. This takes O((m + u) k) operations for m points and u knots,
    where the product of matrices takes O(m u k), and 2,000 knots are common.

    Args:
        x: (m,) sorted.
        knots: (u,) sorted.
        weights: (u, k).
        order: 0 to 2.
    """
    right = _sums_of_powers(-x[::-1], -knots[::-1], weights[::-1], 3 - order)[::-1]
    left = _sums_of_powers(x, knots, weights, 3 - order)
    return (left - right) / 4 if order == 1 else (left + right) / (12, 4, 2)[order]


def _sums_of_powers(x: Array, knots: Array, weights: Array, power: int) -> Array:
    """sum of (x - knots_j)^power weights_j over the knots below x or at it: (m, k), for sorted x and knots."""
    places = np.concatenate([knots, x])
    order = np.argsort(places, kind="stable")  # a knot stands before a point at the same place
    step = np.diff(places[order], prepend=places[order[0]])[:, None]
    added = np.concatenate([weights, np.zeros((len(x), weights.shape[1]))])[order]
    sums: list[Array] = []
    for p in range(power + 1):
        before = [np.vstack([np.zeros(lower.shape[1]), lower[:-1]]) for lower in sums]
        change = sum(math.comb(p, q) * step ** (p - q) * lower for q, lower in enumerate(before))
        sums.append(np.cumsum(added if p == 0 else change, axis=0))
    return sums[power][np.argsort(order)[len(knots) :]]


def _leading_eigen(knots: Array, k: int) -> tuple[Array, Array]:
    """The k eigenpairs of E (see `ThinPlate`) with the largest absolute eigenvalues, in descending order of eigenvalue."""
    u = len(knots)
    if u <= max(_FULL_EIGEN_LIMIT, 2 * k):
        values, vectors = np.linalg.eigh(np.abs(knots[:, None] - knots) ** 3 / 12)
        kept = np.argsort(-np.abs(values))[:k]
    else:
        from scipy.sparse.linalg import LinearOperator, eigsh

        product = LinearOperator((u, u), lambda v: radial_sums(knots, knots, v.reshape(u, 1))[:, 0], dtype=float)
        start = np.cos(np.arange(u))  # a fixed start makes the result reproducible
        values, vectors = eigsh(product, k=k, which="LM", v0=start)
        kept = np.arange(k)
    kept = kept[np.argsort(-values[kept])]
    return values[kept], vectors[:, kept]


def _null_space(constraints: Array) -> Array:
    """(k, k - 2) orthonormal basis of {d : constraints' d = 0}, with reflections from the last row up, as in Wood's QT."""
    reflected = np.linalg.qr(constraints[::-1], mode="complete")[0]
    return reflected[::-1, :1:-1]


def rescaled(penalty: Array, columns: Array) -> Array:
    """Scale the penalty to the size of the model matrix, so that smoothing parameters are comparable with mgcv's."""
    return penalty * (np.abs(columns).sum(axis=1).max() ** 2 / np.abs(penalty).sum(axis=0).max())


def _knots(x: Array) -> Array:
    """The unique values, or the sample of 2,000 that mgcv draws (R's generator with seed 1)."""
    unique = np.unique(x)
    if len(unique) <= MAX_KNOTS:
        return unique
    return np.sort(unique[list(_sampled(len(unique)))])


@cache
def _sampled(n: int) -> tuple[int, ...]:
    """The places that mgcv keeps of n unique values. Drawn once: R's generator in Python takes 20 ms."""
    return tuple(r_sample(n, MAX_KNOTS, seed=1).tolist())

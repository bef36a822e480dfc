"""The profiled deviance of a mixed model, with its exact gradient and Hessian.

    y = X β + Z b + ε,   b ~ N(0, σ² G),   G = Λ Λ',   ε ~ N(0, σ² I),   V = I + Z G Z'

Λ is block diagonal: for every level of term i the same lower triangle T_i, whose entries are θ. With W = B' V⁻¹ B for
B = [X y], all that is asked for follows from the (p+1) × (p+1) matrix W and log|V|:

    β̂ = W_xx⁻¹ W_xy        ρ² = W_yy - W_yx W_xx⁻¹ W_xy        (the penalised residual sum of squares)
    ML:    d(θ) = log|V| + n (1 + log(2π ρ² / n))
    REML:  d(θ) = log|V| + log|W_xx| + (n - p)(1 + log(2π ρ² / (n - p)))          (Bates et al. 2015, eq. 34 and 41)

V⁻¹ is never formed. The first term (most levels) is eliminated in blocks of p_1 × p_1, the others densely:

    V_1 = I + Z_1 G_1 Z_1'                  V_1⁻¹ = I - Z_1 E Z_1',         E = T_1 (T_1' A_11 T_1 + I)⁻¹ T_1'
    Ã = Z_r' V_1⁻¹ Z_r                      V⁻¹ = V_1⁻¹ - V_1⁻¹ Z_r S Z_r' V_1⁻¹,   S = Λ_r (Λ_r' Ã Λ_r + I)⁻¹ Λ_r'

Derivatives, with K = Z'V⁻¹Z, D = Z'V⁻¹B and G_a = ∂G/∂θ_a:

    ∂ log|V| = tr(K G_a)                    ∂² log|V| = tr(K G_ab) - tr(K G_a K G_b)
    ∂ W = -D' G_a D                         ∂² W = -D' G_ab D + D' G_a K G_b D + D' G_b K G_a D

The deviance is even in every column of T, so θ may have any sign, and an optimum with a variance of 0 is an ordinary
minimum: nothing need be constrained (the gradient is 0 there, the Hessian is not).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from headway.stats.random_effects import Products


@dataclass(frozen=True)
class Shape:
    """The layout of θ: entries of the lower triangles T_i, column by column and term by term (lme4's order)."""

    n_effects: tuple[int, ...]
    n_levels: tuple[int, ...]

    @cached_property
    def entries(self) -> tuple[tuple[int, int, int], ...]:
        """(term, row, column) of each entry of θ."""
        return tuple(
            (term, row, column)
            for term, p in enumerate(self.n_effects)
            for column in range(p)
            for row in range(column, p)
        )

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Columns of Z_r that belong to each term but the first."""
        ends = np.cumsum([0, *(p * n for p, n in zip(self.n_effects[1:], self.n_levels[1:], strict=True))])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(ends))

    @property
    def is_diagonal(self) -> np.ndarray:
        """Which entries of θ are diagonal."""
        return np.array([row == column for _, row, column in self.entries])

    def factors(self, theta: np.ndarray) -> list[np.ndarray]:
        """Convert θ to the lower triangles T_i."""
        out = [np.zeros((p, p)) for p in self.n_effects]
        for value, (term, row, column) in zip(theta, self.entries, strict=True):
            out[term][row, column] = value
        return out

    def theta(self, factors: list[np.ndarray]) -> np.ndarray:
        """Convert the lower triangles T_i to θ."""
        return np.array([factors[term][row, column] for term, row, column in self.entries])

    def start(self) -> np.ndarray:
        """θ for T_i = I."""
        return self.is_diagonal.astype(float)


@dataclass(frozen=True)
class Derivatives:
    """Derivatives of log|V|, ρ², log|W_xx| and W by θ (k entries): gradients (k, …) and Hessians (k, k)."""

    log_det: np.ndarray
    log_det_2: np.ndarray
    rss: np.ndarray
    rss_2: np.ndarray
    log_det_x: np.ndarray
    log_det_x_2: np.ndarray
    w: np.ndarray


class State:
    """Deviance and related quantities at one θ. Costly ones are computed on first access.

    Args:
        products: cross products of the data.
        shape: layout of θ.
        theta: (k,), of any sign.
        reml: REML if true, else ML.
    """

    def __init__(self, products: Products, shape: Shape, theta: np.ndarray, reml: bool) -> None:
        self.products, self.shape, self.theta, self.reml = products, shape, theta, reml
        self.t_1, *self.t_r = shape.factors(theta)
        p_1 = shape.n_effects[0]
        m_11 = self.t_1.T @ products.a_11 @ self.t_1 + np.eye(p_1)
        log_det_1 = float(np.sum(np.linalg.slogdet(m_11)[1])) if p_1 > 1 else float(np.sum(np.log(m_11)))
        self.e = self.t_1 @ (np.linalg.inv(m_11) if p_1 > 1 else 1 / m_11) @ self.t_1.T

        e_b1 = _flat(self.e @ products.b_1)
        b_1, a_1r = _flat(products.b_1), _flat(products.a_1r)
        self.a_r = products.a_rr - a_1r.T @ _flat(self.e @ products.a_1r)  # Ã
        self.b_r = products.b_r - a_1r.T @ e_b1  # Z_r' V_1⁻¹ B
        m_r = self._lambda_r(self._lambda_r(self.a_r.T).T)
        m_r[np.diag_indices_from(m_r)] += 1
        self.chol_r = np.linalg.cholesky(m_r)
        self.log_det = log_det_1 + 2 * float(np.sum(np.log(np.diag(self.chol_r))))  # log|V|

        c = _solve_lower(self.chol_r, self._lambda_r(self.b_r))
        self.w = products.b_b - b_1.T @ e_b1 - c.T @ c
        w_xx, w_xy = self.w[:-1, :-1], self.w[:-1, -1]
        self.w_xx_inverse = np.linalg.inv(w_xx)
        self.log_det_x = float(np.linalg.slogdet(w_xx)[1])
        self.beta = self.w_xx_inverse @ w_xy
        self.rss = float(self.w[-1, -1] - w_xy @ self.beta)

    @property
    def n_free(self) -> int:
        """Divisor of σ²: n for ML, n - p for REML."""
        return self.products.n - (len(self.beta) if self.reml else 0)

    @property
    def sigma2(self) -> float:
        return self.rss / self.n_free

    @property
    def deviance(self) -> float:
        """d(θ), in the units of B."""
        log_det = self.log_det + (self.log_det_x if self.reml else 0.0)
        return log_det + self.n_free * (1 + float(np.log(2 * np.pi * self.sigma2)))

    @cached_property
    def derivatives(self) -> Derivatives:
        return _derivatives(self)

    @property
    def gradient(self) -> np.ndarray:
        """∂d/∂θ (k,)."""
        by = self.derivatives
        return by.log_det + (by.log_det_x if self.reml else 0.0) + by.rss / self.sigma2

    @property
    def hessian(self) -> np.ndarray:
        """∂²d/∂θ² (k, k)."""
        by = self.derivatives
        log_det = by.log_det_2 + (by.log_det_x_2 if self.reml else 0.0)
        return log_det + by.rss_2 / self.sigma2 - np.outer(by.rss, by.rss) / (self.n_free * self.sigma2**2)

    # V⁻¹ between the pieces of Z ---------------------------------------------------------------------------------

    @cached_property
    def s(self) -> np.ndarray:
        """S (q_r, q_r)."""
        half = _solve_lower(self.chol_r, self._lambda_r_transposed())
        return half.T @ half

    @cached_property
    def h(self) -> np.ndarray:
        """Z_1' V_1⁻¹ Z_r (l_1, p_1, q_r)."""
        return self.products.a_1r - self.products.a_11 @ (self.e @ self.products.a_1r)

    @cached_property
    def p(self) -> np.ndarray:
        """Z_1' V_1⁻¹ Z_1 (l_1, p_1, p_1)."""
        return self.products.a_11 - self.products.a_11 @ self.e @ self.products.a_11

    @cached_property
    def left_r(self) -> np.ndarray:
        """I - S Ã (q_r, q_r): V⁻¹ Z_r = V_1⁻¹ Z_r (I - S Ã)."""
        return np.eye(len(self.a_r)) - self.s @ self.a_r

    @cached_property
    def k_rr(self) -> np.ndarray:
        """Z_r' V⁻¹ Z_r (q_r, q_r)."""
        return self.a_r @ self.left_r

    @cached_property
    def n(self) -> np.ndarray:
        """H_c' H_d (p_1, p_1, q_r, q_r) for every two effects c, d of the first term."""
        effects = range(self.h.shape[1])
        return np.array([[self.h[:, c].T @ self.h[:, d] for d in effects] for c in effects])

    @cached_property
    def d(self) -> list[np.ndarray]:
        """Z_i' V⁻¹ B of each term (l_i, p_i, m)."""
        products = self.products
        first = products.b_1 - products.a_11 @ (self.e @ products.b_1)
        first = first - self.h @ (self.s @ self.b_r)
        rest = self.left_r.T @ self.b_r
        sizes = zip(self.shape.slices, self.shape.n_effects[1:], strict=True)
        return [first, *(rest[rows].reshape(-1, p, rest.shape[1]) for rows, p in sizes)]

    def own_k(self, term: int) -> np.ndarray:
        """The diagonal blocks of Z_i' V⁻¹ Z_i, one a level: (l_i, p_i, p_i)."""
        if term == 0:
            return self.p - np.einsum("lpq,lkq->lpk", self.h @ self.s, self.h)
        p, n_levels = self.shape.n_effects[term], self.shape.n_levels[term]
        rows = self.shape.slices[term - 1]
        levels = np.arange(n_levels)
        return self.k_rr[rows, rows].reshape(n_levels, p, n_levels, p)[levels, :, levels, :]

    def summed_k(self, term: int) -> np.ndarray:
        """The sum over levels of the diagonal blocks of Z_i' V⁻¹ Z_i: (p_i, p_i)."""
        if term == 0:
            return self.p.sum(axis=0) - np.sum(self.n * self.s, axis=(2, 3))
        return self.own_k(term).sum(axis=0)

    def _lambda_r(self, matrix: np.ndarray) -> np.ndarray:
        """Λ_r' times a (q_r, m) matrix."""
        pieces = zip(self.t_r, self.shape.slices, strict=True)
        return np.concatenate([matrix[:0], *(_blockwise(t.T, matrix[rows]) for t, rows in pieces)])

    def _lambda_r_transposed(self) -> np.ndarray:
        """Λ_r' (q_r, q_r)."""
        return self._lambda_r(np.eye(len(self.a_r)))


def _flat(blocks: np.ndarray) -> np.ndarray:
    """(l, p, m) → (l·p, m)."""
    return blocks.reshape(blocks.shape[0] * blocks.shape[1], blocks.shape[2])


def _blockwise(small: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(I ⊗ small) @ matrix."""
    p = len(small)
    return small[0, 0] * matrix if p == 1 else _flat(small @ matrix.reshape(len(matrix) // p, p, matrix.shape[1]))


def _solve_lower(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    from scipy.linalg.blas import dtrsm

    if not right.size:
        return right
    return dtrsm(1.0, lower, right, lower=1)


def _derivatives(state: State) -> Derivatives:
    shape, d = state.shape, state.d
    entries = shape.entries
    k, m = len(entries), len(state.w)
    factors = [state.t_1, *state.t_r]
    g = [_g_first(factors[term], row, column) for term, row, column in entries]
    summed_k = [state.summed_k(term) for term in range(len(factors))]

    log_det = np.array([np.sum(summed_k[entry[0]] * g_a) for entry, g_a in zip(entries, g, strict=True)])
    g_d = [g_a @ d[entry[0]] for entry, g_a in zip(entries, g, strict=True)]  # G_a D
    w = np.array([-_flat(d[entry[0]]).T @ _flat(gd) for entry, gd in zip(entries, g_d, strict=True)])

    log_det_2, w_2 = np.empty((k, k)), np.empty((k, k, m, m))
    traces = PairTraces(state)
    for a, b in zip(*np.triu_indices(k), strict=True):
        (i, *at_a), (j, *at_b) = entries[a], entries[b]
        log_det_2[a, b] = -traces(i, g[a], j, g[b])
        cross = _flat(g_d[a]).T @ k_times(state, i, j, _flat(g_d[b]))
        w_2[a, b] = cross + cross.T
        if i == j:
            g_ab = _g_second(len(factors[i]), at_a, at_b)
            log_det_2[a, b] += np.sum(summed_k[i] * g_ab)
            w_2[a, b] -= _flat(d[i]).T @ _flat(g_ab @ d[i])
        log_det_2[b, a], w_2[b, a] = log_det_2[a, b], w_2[a, b]

    # ρ² = c'Wc for c = (-β̂, 1), where β̂ minimises it
    c = np.append(-state.beta, 1.0)
    w_c = w @ c
    inverse = state.w_xx_inverse
    rss_2 = w_2 @ c @ c - 2 * w_c[:, :-1] @ inverse @ w_c[:, :-1].T
    w_x = inverse @ w[:, :-1, :-1]
    return Derivatives(
        log_det=log_det,
        log_det_2=log_det_2,
        rss=w_c @ c,
        rss_2=rss_2,
        log_det_x=np.trace(w_x, axis1=1, axis2=2),
        log_det_x_2=np.sum(inverse * w_2[:, :, :-1, :-1], axis=(2, 3)) - np.einsum("aij,bji->ab", w_x, w_x),
        w=w,
    )


def _g_first(t: np.ndarray, row: int, column: int) -> np.ndarray:
    """∂(TT')/∂T_rc."""
    out = np.zeros_like(t)
    out[row] = t[:, column]
    return out + out.T


def _g_second(p: int, at_a: list[int], at_b: list[int]) -> np.ndarray:
    """∂²(TT')/∂T_a∂T_b: e_r e_s' + e_s e_r' where both stand in one column, else 0."""
    out = np.zeros((p, p))
    if at_a[1] == at_b[1]:
        out[at_a[0], at_b[0]] += 1
        out[at_b[0], at_a[0]] += 1
    return out


class PairTraces:
    """tr(K_ji G_a K_ij G_b) for G_a of term i and G_b of term j >= i. Shared intermediate results are cached.

    K_11 = P - H S H' and K_1r = H (I - S Ã) of the first term have a row for each of its effects, so they are never formed.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.kept: dict[tuple[str, bytes], np.ndarray] = {}

    def __call__(self, i: int, g_a: np.ndarray, j: int, g_b: np.ndarray) -> float:
        if j == 0:
            return self._within_first(g_a, g_b)
        slices = self.state.shape.slices
        columns = slices[j - 1]
        if i == 0:  # tr(L' N_a L G_b) for L = I - S Ã
            n_l = self._once("NL", g_a, lambda: self._n(g_a) @ self.state.left_r)[:, columns]
            return float(np.vdot(n_l, _blockwise(g_b, self.state.left_r[:, columns].T).T))
        k = self.state.k_rr[slices[i - 1], columns]
        if len(g_a) == len(g_b) == 1:
            return float(g_a[0, 0] * g_b[0, 0] * np.vdot(k, k))
        return float(np.vdot(_blockwise(g_a, k), _blockwise(g_b, k.T).T))

    def _within_first(self, g_a: np.ndarray, g_b: np.ndarray) -> float:
        state = self.state
        own = float(np.sum((state.p @ g_a) * np.swapaxes(state.p @ g_b, 1, 2)))
        if not state.a_r.size:
            return own
        middle = g_a @ state.p @ g_b
        crossed = _flat(state.h).T @ _flat((middle + np.swapaxes(middle, 1, 2)) @ state.h)
        s_n_a = self._once("SN", g_a, lambda: state.s @ self._n(g_a))
        s_n_b = self._once("SN", g_b, lambda: state.s @ self._n(g_b))
        return own - float(np.vdot(state.s, crossed)) + float(np.vdot(s_n_a, s_n_b.T))

    def _n(self, g: np.ndarray) -> np.ndarray:
        """H' G H (q_r, q_r)."""
        return self.state.n[0, 0] * g[0, 0] if len(g) == 1 else np.tensordot(g, self.state.n, axes=2)

    def _once(self, name: str, g: np.ndarray, compute: Callable[[], np.ndarray]) -> np.ndarray:
        key = (name, g.tobytes())
        if key not in self.kept:
            self.kept[key] = compute()
        return self.kept[key]


def k_times(state: State, i: int, j: int, x: np.ndarray) -> np.ndarray:
    """K_ij x for i <= j, x (q_j, m)."""
    slices = state.shape.slices
    if j == 0:
        h = _flat(state.h)
        return _flat(state.p @ x.reshape(*state.p.shape[:2], -1)) - h @ (state.s @ (h.T @ x))
    columns = slices[j - 1]
    return _flat(state.h) @ (state.left_r[:, columns] @ x) if i == 0 else state.k_rr[slices[i - 1], columns] @ x

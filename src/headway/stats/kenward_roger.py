"""Kenward and Roger's small-sample covariance and degrees of freedom (1997, Biometrics 53, 983-997), as in R's pbkrtest.

Let V be linear in the variances and covariances γ_i of the model: V = Σ_i γ_i G_i, where the last G is I (the residual).
With Φ = (X'V⁻¹X)⁻¹:

    P_i  = -X'V⁻¹ G_i V⁻¹X                  Q_ij = X'V⁻¹ G_i V⁻¹ G_j V⁻¹X
    W⁻¹  = the expected information of γ:   1/2 tr(V⁻¹G_iV⁻¹G_j) - tr(Φ Q_ij) + 1/2 tr(Φ P_i Φ P_j)
    Φ_A  = Φ + 2 Φ {Σ_ij W_ij (Q_ij - P_i Φ P_j)} Φ

No n × n matrix is formed. K = Z'V⁻¹Z and D = Z'V⁻¹X of `deviance` give all products of the random terms. Those of the
residual follow from I = V - Σ_i γ_i G_i over the random terms.
"""

from __future__ import annotations

import numpy as np

from headway.stats.deviance import PairTraces, State, k_times
from headway.stats.satterthwaite import FTest


class KenwardRoger:
    """Covariance and degrees of freedom of linear combinations of the fixed effects.

    Attributes:
        vcov: (p, p) the adjusted covariance Φ_A of β.

    Args:
        state: a REML fit, in the units of the orthonormal design.
        to_beta: (p, p) maps its coefficients to β.
    """

    def __init__(self, state: State, to_beta: np.ndarray) -> None:
        pieces = _Pieces(state)
        phi, p, q = state.w_xx_inverse, pieces.p, pieces.q
        phi_p = phi @ p  # (k, p, p)
        information = (
            0.5 * pieces.traces - np.einsum("ab,ijba->ij", phi, q) + 0.5 * np.einsum("iab,jba->ij", phi_p, phi_p)
        )
        self._w = np.linalg.pinv(information, hermitian=True)
        middle = np.einsum("ij,ijab->ab", self._w, q) - np.einsum("ij,iab,jbc->ac", self._w, p, phi_p)
        self._to_beta, self._phi, self._p = to_beta, phi, p
        self.vcov = state.sigma2 * to_beta @ (phi + 2 * phi @ (middle + middle.T) / 2 @ phi) @ to_beta.T

    def df(self, combinations: np.ndarray) -> np.ndarray:
        """The df of each row l of `combinations` (r, p)."""
        return np.array([self._df_and_scale(row[None])[0] for row in combinations])

    def f_test(self, combinations: np.ndarray, beta: np.ndarray) -> FTest:
        """F test that all rows of `combinations` (r, p), of full rank, are 0 on β. F is scaled as Kenward and Roger do."""
        df, scale = self._df_and_scale(combinations)
        estimate = combinations @ beta
        wald = estimate @ np.linalg.solve(combinations @ self.vcov @ combinations.T, estimate)
        return FTest(float(scale * wald / len(combinations)), len(combinations), df)

    def _df_and_scale(self, combinations: np.ndarray) -> tuple[float, float]:
        """The denominator df m and the factor λ of F (Kenward & Roger 1997, sections 3 and 4)."""
        rows, phi = combinations @ self._to_beta, self._phi
        r = len(rows)
        theta = rows.T @ np.linalg.solve(rows @ phi @ rows.T, rows)
        each = theta @ phi @ self._p @ phi  # Θ Φ P_i Φ, (k, p, p)
        traces = np.trace(each, axis1=1, axis2=2)
        a_1 = float(traces @ self._w @ traces)
        a_2 = float(np.einsum("ij,iab,jba->", self._w, each, each))
        b = (a_1 + 6 * a_2) / (2 * r)
        g = ((r + 1) * a_1 - (r + 4) * a_2) / ((r + 2) * a_2)
        c_1, c_2, c_3 = np.array([g, r - g, r + 2 - g]) / (3 * r + 2 * (1 - g))
        mean = 1 - a_2 / r  # 1 / E*
        rho = mean**2 / r * (1 + c_1 * b) / ((1 - c_2 * b) ** 2 * (1 - c_3 * b))
        df = 4 + (r + 2) / (r * rho - 1)
        return float(df), float(df * mean / (df - 2))


class _Pieces:
    """P_i (k, p, p), Q_ij (k, k, p, p) and tr(V⁻¹G_iV⁻¹G_j) (k, k); V is relative to σ², and the residual is last."""

    def __init__(self, state: State) -> None:
        shape = state.shape
        factors = [state.t_1, *state.t_r]
        entries = shape.entries
        g = [_unit(len(factors[term]), row, column) for term, row, column in entries]
        gamma = np.array([(factors[term] @ factors[term].T)[row, column] for term, row, column in entries])
        d = [block[:, :, :-1] for block in state.d]  # Z_i'V⁻¹X (l, p_i, p)
        n_fixed, k = d[0].shape[2], len(entries)
        g_d = [(g_a @ d[entry[0]]).reshape(-1, n_fixed) for entry, g_a in zip(entries, g, strict=True)]

        p, q, traces = (
            np.empty((k + 1, n_fixed, n_fixed)),
            np.empty((k + 1, k + 1, n_fixed, n_fixed)),
            np.empty((k + 1, k + 1)),
        )
        pair_traces = PairTraces(state)
        for a in range(k):
            p[a] = -d[entries[a][0]].reshape(-1, n_fixed).T @ g_d[a]
            for b in range(a, k):
                i, j = entries[a][0], entries[b][0]
                q[a, b] = g_d[a].T @ k_times(state, i, j, g_d[b])
                q[b, a] = q[a, b].T
                traces[a, b] = traces[b, a] = pair_traces(i, g[a], j, g[b])

        own = np.array(
            [np.sum(state.summed_k(entry[0]) * g_a) for entry, g_a in zip(entries, g, strict=True)]
        )  # tr(V⁻¹G_a)
        p[k] = -state.w[:-1, :-1] - np.einsum("a,aij->ij", gamma, p[:k])
        q[:k, k] = -p[:k] - np.einsum("b,abij->aij", gamma, q[:k, :k])
        q[k, :k] = np.swapaxes(q[:k, k], 1, 2)
        q[k, k] = -p[k] - np.einsum("a,aij->ij", gamma, q[:k, k])
        traces[:k, k] = traces[k, :k] = own - traces[:k, :k] @ gamma
        traces[k, k] = state.products.n - gamma @ own - gamma @ traces[:k, k]
        self.p, self.q, self.traces = p, q, traces


def _unit(n: int, row: int, column: int) -> np.ndarray:
    """∂Σ/∂Σ_rc of a symmetric matrix (n, n)."""
    out = np.zeros((n, n))
    out[row, column] = out[column, row] = 1.0
    return out

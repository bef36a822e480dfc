"""Check whether the data determine the variances of a mixed model.

V/σ² = I + Σ γ_a V_a is linear in the entries γ_a of the terms' covariance matrices. The variances are determined if and only
if I and the V_a are linearly independent (for REML, after projecting out X), so if their Gram matrix tr(P V_a P V_b) has
full rank. The rank is the same at every θ. It is checked at θ = 0, where V = I, because a Hessian at the estimates is also
singular if a variance is 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headway.stats.deviance import PairTraces, Shape, State, k_times
from headway.stats.random_effects import RandomTerm, products

# Limit for eigenvalues of the Gram matrix. Zero eigenvalues come out as about 1e-13; determined fits have 0.28 or more.
_DEPENDENT = 1e-9
_SHARE = 0.01  # terms with at least this share of the dependence are named


def undetermined(terms: tuple[RandomTerm, ...], state: State, basis: np.ndarray) -> tuple[int, ...]:
    """Indices of terms whose variances can be traded for others without changing the fit.

    Args:
        state: the state of the fit.
        basis: (n, p), an orthonormal basis of X's columns.
    """
    flat = tuple(number for number, term in enumerate(terms) if np.linalg.matrix_rank(term.columns) < term.n_effects)
    if flat:
        return flat
    gram, of = _gram(terms, state, basis)
    values, vectors = np.linalg.eigh(gram)
    shares = np.abs(vectors[:, values < _DEPENDENT]).max(axis=1, initial=0)
    return tuple(sorted({of[a] for a in np.flatnonzero(shares[:-1] > _SHARE)}))


def _gram(terms: tuple[RandomTerm, ...], state: State, basis: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """tr(P V_a P V_b) over all entries and I, with each V_a scaled to norm 1, and the term of each entry."""
    data, shape = state.products, state.shape
    if (
        max(shape.n_effects) > 1
    ):  # effects far from orthogonal look dependent: the span of the V_a is the same for any basis
        terms = tuple(replace(term, columns=np.linalg.qr(term.columns)[0]) for term in terms)
        data = products(list(terms), np.column_stack([basis, np.zeros(len(basis))]))
    null = State(data, shape, np.zeros(len(state.theta)), state.reml)
    of = [term for term, _, _ in shape.entries]
    g = [_entry(shape, *entry) for entry in shape.entries]
    # Q'V_a = D'G_a Z', D = Z'Q
    d = [blocks[:, :, :-1] for blocks in null.d]
    g_d = [(g_a @ d[term]).reshape(-1, d[term].shape[2]) for g_a, term in zip(g, of, strict=True)]
    inner = [d[term].reshape(gd.shape).T @ gd for gd, term in zip(g_d, of, strict=True)]  # Q'V_aQ

    k = len(g)
    gram = np.empty((k + 1, k + 1))
    norms = np.empty(k + 1)
    summed, traces = [null.summed_k(term) for term in range(len(terms))], PairTraces(null)
    for a in range(k):
        for b in range(a, k):
            plain = traces(of[a], g[a], of[b], g[b])
            crossed = np.vdot(g_d[a], k_times(null, of[a], of[b], g_d[b])) if state.reml else 0.0
            gram[a, b] = gram[b, a] = plain - (2 * crossed - np.vdot(inner[a], inner[b].T) if state.reml else 0.0)
            if a == b:
                norms[a] = np.sqrt(plain)
        gram[a, k] = gram[k, a] = np.sum(summed[of[a]] * g[a]) - (np.trace(inner[a]) if state.reml else 0.0)
    norms[k], gram[k, k] = np.sqrt(data.n), state.n_free
    return gram / np.outer(norms, norms), of


def _entry(shape: Shape, term: int, row: int, column: int) -> np.ndarray:
    """Symmetric matrix with 1 at (row, column)."""
    out = np.zeros((shape.n_effects[term],) * 2)
    out[row, column] = out[column, row] = 1.0
    return out

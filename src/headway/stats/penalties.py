"""Quadratic penalties on coefficients, and the determinants that REML needs of them.

    penalty of a term: Σ_j λ_j b'S_j b,   ρ_j = log λ_j,   S(ρ) = Σ_j e^ρ_j S_j

Shapes: k coefficients, m penalties S_j of one term. A curve has one; a surface, or curves by groups, have several.
Source: Wood (2011) Fast stable REML and ML estimation of semiparametric GLMs, JRSS-B 73, 3-36, §3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NOTHING = 1e-10  # a product of penalties below this share of their sizes is rounding


class LogDeterminant(NamedTuple):
    """log|S(ρ)|₊ with its gradient (m,) and Hessian (m, m) by ρ."""

    value: float
    gradient: Array
    hessian: Array


@dataclass(frozen=True)
class Penalty:
    """The penalties of one term: the coefficients `where`, the S_j (k, k), their ranks, and the rank of their sum."""

    where: slice
    matrices: tuple[Array, ...]
    ranks: tuple[int, ...]
    rank: int

    @cached_property
    def roots(self) -> tuple[Array, ...]:
        """E_j (rank_j, k) with E_j'E_j = S_j."""
        found = []
        for matrix, rank in zip(self.matrices, self.ranks, strict=True):
            values, vectors = np.linalg.eigh(matrix)
            found.append((vectors[:, -rank:] * np.sqrt(values[-rank:])).T)
        return tuple(found)

    @cached_property
    def _separate(self) -> bool:
        """Whether the penalties act on different coefficients, S_i S_j = 0, so that their determinants multiply."""
        sizes = [np.linalg.norm(matrix) for matrix in self.matrices]
        return all(
            np.linalg.norm(self.matrices[i] @ self.matrices[j]) <= _NOTHING * sizes[i] * sizes[j]
            for i in range(len(sizes))
            for j in range(i)
        )

    @cached_property
    def eigenvectors(self) -> Array:
        """(k, k) eigenvectors of the balanced sum of the penalties; the last `rank` are what any of them sees."""
        balanced = sum(matrix / np.linalg.norm(matrix) for matrix in self.matrices)
        return np.asarray(np.linalg.eigh(balanced)[1])

    @cached_property
    def _range(self) -> Array:
        """(k, rank) orthonormal basis of what any of the penalties sees."""
        return self.eigenvectors[:, len(self.eigenvectors) - self.rank :]

    @cached_property
    def _own_log_determinants(self) -> float:
        """Σ_j log|S_j|₊."""
        return float(sum(_log_determinant(_triangle(root.T)) for root in self.roots))

    def log_determinant(self, log_sp: Array) -> LogDeterminant:
        """log|S(ρ)|₊ at `log_sp` (m,)."""
        if self._separate:
            ranks = np.array(self.ranks, dtype=np.float64)
            value = float(ranks @ log_sp) + self._own_log_determinants
            return LogDeterminant(value, ranks, np.zeros((len(ranks), len(ranks))))
        stacked = [np.exp(rho / 2) * root @ self._range for rho, root in zip(log_sp, self.roots, strict=True)]
        # S(ρ) = R'R without forming it: the λ_j may lie ten orders of magnitude apart.
        r = _triangle(np.vstack(stacked))
        halves = [np.linalg.solve(r.T, part.T) for part in stacked]
        m = [half @ half.T for half in halves]  # λ_j S⁻½S_jS⁻½
        gradient = np.array([np.trace(m_j) for m_j in m])
        crossed = np.array([[np.sum(m_i * m_j) for m_j in m] for m_i in m])
        return LogDeterminant(_log_determinant(r), gradient, np.diag(gradient) - crossed)


def _log_determinant(r: Array) -> float:
    """log|R'R| of a triangular R."""
    return float(2 * np.sum(np.log(np.abs(np.diagonal(r)))))


def _triangle(matrix: Array) -> Array:
    """R of QR."""
    return np.asarray(np.linalg.qr(matrix, mode="r"))

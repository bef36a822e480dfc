"""Orthogonal polynomials: contrasts of ordered factors, and R's `poly` of a column."""

from __future__ import annotations

import numpy as np

from headway.errors import StatisticsError

_MOST_LEVELS = 95  # R's limit: with more levels, rounding destroys the orthogonality


def polynomials(variable: str, n_levels: int) -> tuple[np.ndarray, list[str]]:
    """Orthonormal polynomials of the level numbers (n_levels, n_levels - 1), and R's suffixes.

    Raises:
        StatisticsError: the factor has too many levels.
    """
    if n_levels > _MOST_LEVELS:
        raise StatisticsError(
            f"{variable} is an ordered factor with {n_levels} levels, but polynomials are exact only up to {_MOST_LEVELS}. "
            "Remove its order, or use it as a number"
        )
    scores = np.linspace(-1, 1, n_levels)
    # Legendre polynomials are well conditioned, unlike powers. QR makes them orthogonal over these scores.
    q, r = np.linalg.qr(np.polynomial.legendre.legvander(scores, n_levels - 1))
    return (q * np.sign(np.diag(r)))[:, 1:], [".L", ".Q", ".C", *(f"^{n}" for n in range(4, n_levels))][: n_levels - 1]


def orthogonal_recursion(x: np.ndarray, degree: int) -> np.ndarray:
    """Coefficients of the polynomials that are orthogonal over `x` (n,): (2, degree + 1), α and the squared norms.

    p_0 = 1, p_{j+1} = (x - α_j) p_j - (|p_j|²/|p_{j-1}|²) p_{j-1} with α_j = Σ x p_j² / |p_j|² (Kennedy & Gentle 1980,
    Statistical Computing, pp. 343-344), as in R. The last α is not used.
    """
    alphas, norms = np.zeros(degree + 1), np.zeros(degree + 1)
    before, here = np.zeros_like(x), np.ones_like(x)
    for j in range(degree + 1):
        norms[j] = here @ here
        alphas[j] = x @ here**2 / norms[j]
        ratio = norms[j] / norms[j - 1] if j else 0.0
        before, here = here, (x - alphas[j]) * here - ratio * before
    return np.array([alphas, norms])


def orthogonal_polynomials(x: np.ndarray, recursion: np.ndarray) -> np.ndarray:
    """The polynomials of degrees 1 and up at `x` (m,), of norm 1 over the rows that `recursion` comes from: (m, degree)."""
    alphas, norms = recursion
    before, here, columns = np.zeros_like(x), np.ones_like(x), []
    for j in range(len(alphas) - 1):
        ratio = norms[j] / norms[j - 1] if j else 0.0
        before, here = here, (x - alphas[j]) * here - ratio * before
        columns.append(here / np.sqrt(norms[j + 1]))
    return np.column_stack(columns)

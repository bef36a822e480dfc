"""Orthogonal polynomial contrasts, which R uses to code ordered factors."""

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

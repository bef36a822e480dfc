"""Orthogonal polynomial contrasts, by which R codes ordered factors."""

from __future__ import annotations

import numpy as np

from headway.errors import StatisticsError

_MOST_LEVELS = 95  # R's own limit: beyond it the polynomials are no longer orthogonal to rounding


def polynomials(variable: str, n_levels: int) -> tuple[np.ndarray, list[str]]:
    """Contrasts (n_levels, n_levels - 1) that are orthonormal polynomials of the levels' numbers, and R's suffixes.

    Raises:
        StatisticsError: the factor has too many levels.
    """
    if n_levels > _MOST_LEVELS:
        raise StatisticsError(
            f"{variable} is ordered and has {n_levels} levels: polynomials are exact up to {_MOST_LEVELS}. "
            "Drop its order, or put it in as a number"
        )
    scores = np.linspace(-1, 1, n_levels)
    # Legendre polynomials stay well conditioned where powers do not; QR makes them orthogonal over these scores.
    q, r = np.linalg.qr(np.polynomial.legendre.legvander(scores, n_levels - 1))
    return (q * np.sign(np.diag(r)))[:, 1:], [".L", ".Q", ".C", *(f"^{n}" for n in range(4, n_levels))][: n_levels - 1]

"""Tests against random draws that stop once p cannot be small (Besag & Clifford 1991, Biometrika 78, 301-304)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDING = 1e-12  # draws that equal the observed value up to rounding count as reaching it
_ENOUGH = 20  # draws that reach the observed value, after which p cannot be small


class Sequential(NamedTuple):
    """p-value by null, and the number of draws of each."""

    p: dict[str, float]
    n_draws: int


def sequential_p(observed: float, draw: Callable[[int], dict[str, Floats]], fewest: int, most: int) -> Sequential:
    """p-value of each null from `fewest` to `most` draws. Sampling stops once 20 draws of any null reach `observed`.

    If draw l is the 20th to do so, p = 20 / l. If only e of all N draws do, p = (e + 1) / (N + 1). If the null is true,
    P(p <= α) is at most α in both cases.
    """
    reached: dict[str, NDArray[np.bool_]] = {}
    n, batch = 0, fewest
    while n < most:
        batch = min(batch, most - n)
        for null, values in draw(batch).items():
            hits = values >= observed - ROUNDING
            reached[null] = np.concatenate([reached[null], hits]) if n else hits
        n += batch
        batch = n
        if any(hits.sum() >= _ENOUGH for hits in reached.values()):
            break
    return Sequential({null: _p(hits) for null, hits in reached.items()}, n)


def _p(hits: NDArray[np.bool_]) -> float:
    at = np.flatnonzero(hits)
    if len(at) >= _ENOUGH:
        return _ENOUGH / (int(at[_ENOUGH - 1]) + 1)
    return (len(at) + 1) / (len(hits) + 1)

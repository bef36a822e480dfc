"""Errors that remember: first-order autoregressive noise, and how much memory errors may have.

Errors of trajectories are alike at neighbouring steps, because a run goes on from where it was. Such errors drift, and a
drift looks like a change. In a single short series the two cannot be separated, so the memory is not estimated from it:
`LEAST` is assumed always, and a change must also stand out from a random walk. Several series about the same curve tell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST = 0.5  # autocorrelation that a change must stand out from, unless several units show less
WALK = 1.0
_FEWEST_UNITS = 4  # with fewer the estimate is worth nothing
_Z = 1.645  # upper 95% limit


def noise(random: np.random.Generator, n: int, t: int, rho: float) -> Array:
    """(n, t) series of standard deviation 1 with autocorrelation `rho` between neighbours; a random walk at 1."""
    series = random.standard_normal((n, t))
    fresh = np.sqrt(1 - rho**2) if rho < 1 else 1.0
    for i in range(1, t):
        series[:, i] = rho * series[:, i - 1] + fresh * series[:, i]
    return series


def memory(units: Array) -> tuple[float, float]:
    """The least and the largest autocorrelation that the errors of units (u, t) may have.

    From the units' deviations from their mean curve: the upper 95% limit of their pooled autocorrelation, corrected for the
    levels that are taken out (Marriott & Pope 1954, Biometrika 41: E r = rho - (1 + 4 rho) / t), rounded up to a tenth.
    """
    n, t = units.shape
    if n < _FEWEST_UNITS:
        return LEAST, WALK
    apart = units - units.mean(axis=0)
    apart -= apart.mean(axis=1, keepdims=True)
    total = np.sum(apart**2)
    if total <= 0:
        return LEAST, WALK
    r = np.sum(apart[:, 1:] * apart[:, :-1]) / total * t / (t - 1)
    rho = (r * t + 1) / (t - 4)
    error = np.sqrt((1 - min(r**2, 0.99)) / ((n - 1) * t)) * t / (t - 4)
    largest = float(np.clip(np.ceil(10 * (rho + _Z * error)) / 10, 0.0, WALK))
    return min(LEAST, largest), largest

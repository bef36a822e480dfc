"""Quantiles of residuals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Quantiles(NamedTuple):
    """The extremes and the quartiles of some numbers."""

    min: float
    q1: float
    median: float
    q3: float
    max: float


def quantiles(values: np.ndarray) -> Quantiles:
    """Quartiles by linear interpolation between order statistics, R's type 7, and the extremes."""
    return Quantiles(*(float(q) for q in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])))

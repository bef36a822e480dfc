"""Quantiles of residuals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Quantiles(NamedTuple):
    """Minimum, quartiles and maximum."""

    min: float
    q1: float
    median: float
    q3: float
    max: float


def quantiles(values: np.ndarray) -> Quantiles:
    """Extremes and quartiles, by linear interpolation between order statistics (R's type 7)."""
    return Quantiles(*(float(q) for q in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])))

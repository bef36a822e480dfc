"""Test whether the value farthest from the mean is an outlier."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from headway.stats.distributions import t_p


def grubbs(values: ArrayLike) -> tuple[int, float, float] | None:
    """Test the value farthest from the mean of a normal sample, either side (Grubbs 1969, Technometrics 11, 1-21).

    Returns:
        Its place, G (its distance from the mean in standard deviations) and p, Bonferroni's over the n values: at most
        the true one. None with fewer than three values, or values that are all the same.
    """
    x = np.asarray(values, dtype=float)
    n = len(x)
    if n < 3 or np.ptp(x) == 0:
        return None
    distance = np.abs(x - x.mean()) / x.std(ddof=1)
    place = int(distance.argmax())
    g = float(distance[place])
    left = (n - 1) ** 2 - n * g**2  # 0 where all other values are the same
    t = np.sqrt(n * (n - 2) * g**2 / left) if left > 0 else np.inf
    return place, g, min(1.0, n * float(t_p(t, n - 2)))

"""Random groups of heads beside which an effect is read: as many heads, in the same layer, chosen by chance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb

import numpy as np

MOST_CONTROLS = 200


def random_groups(n_heads: int, size: int, most: int = MOST_CONTROLS, seed: int = 0) -> list[tuple[int, ...]]:
    """Groups of `size` of `n_heads` heads: all of them where there are at most `most`, else `most` different ones.

    All groups, the one that is tested included, are equally likely.
    """
    if comb(n_heads, size) <= most:
        return list(combinations(range(n_heads), size))
    random = np.random.default_rng([seed, n_heads, size])
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < most:
        drawn[tuple(sorted(random.choice(n_heads, size, replace=False).tolist()))] = None
    return list(drawn)


def percentile(value: float, controls: Sequence[float]) -> float:
    """Per cent of control effects that are smaller than `value`; NaN where there are none."""
    return 100 * float(np.mean(np.asarray(controls) < _with_ties(value))) if len(controls) else float("nan")


def share_at_least(value: float, controls: Sequence[float]) -> float:
    """Share of control effects that are at least `value`, NaN where there are none.

    The group itself belongs among its controls (all groups: it is there; random ones: it is added by the caller), so
    that the share is a p-value: at least 1 / number of groups.
    """
    return float(np.mean(np.asarray(controls) >= _with_ties(value))) if len(controls) else float("nan")


def _with_ties(value: float) -> float:
    """Effects that are equal but for the rounding of float32 count as equal, which errs to the side of no finding."""
    return value - 1e-5 * abs(value)

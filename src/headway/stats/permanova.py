"""Whether groups lie apart, from distances alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headway.errors import StatisticsError

Array = NDArray[np.float64]


class Permanova(NamedTuple):
    """`f`: pseudo-F. `r2`: share of the squared distances that lies between groups. `p`: by exchanging labels, or None."""

    f: float
    r2: float
    df_between: int
    df_within: int
    p: float | None


def permanova(distances: ArrayLike, groups: ArrayLike, permutations: int, rng: np.random.Generator) -> Permanova:
    """Analyse the variance of things of which only distances are known (Anderson 2001, Austral Ecology 26, 32-46).

    It also answers to groups that differ in spread, above all where they have unequal numbers.

    Args:
        distances: (n, n), symmetric.
        groups: (n,) the group of each thing.
        permutations: how many times the labels are exchanged for p; 0 leaves p out. The observed labels count as one.

    Raises:
        StatisticsError: there are fewer than two groups, or no group has two things.
    """
    squared = np.asarray(distances, dtype=float) ** 2
    _, at = np.unique(np.asarray(groups), return_inverse=True)
    n, k = len(at), int(at.max()) + 1
    if k < 2 or n == k:
        raise StatisticsError("to compare groups by distances, two groups are needed, one of them with two members")
    total = squared.sum() / (2 * n)

    def within(labels: NDArray[np.intp]) -> Array:
        """Sums over groups of the squared distances of their pairs / members, of labels (draws, n): (draws,)."""
        member = (labels[:, :, None] == np.arange(k)).astype(float)
        return np.einsum("dig,dig,g->d", member, squared @ member, 0.5 / np.bincount(at))

    def pseudo_f(inside: Array) -> Array:
        with np.errstate(divide="ignore"):
            return (total - inside) / (k - 1) / (inside / (n - k))

    inside = within(at[None])
    f, p = pseudo_f(inside)[0], None
    if permutations:
        drawn = pseudo_f(within(rng.permuted(np.tile(at, (permutations, 1)), axis=1)))
        p = float((1 + (drawn >= f * (1 - 1e-12)).sum()) / (1 + permutations))  # draws equal up to rounding count
    return Permanova(float(f), float(1 - inside[0] / total), k - 1, n - k, p)

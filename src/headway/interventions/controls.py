"""What an effect is read beside: the same done to groups of heads by chance, and its place among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from math import factorial, prod

import numpy as np

Labels = tuple[int, ...]  # of the heads of a layer


def orders_by_chance(own: Sequence[Labels], most: int, seed: Sequence[int]) -> Iterable[tuple[Labels, ...]]:
    """The labels of some layers in other orders: all, the given one among them, where they are at most `most`, else
    `most` different ones, equally likely. Labels that are as many of each get the same orders.
    """
    sizes = [tuple(sorted(labels)) for labels in own]
    if prod(map(_n_orders, sizes)) <= most:
        return product(*map(_orders, sizes))
    random = np.random.default_rng(seed)
    drawn: dict[tuple[Labels, ...], None] = {}
    while len(drawn) < most:
        drawn[tuple(tuple(random.permutation(labels).tolist()) for labels in sizes)] = None
    return drawn


def _n_orders(labels: Labels) -> int:
    return factorial(len(labels)) // prod(map(factorial, Counter(labels).values()))


def _orders(labels: Labels) -> Iterator[Labels]:
    """All different orders of `labels`."""
    if not labels:
        yield ()
        return
    first = min(labels)
    rest = tuple(label for label in labels if label != first)
    for places in combinations(range(len(labels)), labels.count(first)):
        for others in _orders(rest):
            left = iter(others)
            yield tuple(first if place in places else next(left) for place in range(len(labels)))


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

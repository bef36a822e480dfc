"""Random controls for an effect, and the rank of the effect among them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from math import factorial, prod

import numpy as np

Labels = tuple[int, ...]  # of the heads of a layer


def seed_of_run(seed: int, run: str) -> list[int]:
    """The seed of a run's random heads: they are the same at all its steps, as far as the heads' layers are the same."""
    return [seed, *hashlib.sha256(run.encode()).digest()[:4]]


def orders_by_chance(own: Sequence[Labels], most: int, seed: Sequence[int]) -> Iterable[tuple[Labels, ...]]:
    """All distinct permutations of the labels, or a random sample of `most` of them if there are more.

    The given labels are among all permutations, but need not be in a sample. Layers are permuted independently. The result
    depends only on how often each label occurs.
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
    """All distinct permutations of `labels`."""
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
    """Percentage of control effects that are smaller than `value`; NaN without controls."""
    return 100 * float(np.mean(np.asarray(controls) < _with_ties(value))) if len(controls) else float("nan")


def share_at_least(value: float, controls: Sequence[float]) -> float:
    """Share of control effects that are at least `value`; NaN without controls.

    The share is a p-value, so the group itself must be among its controls: the smallest p is 1 / number of groups. All
    permutations include it. For a random sample the caller adds it.
    """
    return float(np.mean(np.asarray(controls) >= _with_ties(value))) if len(controls) else float("nan")


def _with_ties(value: float) -> float:
    """Lower `value` so that effects equal up to float32 rounding count as ties. This makes p-values larger, not smaller."""
    return value - 1e-5 * abs(value)

"""Is it real? Each partition beside what heads without clusters would give.

Every null repeats the whole search on each draw, so that its silhouettes are those of the best clusters of noise:

    directions   heads of the same norms in random directions: is there more than a difference of norms?
    initial      heads of independent normal weights of one variance: is there more than at initialisation?
    permutation  heads permuted within each block of columns: do heads differ in the same way all over their weights?
                 For labels that were given, not found, the labels are permuted instead.

p = (1 + draws with a silhouette at least as large) / (1 + draws).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headway.clusters.kmeans import Floats, Ints
from headway.clusters.partitions import Partition, search
from headway.clusters.quality import Gap, adjusted_rand, dispersion, gap, silhouette, spread
from headway.clusters.spaces import HeadSpace, permuted

_SUBSAMPLES = 50
_KEPT_SHARE = 0.8
_BAND = (0.05, 0.5, 0.95)

Row = dict[str, Any]


@dataclass(frozen=True)
class Draws:
    """Heads without clusters, and the clusters that methods find among them; each search is done once.

    Attributes:
        squared_distances: (n, H, H).
    """

    squared_distances: Floats
    _found: dict[tuple[str, int], Ints] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.squared_distances)

    def clusters(self, method: str, ks: Sequence[int]) -> dict[int, Ints]:
        """(n, H) labels for every k."""
        left = [k for k in ks if (method, k) not in self._found]
        if left:
            self._found.update(
                {(method, k): found for k, found in search(method, self.squared_distances, left).items()}
            )
        return {k: self._found[method, k] for k in ks}


def null_draws(space: HeadSpace, nulls: int, random: np.random.Generator) -> dict[str, Draws]:
    """`nulls` draws of each null that searches for clusters anew, by its name."""
    draws = {"directions": space.directions(random, nulls), "initial": space.initial(random, nulls)}
    if space.blocks is not None:
        draws["permutation"] = permuted(space.blocks, random, nulls)
    return {name: Draws(drawn) for name, drawn in draws.items()}


def found_partitions(space: HeadSpace, methods: Sequence[str], ks: Sequence[int]) -> list[Partition]:
    """The clusters that each method finds among the heads, for every k."""
    labels = {name: search(name, space.squared_distances[None], ks) for name in methods}
    return [Partition(name, k, labels[name][k][0]) for name in methods for k in ks]


def describe(
    space: HeadSpace, partitions: Sequence[Partition], nulls: Mapping[str, Draws], random: np.random.Generator
) -> list[Row]:
    """One row of numbers for each partition, in their order: its quality, and if there are `nulls` how it compares."""
    rows = [_quality(space, partition) for partition in partitions]
    if nulls:
        for row, partition in zip(rows, partitions, strict=True):
            row.update(_beside(nulls, space, partition, random))
            row["stability"] = stability(space, partition, random)
    return rows


def _quality(space: HeadSpace, partition: Partition) -> Row:
    d = space.squared_distances
    return {
        "clustering": partition.name,
        "k": partition.k,
        "labels": partition.labels.tolist(),
        "sizes": np.bincount(partition.labels, minlength=partition.k).tolist(),
        "silhouette": float(silhouette(d[None], partition.labels[None])[0]),
        **spread(d, partition.labels, space.n_columns)._asdict(),
        "lone_heads": partition.lone_heads.tolist(),
        "silhouette_rest": silhouette_without_lone_heads(space, partition),
    }


def silhouette_without_lone_heads(space: HeadSpace, partition: Partition) -> float | None:
    """The silhouette of the other heads, their clusters searched anew; None where no head is alone, NaN where too few
    heads are left."""
    lone = partition.lone_heads
    if not len(lone):
        return None
    rest = np.setdiff1d(np.arange(space.n_heads), lone)
    if len(rest) <= partition.k:
        return float("nan")
    d = space.squared_distances[np.ix_(rest, rest)][None]
    labels = partition.labels[rest][None] if partition.given else search(partition.name, d, [partition.k])[partition.k]
    return float(silhouette(d, labels)[0])


def _beside(nulls: Mapping[str, Draws], space: HeadSpace, partition: Partition, random: np.random.Generator) -> Row:
    """A partition's silhouette beside those of each null: of the clusters that its method finds there, or of the labels
    that were given."""
    observed = silhouette(space.squared_distances[None], partition.labels[None])[0]
    row: Row = {}
    for name, draws in nulls.items():
        d, labels = draws.squared_distances, np.tile(partition.labels, (len(draws), 1))
        if not partition.given:
            labels = draws.clusters(partition.name, [partition.k])[partition.k]
        elif name == "permutation":
            labels = random.permuted(labels, axis=1)
            d = np.broadcast_to(space.squared_distances, d.shape)
        row |= _compared(name, observed, silhouette(d, labels))
    return row


def _compared(null: str, observed: float, drawn: Floats) -> Row:
    low, median, high = np.quantile(drawn, _BAND)
    return {
        f"{null}_p": p_value(observed, drawn),
        f"{null}_low": float(low),
        f"{null}_median": float(median),
        f"{null}_high": float(high),
    }


def p_value(observed: float, drawn: Floats) -> float:
    """Share of draws at least as large (rounding aside), the observed value counted among them."""
    return float((1 + (drawn >= observed - 1e-12).sum()) / (1 + len(drawn)))


def stability(space: HeadSpace, partition: Partition, random: np.random.Generator) -> float | None:
    """Mean adjusted Rand index between the partition and those found among random four fifths of the heads (after
    Ben-Hur, Elisseeff & Guyon 2002); None for given labels, NaN where too few heads are left to cluster."""
    if partition.given:
        return None
    n_kept = round(_KEPT_SHARE * space.n_heads)
    if n_kept <= partition.k:
        return float("nan")
    kept = random.random((_SUBSAMPLES, space.n_heads)).argsort(axis=1)[:, :n_kept]
    d = space.squared_distances[kept[:, :, None], kept[:, None, :]]
    found = search(partition.name, d, [partition.k])[partition.k]
    return float(adjusted_rand(partition.labels[kept], found).mean())


def gap_statistic(space: HeadSpace, ks: Sequence[int], directions: Draws) -> Gap:
    """The gap statistic of k-means for k = 1 to the largest of `ks`, against heads of the same norms in random
    directions: any reference without clusters serves, and the usual box is none for 12 points in 49,152 dimensions."""
    counts = range(1, max(ks) + 1)
    observed = Draws(space.squared_distances[None])
    return gap(_dispersions(observed, counts)[0], _dispersions(directions, counts))


def _dispersions(draws: Draws, counts: Sequence[int]) -> Floats:
    labels = draws.clusters("kmeans", counts)
    return np.stack([dispersion(draws.squared_distances, labels[k]) for k in counts], axis=1)

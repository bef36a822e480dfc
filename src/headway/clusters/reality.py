"""Is it real? Each partition beside what heads without clusters would give.

Every null repeats the whole search on each draw, so that its clusters are the best ones of noise:

    directions   heads of the same norms in random directions: is there more than a difference of norms?
    initial      heads of independent normal weights of one variance: is there more than in a fresh model?
    permutation  heads permuted within each block of columns: do heads differ in the same way all over their weights?
                 For labels that were given, not found, the labels are permuted instead.
    covariance   heads mixed by a random rotation, as any Gaussian heads could be: is there more than directions in which
                 heads vary much, without gaps between them?

p = (1 + draws at least as large) / (1 + draws), of the silhouette, but for `covariance` of the share of variance between
clusters: its draws vary as much in every direction as the heads do, and what tells groups is how much of that lies between
clusters, as in SigClust (Liu, Hayes, Nobel & Marron 2008), whose covariance is estimated where this one is kept.

A head alone in its cluster is an outlier and hides the groups that others may form. Such heads are taken away until none is
left, and the nulls are drawn anew for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from headway.clusters.kmeans import Floats, Ints
from headway.clusters.partitions import Partition, search
from headway.clusters.quality import Gap, adjusted_rand, between_share, dispersion, gap, silhouette, spread
from headway.clusters.spaces import HeadSpace, permuted, rotated

_SUBSAMPLES = 50
_KEPT_SHARE = 0.8
_BAND = (0.05, 0.5, 0.95)
_PEELED_K = 2  # clusters of which the rest is tested, too: those that claims are made of

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
    draws = {"directions": Draws(space.directions(random, nulls))}
    draws["initial"] = draws["directions"] if space.alike else Draws(space.initial(random, nulls))
    if space.blocks is not None:
        draws["permutation"] = Draws(permuted(space.blocks, random, nulls))
    return draws | {"covariance": Draws(rotated(space.squared_distances, random, nulls))}


def found_partitions(space: HeadSpace, methods: Sequence[str], ks: Sequence[int]) -> list[Partition]:
    """The clusters that each method finds among the heads, for every k."""
    labels = {name: search(name, space.squared_distances[None], ks) for name in methods}
    return [Partition(name, k, labels[name][k][0]) for name in methods for k in ks]


def describe(
    space: HeadSpace, partitions: Sequence[Partition], nulls: Mapping[str, Draws], random: np.random.Generator
) -> list[Row]:
    """One row of numbers for each partition, in their order: its quality, and if there are `nulls` how it compares."""
    peelings = [peeled(space, partition) for partition in partitions]
    rows = [_quality(space, *pair) for pair in zip(partitions, peelings, strict=True)]
    if nulls:
        n_draws = len(nulls["directions"])
        rest_nulls = cache(lambda heads: null_draws(space.only(np.array(heads)), n_draws, random))
        for row, partition, rest in zip(rows, partitions, peelings, strict=True):
            row.update(_beside(nulls, space, partition, random))
            row["stability"] = stability(space, partition, random)
            if rest is not None and partition.k == _PEELED_K and not partition.given:
                row["rest_p"] = _rest_p(rest, space, rest_nulls, random)
    return rows


def _quality(space: HeadSpace, partition: Partition, rest: Rest | None) -> Row:
    d = space.squared_distances
    return {
        "clustering": partition.name,
        "k": partition.k,
        "labels": partition.labels.tolist(),
        "sizes": np.bincount(partition.labels, minlength=partition.k).tolist(),
        "silhouette": float(silhouette(d[None], partition.labels[None])[0]),
        **spread(d, partition.labels, space.n_columns)._asdict(),
        "lone_heads": partition.lone_heads.tolist(),
        "outliers": [] if rest is None else np.setdiff1d(np.arange(space.n_heads), rest.heads).tolist(),
        "silhouette_rest": None if rest is None else rest.silhouette(space),
    }


class Rest(NamedTuple):
    """The heads (n,) that are left without the lone ones, and their clusters; None where too few are left to part."""

    heads: Ints
    partition: Partition | None

    def silhouette(self, space: HeadSpace) -> float:
        if self.partition is None:
            return float("nan")
        d = space.squared_distances[np.ix_(self.heads, self.heads)]
        return float(silhouette(d[None], self.partition.labels[None])[0])


def peeled(space: HeadSpace, partition: Partition) -> Rest | None:
    """What is left when lone heads are taken away and clusters searched anew until no head is alone; None where none is.

    Of labels that were given, the lone heads are taken away once, and the labels stay.
    """
    heads, left = np.arange(space.n_heads), partition
    while len(lone := left.lone_heads):
        kept = np.setdiff1d(np.arange(len(heads)), lone)
        heads = heads[kept]
        if len(heads) <= partition.k:
            return Rest(heads, None)
        if partition.given:
            return Rest(heads, replace(left, labels=left.labels[kept]))
        d = space.squared_distances[np.ix_(heads, heads)][None]
        left = replace(left, labels=search(left.name, d, [left.k])[left.k][0])
    return None if left is partition else Rest(heads, left)


def _rest_p(
    rest: Rest, space: HeadSpace, nulls: Callable[[tuple[int, ...]], dict[str, Draws]], random: np.random.Generator
) -> float:
    """The largest p of all nulls for the heads that are left; 1 where they are too few to form groups."""
    if rest.partition is None:
        return 1.0
    row = _beside(nulls(tuple(rest.heads.tolist())), space.only(rest.heads), rest.partition, random)
    return max(value for name, value in row.items() if name.endswith("_p"))


def _beside(nulls: Mapping[str, Draws], space: HeadSpace, partition: Partition, random: np.random.Generator) -> Row:
    """A partition's silhouette, or share between clusters, beside those of each null: of the clusters that its method
    finds there, or of the labels that were given."""
    row: Row = {}
    for name, draws in nulls.items():
        d, labels = draws.squared_distances, np.tile(partition.labels, (len(draws), 1))
        if not partition.given:
            labels = draws.clusters(partition.name, [partition.k])[partition.k]
        elif name == "permutation":
            labels = random.permuted(labels, axis=1)
            d = np.broadcast_to(space.squared_distances, d.shape)
        quality = between_share if name == "covariance" else silhouette
        observed = quality(space.squared_distances[None], partition.labels[None])[0]
        row |= _compared(name, observed, quality(d, labels))
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


def gap_statistic(space: HeadSpace, ks: Sequence[int], nulls: Mapping[str, Draws]) -> Gap:
    """The gap statistic of k-means for k = 1 to the largest of `ks`, against the null that lets the fewest clusters stand.

    A reference that lies otherwise than heads without clusters finds clusters in the difference: heads in random
    directions have no columns of larger weights, heads mixed by a rotation no head of larger norm. As with p, clusters
    must stand against all of them. (The usual box is no reference for 12 points in 49,152 dimensions.)
    """
    counts = range(1, max(ks) + 1)
    observed = _dispersions(Draws(space.squared_distances[None]), counts)[0]
    return min((gap(observed, _dispersions(draws, counts)) for draws in nulls.values()), key=lambda one: one.chosen)


def _dispersions(draws: Draws, counts: Sequence[int]) -> Floats:
    labels = draws.clusters("kmeans", counts)
    return np.stack([dispersion(draws.squared_distances, labels[k]) for k in counts], axis=1)

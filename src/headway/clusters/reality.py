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

These are the clusters as the published study has them, differences of norm included. Whether heads form groups apart from
their norms is asked in `groups`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headway.clusters.kmeans import Floats, Ints
from headway.clusters.partitions import Partition, search
from headway.clusters.quality import Gap, adjusted_rand, between_share, dispersion, gap, silhouette, spread
from headway.clusters.spaces import HeadSpace, distances_of, permuted, rotated

_SUBSAMPLES = 50
_KEPT_SHARE = 0.8
_BAND = (0.05, 0.5, 0.95)

Row = dict[str, Any]


@dataclass(frozen=True)
class Nulls:
    """Draws of every null, and the clusters that methods find among them; each search is done once, for all together.

    Attributes:
        names: of the nulls.
        squared_distances: (nulls, n, H, H).
    """

    names: tuple[str, ...]
    squared_distances: Floats
    _found: dict[tuple[str, int], Ints] = field(default_factory=dict)

    @property
    def n_draws(self) -> int:
        return self.squared_distances.shape[1]

    def of_all(self, numbers: Callable[[Floats, Ints], Floats], squared_distances: Floats, labels: Ints) -> Floats:
        """(nulls, n) numbers of partitions `labels` (nulls, n, H)."""
        n_heads = labels.shape[-1]
        found = numbers(squared_distances.reshape(-1, n_heads, n_heads), labels.reshape(-1, n_heads))
        return found.reshape(labels.shape[:2])

    def clusters(self, method: str, *ks: int) -> list[Ints]:
        """(nulls, n, H) labels for every k."""
        left = [k for k in ks if (method, k) not in self._found]
        if left:
            n_heads = self.squared_distances.shape[-1]
            for k, found in search(method, self.squared_distances.reshape(-1, n_heads, n_heads), left).items():
                self._found[method, k] = found.reshape(self.squared_distances.shape[:3])
        return [self._found[method, k] for k in ks]


def null_draws(space: HeadSpace, n: int, random: np.random.Generator) -> Nulls:
    """`n` draws of each null."""
    draws = {"directions": space.directions(random, n)}
    if not space.alike:
        draws["initial"] = space.initial(random, n)
    if space.blocks is not None:
        draws["permutation"] = distances_of(permuted(space.blocks, random, n))
    draws["covariance"] = distances_of(rotated(space.gram, random, n))
    return Nulls(tuple(draws), np.stack(list(draws.values())))


def found_partitions(space: HeadSpace, methods: Sequence[str], ks: Sequence[int]) -> list[Partition]:
    """The clusters that each method finds among the heads, for every k."""
    labels = {name: search(name, space.squared_distances[None], ks) for name in methods}
    return [Partition(name, k, labels[name][k][0]) for name in methods for k in ks]


def describe(
    space: HeadSpace, partitions: Sequence[Partition], nulls: Nulls | None, random: np.random.Generator
) -> list[Row]:
    """One row of numbers for each partition, in their order: its quality, and if there are `nulls` how it compares."""
    rows = [_quality(space, partition) for partition in partitions]
    if nulls is not None:
        for name in {partition.name for partition in partitions if not partition.given}:  # all k at once is faster
            nulls.clusters(name, *(partition.k for partition in partitions if partition.name == name))
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
    }


def _beside(nulls: Nulls, space: HeadSpace, partition: Partition, random: np.random.Generator) -> Row:
    """A partition's silhouette, or share between clusters, beside those of each null: of the clusters that its method
    finds there, or of the labels that were given."""
    d, own = nulls.squared_distances, space.squared_distances[None]
    if not partition.given:
        (labels,) = nulls.clusters(partition.name, partition.k)
    else:
        labels = np.broadcast_to(partition.labels, d.shape[:3]).copy()
        if "permutation" in nulls.names:
            at = nulls.names.index("permutation")
            d = d.copy()
            d[at], labels[at] = own, random.permuted(labels[at], axis=1)
    row: Row = {}
    names = np.array(nulls.names)
    for quality, its in ((silhouette, names != "covariance"), (between_share, names == "covariance")):
        observed = quality(own, partition.labels[None])[0]
        drawn = nulls.of_all(quality, d[its], labels[its])
        for name, values, band in zip(names[its], drawn, np.quantile(drawn, _BAND, axis=1).T, strict=True):
            row |= _compared(name, observed, values, band)
    if space.alike:
        row |= {name.replace("directions", "initial"): value for name, value in row.items()}
    return row


def _compared(null: str, observed: float, drawn: Floats, band: Floats) -> Row:
    low, median, high = band
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


def gap_statistic(space: HeadSpace, ks: Sequence[int], nulls: Nulls) -> Gap:
    """The gap statistic of k-means for k = 1 to the largest of `ks`, for each k against the null that leaves least of it.

    A reference that lies otherwise than heads without clusters finds clusters in the difference: heads in random
    directions have no columns of larger weights, heads mixed by a rotation no head of larger norm. As with p, clusters
    must stand against all of them. (The usual box is no reference for 12 points in 49,152 dimensions.)
    """
    counts = range(1, max(ks) + 1)
    own = space.squared_distances[None]
    observed = np.array([dispersion(own, search("kmeans", own, [k])[k])[0] for k in counts])
    drawn = [nulls.of_all(dispersion, nulls.squared_distances, found) for found in nulls.clusters("kmeans", *counts)]
    gaps = [gap(observed, null) for null in np.stack(drawn, axis=-1)]
    least = np.argmin([one.value for one in gaps], axis=0)
    return Gap(*(np.choose(least, [one[at] for one in gaps]) for at in range(len(Gap._fields))))

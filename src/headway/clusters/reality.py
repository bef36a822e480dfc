"""Compare each partition with partitions of heads without clusters.

Every null repeats the whole search on each draw, so its clusters are the best ones in noise:

    directions   heads of the same norms in random directions: is there more than a difference of norms?
    initial      heads of independent normal weights of one variance: is there more than in an untrained model?
    permutation  heads permuted within each block of columns: do heads differ in the same way across their weights?
                 For given labels, the labels are permuted instead.
    covariance   heads mixed by a random rotation, as from any Gaussian: are there gaps between heads, beyond directions in
                 which heads vary much?

p = (1 + draws at least as large) / (1 + draws). It compares silhouettes, except for `covariance`, which compares the share
of variance between clusters. Its draws vary as much in every direction as the heads do, so groups show only in how much of
the variance is between clusters. SigClust does the same (Liu, Hayes, Nobel & Marron 2008), but estimates the covariance.

These clusters are those of "Pythia clustering dynamics", including differences of norm. `groups` tests whether
heads form groups apart from their norms.
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
    """Draws of every null, and the clusters that each method finds in them. Each search is run once for all nulls.

    Attributes:
        names: names of the nulls.
        squared_distances: (nulls, n, H, H).
    """

    names: tuple[str, ...]
    squared_distances: Floats
    _found: dict[tuple[str, int], Ints] = field(default_factory=dict)

    @property
    def n_draws(self) -> int:
        return int(self.squared_distances.shape[1])

    def of_all(self, numbers: Callable[[Floats, Ints], Floats], squared_distances: Floats, labels: Ints) -> Floats:
        """(nulls, n) values of a quality for partitions `labels` (nulls, n, H)."""
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
    """Draw `n` samples of each null."""
    draws = {"directions": space.directions(random, n)}
    if not space.alike:
        draws["initial"] = space.initial(random, n)
    if space.blocks is not None:
        draws["permutation"] = distances_of(permuted(space.blocks, random, n))
    draws["covariance"] = distances_of(rotated(space.gram, random, n))
    return Nulls(tuple(draws), np.stack(list(draws.values())))


def found_partitions(space: HeadSpace, methods: Sequence[str], ks: Sequence[int]) -> list[Partition]:
    """Clusters found by each method for every k."""
    labels = {name: search(name, space.squared_distances[None], ks) for name in methods}
    return [Partition(name, k, labels[name][k][0]) for name in methods for k in ks]


def describe(
    space: HeadSpace, partitions: Sequence[Partition], nulls: Nulls | None, random: np.random.Generator
) -> list[Row]:
    """One row per partition, in order: its quality and, with `nulls`, its comparison with them."""
    rows = [_quality(space, partition) for partition in partitions]
    if nulls is not None:
        for name in {
            partition.name for partition in partitions if not partition.given
        }:  # searching all k at once is faster
            nulls.clusters(name, *(partition.k for partition in partitions if partition.name == name))
        for row, partition in zip(rows, partitions, strict=True):
            row.update(_compare_with_nulls(nulls, space, partition, random))
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


def _compare_with_nulls(nulls: Nulls, space: HeadSpace, partition: Partition, random: np.random.Generator) -> Row:
    """Compare a partition with each null, by silhouette or by the share of variance between clusters.

    The method clusters each draw. Given labels are applied to the draws instead.
    """
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
    for quality, mask in ((silhouette, names != "covariance"), (between_share, names == "covariance")):
        observed = quality(own, partition.labels[None])[0]
        drawn = nulls.of_all(quality, d[mask], labels[mask])
        for name, values, band in zip(names[mask], drawn, np.quantile(drawn, _BAND, axis=1).T, strict=True):
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
    """Share of draws that are at least as large (up to rounding), counting the observed value as a draw."""
    return float((1 + (drawn >= observed - 1e-12).sum()) / (1 + len(drawn)))


def stability(space: HeadSpace, partition: Partition, random: np.random.Generator) -> float | None:
    """Mean adjusted Rand index between the partition and those of random subsets with 4/5 of the heads.

    After Ben-Hur, Elisseeff & Guyon 2002. None for given labels; NaN if too few heads are left to cluster.
    """
    if partition.given:
        return None
    n_kept = round(_KEPT_SHARE * space.n_heads)
    if n_kept <= partition.k:
        return float("nan")
    kept = random.random((_SUBSAMPLES, space.n_heads)).argsort(axis=1)[:, :n_kept]
    d = space.squared_distances[kept[:, :, None], kept[:, None, :]]
    found = search(partition.name, d, [partition.k])[partition.k]
    return float(adjusted_rand(partition.labels[kept], found).mean())


def gap_statistic(space: HeadSpace, partitions: Sequence[Partition], nulls: Nulls) -> Gap:
    """Gap statistic of k-means from k = 1 to the largest of `partitions`, for each k by the null with the smallest gap.

    A reference with another distribution than heads without clusters would turn that difference into clusters. Heads in
    random directions have no columns of larger weights, and rotated heads have no head of larger norm. So, as with p-values,
    clusters must stand out from all nulls. The usual reference, a uniform box, is useless for 12 points in 49,152
    dimensions.
    """
    own = space.squared_distances[None]
    found = {partition.k: partition.labels[None] for partition in partitions if partition.name == "kmeans"}
    counts = range(1, max(found) + 1)
    found |= search("kmeans", own, [k for k in counts if k not in found])
    observed = np.array([dispersion(own, found[k])[0] for k in counts])
    drawn = [nulls.of_all(dispersion, nulls.squared_distances, labels) for labels in nulls.clusters("kmeans", *counts)]
    gaps = [gap(observed, null) for null in np.stack(drawn, axis=-1)]
    least = np.argmin([one.value for one in gaps], axis=0)
    return Gap(*(np.choose(least, [one[at] for one in gaps]) for at in range(len(Gap._fields))))

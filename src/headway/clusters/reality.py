"""Is it real? Each partition beside what heads without clusters would give.

Every null repeats the whole search on each draw, so that its silhouettes are those of the best clusters of noise:

    directions   heads of the same norms in random directions: is there more than a difference of norms?
    initial      heads of independent normal weights of one variance: is there more than at initialisation?
    permutation  heads permuted within each block of columns: do heads differ in the same way all over their weights?
                 For labels that were given, not found, the labels are permuted instead.

p = (1 + draws with a silhouette at least as large) / (1 + draws).
"""

from __future__ import annotations

from collections.abc import Sequence
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
Silhouettes = dict[tuple[str, int], Floats]


def found_partitions(space: HeadSpace, methods: Sequence[str], ks: Sequence[int]) -> list[Partition]:
    """The clusters that each method finds among the heads, for every k."""
    labels = {name: search(name, space.squared_distances[None], ks) for name in methods}
    return [Partition(name, k, labels[name][k][0]) for name in methods for k in ks]


def describe(
    space: HeadSpace, partitions: Sequence[Partition], *, nulls: int, random: np.random.Generator
) -> list[Row]:
    """One row of numbers for each partition, in their order: its quality, and if `nulls` is not 0 its nulls."""
    rows = [_quality(space, partition) for partition in partitions]
    if nulls:
        for row, more in zip(rows, _nulls(space, partitions, nulls, random), strict=True):
            row.update(more)
        for row, partition in zip(rows, partitions, strict=True):
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


def _nulls(space: HeadSpace, partitions: Sequence[Partition], nulls: int, random: np.random.Generator) -> list[Row]:
    draws = {"directions": space.directions(random, nulls), "initial": space.initial(random, nulls)}
    if space.blocks is not None:
        draws["permutation"] = permuted(space.blocks, random, nulls)
    rows: list[Row] = [{} for _ in partitions]
    for null, d in draws.items():
        scores = _best_silhouettes(d, partitions)
        for row, partition in zip(rows, partitions, strict=True):
            observed = silhouette(space.squared_distances[None], partition.labels[None])[0]
            if partition.given and null == "permutation":
                continue
            row.update(_compared(null, observed, scores[partition.name, partition.k]))
    for row, partition in zip(rows, partitions, strict=True):
        if partition.given:
            labels = random.permuted(np.tile(partition.labels, (nulls, 1)), axis=1)
            d = np.broadcast_to(space.squared_distances, (nulls, *space.squared_distances.shape))
            observed = silhouette(space.squared_distances[None], partition.labels[None])[0]
            row.update(_compared("permutation", observed, silhouette(d, labels)))
    return rows


def _best_silhouettes(d: Floats, partitions: Sequence[Partition]) -> Silhouettes:
    """Silhouettes of null draws (n, H, H): of the clusters that each method finds there, or of the labels given."""
    scores: Silhouettes = {}
    for name in dict.fromkeys(partition.name for partition in partitions if not partition.given):
        ks = [partition.k for partition in partitions if partition.name == name]
        for k, labels in search(name, d, ks).items():
            scores[name, k] = silhouette(d, labels)
    for partition in partitions:
        if partition.given:
            scores[partition.name, partition.k] = silhouette(d, np.tile(partition.labels, (len(d), 1)))
    return scores


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


def gap_statistic(space: HeadSpace, ks: Sequence[int], *, nulls: int, random: np.random.Generator) -> Gap:
    """The gap statistic of k-means for k = 1 to the largest of `ks`, against heads of the same norms in random
    directions: any reference without clusters serves, and the usual box is none for 12 points in 49,152 dimensions."""
    counts = range(1, max(ks) + 1)
    observed = _dispersions(space.squared_distances[None], counts)[0]
    return gap(observed, _dispersions(space.directions(random, nulls), counts))


def _dispersions(d: Floats, counts: Sequence[int] | range) -> Floats:
    labels: dict[int, Ints] = search("kmeans", d, list(counts))
    return np.stack([dispersion(d, labels[k]) for k in counts], axis=1)

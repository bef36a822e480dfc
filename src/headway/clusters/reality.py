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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headway.clusters.kmeans import Floats, Ints
from headway.clusters.partitions import Partition, search
from headway.clusters.quality import Gap, adjusted_rand, between_share, dispersion, gap, silhouette, spread
from headway.clusters.spaces import HeadSpace, distances_of, permuted, rotated
from headway.clusters.stacks import at_once

_SUBSAMPLES = 50
_KEPT_SHARE = 0.8
_BAND = (0.05, 0.5, 0.95)

Row = dict[str, Any]


@dataclass(frozen=True)
class Nulls:
    """Draws of every null, and the clusters that each method finds in them. Each search is run once for all nulls.

    Attributes:
        names: names of the nulls. `covariance` is the last.
        squared_distances: (nulls, n, H, H).
        found: (nulls, n, H) labels by method and k.
    """

    names: tuple[str, ...]
    squared_distances: Floats
    found: dict[tuple[str, int], Ints] = field(default_factory=dict)


def null_draws(space: HeadSpace, n: int, random: np.random.Generator) -> Nulls:
    """Draw `n` samples of each null."""
    draws = {"directions": space.directions(random, n)}
    if not space.alike:
        draws["initial"] = space.initial(random, n)
    if space.blocks is not None:
        draws["permutation"] = distances_of(permuted(space.blocks, random, n))
    draws["covariance"] = distances_of(rotated(space.gram, random, n))
    return Nulls(tuple(draws), np.stack(list(draws.values())))


class Cell(NamedTuple):
    """The heads of one layer, kind and feature, with their partitions.

    Attributes:
        partitions: those that were found, and then those of given labels.
        random: a generator of its own, so that results do not depend on other cells.
    """

    space: HeadSpace
    partitions: Sequence[Partition]
    random: np.random.Generator


Pair = tuple[Cell, Partition]


def found_partitions(
    spaces: Sequence[HeadSpace], methods: Sequence[str], ks: Sequence[Sequence[int]]
) -> list[list[Partition]]:
    """Clusters found in each space by each method, for every k of the space's `ks`."""
    found: list[list[Partition]] = [[] for _ in spaces]
    for name in methods:
        searched = _search_each(name, [space.squared_distances[None] for space in spaces], ks)
        for partitions, labels in zip(found, searched, strict=True):
            partitions += [Partition(name, k, of_k[0]) for k, of_k in labels.items()]
    return found


def _search_each(name: str, problems: Sequence[Floats], ks: Sequence[Sequence[int]]) -> list[dict[int, Ints]]:
    """`partitions.search` of several stacks of problems, each for its own numbers of clusters."""
    found: list[dict[int, Ints]] = [{} for _ in ks]
    for asked in {tuple(of) for of in ks if of}:
        these = [at for at, of in enumerate(ks) if tuple(of) == asked]

        def labels(squared_distances: Floats, asked: tuple[int, ...] = asked) -> tuple[Ints, ...]:
            by_k = search(name, squared_distances, asked)
            return tuple(by_k[k] for k in asked)

        for at, one in zip(these, at_once(labels, ((problems[at],) for at in these)), strict=True):
            found[at] = dict(zip(asked, one, strict=True))
    return found


def qualities(cells: Sequence[Cell]) -> list[list[Row]]:
    """For each cell a row per partition, in order: its clusters and their quality."""
    pairs = _pairs(cells)
    rows = [
        {
            "clustering": partition.name,
            "k": partition.k,
            "labels": partition.labels.tolist(),
            "label_names": list(partition.names) or None,
            "sizes": np.bincount(partition.labels, minlength=partition.k).tolist(),
            "silhouette": value,
            **spread(cell.space.squared_distances, partition.labels, cell.space.n_columns)._asdict(),
            "lone_heads": partition.lone_heads.tolist(),
        }
        for (cell, partition), value in zip(pairs, _observed(silhouette, pairs), strict=True)
    ]
    return _by_cell(rows, cells)


def _pairs(cells: Sequence[Cell]) -> list[Pair]:
    return [(cell, partition) for cell in cells for partition in cell.partitions]


def _by_cell(rows: Iterable[Row], cells: Sequence[Cell]) -> list[list[Row]]:
    """Rows in the order of `_pairs`, as a list for each cell."""
    left = iter(rows)
    return [list(islice(left, len(cell.partitions))) for cell in cells]


def _observed(quality: Callable[[Floats, Ints], Floats], pairs: Sequence[Pair]) -> list[float]:
    """A quality of each partition."""
    stacks = ((cell.space.squared_distances[None], partition.labels[None]) for cell, partition in pairs)
    return [float(one[0]) for one in at_once(quality, stacks, [partition.k for _, partition in pairs])]


def comparisons(cells: Sequence[Cell], nulls: Sequence[Nulls]) -> list[list[Row]]:
    """For each cell a row per partition, in order: its stability, and its comparison with each of the cell's nulls.

    Silhouettes are compared, and for `covariance` the share of variance between clusters. The method clusters each draw.
    Given labels are applied to the draws instead.
    """
    for name in {one.name for cell in cells for one in cell.partitions if not one.given}:
        _search_nulls(name, nulls, [[one.k for one in cell.partitions if one.name == name] for cell in cells])
    pairs = _pairs(cells)
    nulls_of = [of for cell, of in zip(cells, nulls, strict=True) for _ in cell.partitions]
    stable = stabilities(pairs)
    draws = [_labelled_draws(*pair, of) for pair, of in zip(pairs, nulls_of, strict=True)]
    ks = [partition.k for _, partition in pairs]
    silhouettes = at_once(silhouette, ((_flat(d[:-1]), _flat(labels[:-1])) for d, labels in draws), ks)
    shares = at_once(between_share, ((d[-1], labels[-1]) for d, labels in draws), ks)
    drawn = [np.vstack([one.reshape(-1, len(share)), share]) for one, share in zip(silhouettes, shares, strict=True)]
    bands = at_once(lambda values: np.quantile(values, _BAND, axis=1).T, ((values,) for values in drawn))
    observed = zip(_observed(silhouette, pairs), _observed(between_share, pairs), strict=True)
    rows = (
        {"stability": stability} | _compared(cell.space, of.names, *numbers)
        for (cell, _), of, stability, *numbers in zip(pairs, nulls_of, stable, observed, drawn, bands, strict=True)
    )
    return _by_cell(rows, cells)


def _search_nulls(name: str, nulls: Sequence[Nulls], ks: Sequence[Sequence[int]]) -> None:
    """Cluster the draws of each of `nulls` with one method, for those of its `ks` that were not searched before."""
    left = [[k for k in of if (name, k) not in one.found] for one, of in zip(nulls, ks, strict=True)]
    searched = _search_each(name, [_flat(one.squared_distances) for one in nulls], left)
    for one, by_k in zip(nulls, searched, strict=True):
        shape = one.squared_distances.shape[:3]
        one.found.update({(name, k): labels.reshape(shape) for k, labels in by_k.items()})


def _flat(draws: NDArray[Any]) -> NDArray[Any]:
    """(nulls, n, ...) as (nulls · n, ...)."""
    return draws.reshape(-1, *draws.shape[2:])


def _labelled_draws(cell: Cell, partition: Partition, nulls: Nulls) -> tuple[Floats, Ints]:
    """(nulls, n, H, H) distances of draws, and the labels (nulls, n, H) with which a partition is compared."""
    d = nulls.squared_distances
    if not partition.given:
        return d, nulls.found[partition.name, partition.k]
    labels = np.broadcast_to(partition.labels, d.shape[:3]).copy()
    if "permutation" in nulls.names:
        at = nulls.names.index("permutation")
        d = d.copy()
        d[at], labels[at] = cell.space.squared_distances, cell.random.permuted(labels[at], axis=1)
    return d, labels


def _compared(
    space: HeadSpace, names: Sequence[str], observed: tuple[float, float], drawn: Floats, bands: Floats
) -> Row:
    """The observed silhouette and share between clusters, beside draws (nulls, n) and their bands (nulls, 3)."""
    row: Row = {}
    for null, values, (low, median, high) in zip(names, drawn, bands, strict=True):
        row |= {
            f"{null}_p": p_value(observed[null == "covariance"], values),
            f"{null}_low": float(low),
            f"{null}_median": float(median),
            f"{null}_high": float(high),
        }
    if space.alike:
        row |= {name.replace("directions", "initial"): value for name, value in row.items()}
    return row


def p_value(observed: float, drawn: Floats) -> float:
    """Share of draws that are at least as large (up to rounding), counting the observed value as a draw."""
    return float((1 + (drawn >= observed - 1e-12).sum()) / (1 + len(drawn)))


def stabilities(pairs: Sequence[Pair]) -> list[float | None]:
    """Mean adjusted Rand index between each partition and those of random subsets with 4/5 of the heads.

    After Ben-Hur, Elisseeff & Guyon 2002. None for given labels; NaN if too few heads are left to cluster.
    """
    found: list[float | None] = [None if partition.given else float("nan") for _, partition in pairs]
    subsets: dict[int, Ints] = {}
    for at, (cell, partition) in enumerate(pairs):
        n_heads = cell.space.n_heads
        n_kept = round(_KEPT_SHARE * n_heads)
        if not partition.given and n_kept > partition.k:
            subsets[at] = cell.random.random((_SUBSAMPLES, n_heads)).argsort(axis=1)[:, :n_kept]
    for name, k in {(pairs[at][1].name, pairs[at][1].k) for at in subsets}:
        these = [at for at in subsets if (pairs[at][1].name, pairs[at][1].k) == (name, k)]
        d = [pairs[at][0].space.squared_distances[subsets[at][:, :, None], subsets[at][:, None, :]] for at in these]
        labels = _search_each(name, d, [[k]] * len(these))
        stacks = ((pairs[at][1].labels[subsets[at]], of[k]) for at, of in zip(these, labels, strict=True))
        for at, agreement in zip(these, at_once(adjusted_rand, stacks), strict=True):
            found[at] = float(agreement.mean())
    return found


def gap_statistics(cells: Sequence[Cell], nulls: Sequence[Nulls]) -> list[Gap]:
    """Gap statistics of k-means, from k = 1 to the largest of a cell's partitions, each k by the null with the smallest gap.

    A reference with another distribution than heads without clusters would turn that difference into clusters. Heads in
    random directions have no columns of larger weights, and rotated heads have no head of larger norm. So, as with p-values,
    clusters must stand out from all nulls. The usual reference, a uniform box, is useless for 12 points in 49,152
    dimensions.
    """
    counts = [range(1, 1 + max(one.k for one in cell.partitions if one.name == "kmeans")) for cell in cells]
    _search_nulls("kmeans", nulls, counts)
    own = _search_each("kmeans", [cell.space.squared_distances[None] for cell in cells], counts)
    asked = [(cell.space, of, labels, k) for cell, of, labels in zip(cells, nulls, own, strict=True) for k in labels]
    ks = [k for *_, k in asked]
    heads = ((space.squared_distances[None], labels[k]) for space, _, labels, k in asked)
    draws = ((_flat(of.squared_distances), _flat(of.found["kmeans", k])) for _, of, _, k in asked)
    observed, drawn = iter(at_once(dispersion, heads, ks)), iter(at_once(dispersion, draws, ks))
    return [
        _least_gap(list(islice(observed, len(labels))), list(islice(drawn, len(labels))), len(of.names))
        for labels, of in zip(own, nulls, strict=True)
    ]


def _least_gap(observed: Sequence[Floats], drawn: Sequence[Floats], n_nulls: int) -> Gap:
    """From the dispersion for every k, (1,) of heads and (nulls · n,) of draws."""
    found = gap(np.concatenate(observed), np.stack(drawn, axis=-1).reshape(n_nulls, -1, len(drawn)))
    least = found.value.argmin(axis=0)
    return Gap(*(np.take_along_axis(one, least[None], axis=0)[0] for one in found))

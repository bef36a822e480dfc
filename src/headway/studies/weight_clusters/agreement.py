"""Agreement of partitions: which heads share a cluster, from step to step and from seed to seed."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from headway.clusters.quality import adjusted_rand
from headway.studies.weight_clusters.timeline import main_series

_SERIES = ("run", "size", "seed", "layer", "kind", "feature", "clustering", "k")

_TYPES = dict.fromkeys(_SERIES, pl.String()) | {"layer": pl.Int32(), "k": pl.Int32()}
_COMPOSITION: dict[str, pl.DataType] = _TYPES | {
    "step": pl.Int64(),
    "clusters": pl.List(pl.List(pl.Int32())),
    "sizes": pl.List(pl.Int32()),
    "previous_step": pl.Int64(),
    "ari_previous": pl.Float64(),
}
_PAIRS: dict[str, pl.DataType] = {name: dtype for name, dtype in _TYPES.items() if name != "seed"} | {
    "other": pl.String(),
    "step": pl.Int64(),
    "ari": pl.Float64(),
}


def composition(table: pl.DataFrame) -> pl.DataFrame:
    """One row per partition and step: clusters as lists of heads, largest first, and `ari_previous`, the adjusted Rand
    index with the partition of the step before in the same run."""
    rows: list[dict[str, Any]] = []
    for series in _found(table).partition_by(_SERIES, maintain_order=True):
        ordered = series.sort("step").to_dicts()
        before = [None, *ordered[:-1]]
        for earlier, row in zip(before, ordered, strict=True):
            rows.append(
                {
                    **{name: row[name] for name in _SERIES},
                    "step": row["step"],
                    "clusters": _members(row["labels"]),
                    "sizes": sorted(row["sizes"], reverse=True),
                    "previous_step": None if earlier is None else earlier["step"],
                    "ari_previous": None if earlier is None else _adjusted_rand(earlier["labels"], row["labels"]),
                }
            )
    return pl.DataFrame(rows, schema=_COMPOSITION)


def between_seeds(table: pl.DataFrame) -> pl.DataFrame:
    """One row per partition, step and pair of runs of one size: the adjusted Rand index of their labels.

    Seeds share no order of heads. Agreement beyond chance is expected only if labels depend on the position of a head.
    """
    rows = []
    same = ("size", "n_heads", "step", "layer", "kind", "feature", "clustering", "k")
    for group in _found(table).partition_by(same, maintain_order=True):
        for one, other in combinations(group.sort("run").to_dicts(), 2):
            place = {name: one[name] for name in same if name != "n_heads"}
            agreement = _adjusted_rand(one["labels"], other["labels"])
            rows.append({**place, "run": one["run"], "other": other["run"], "ari": agreement})
    return pl.DataFrame(rows, schema=_PAIRS)


def seed_means(pairs: pl.DataFrame) -> pl.DataFrame:
    """Mean agreement over all pairs of runs of a size, for k-means with two clusters: `ari` and `n_pairs`."""
    place = ("size", "layer", "kind", "feature", "step")
    return main_series(pairs).group_by(place, maintain_order=True).agg(ari=pl.col("ari").mean(), n_pairs=pl.len())


def _found(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("k") > 1)


def _members(labels: list[int]) -> list[list[int]]:
    clusters = [[head for head, label in enumerate(labels) if label == cluster] for cluster in sorted(set(labels))]
    return sorted(clusters, key=lambda heads: (-len(heads), heads))


def _adjusted_rand(labels: list[int], other: list[int]) -> float:
    return float(adjusted_rand(np.array([labels]), np.array([other]))[0])

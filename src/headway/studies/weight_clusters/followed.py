"""The final groups of heads, followed back through training.

To say whether groups arose abruptly, one partition is followed: that of the last step with groups. A new search at every
step would change the partition from step to step, and the number of heads in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headway.clusters.quality import silhouette
from headway.clusters.spaces import distances_of, unit_distances

_SERIES = ("run", "layer", "kind", "feature")
_SCHEMA = {
    "run": pl.String(),
    "layer": pl.Int32(),
    "kind": pl.String(),
    "feature": pl.String(),
    "step": pl.Int64(),
    "silhouette_final": pl.Float64(),
}


def followed(table: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
    """One row per step of every series that has groups at some step: `silhouette_final`, that of the groups of the last such
    step, by the directions of the heads at each step.

    Args:
        table: the clusters table, whose rows of k = 1 hold the heads' places.
        lines: the timeline, which says at which steps there are groups.
    """
    last = lines.filter(pl.col("groups").fill_null(False)).group_by(_SERIES).agg(step=pl.col("step").max())
    rows = []
    wanted = table.filter(pl.col("k") == 1).join(last, on=_SERIES, how="inner", suffix="_final").sort(*_SERIES, "step")
    for series in wanted.partition_by(_SERIES, maintain_order=True):
        labels = series.filter(pl.col("step") == pl.col("step_final"))["group_labels"][0].to_list()
        kept = np.array([head for head, label in enumerate(labels) if label is not None])
        own = np.array([labels[head] for head in kept])[None]
        for row in series.iter_rows(named=True):
            d = _distances(row, kept)
            value = None if d is None else float(silhouette(d[None], own)[0])
            rows.append({name: row[name] for name in (*_SERIES, "step")} | {"silhouette_final": value})
    return pl.DataFrame(rows, schema=_SCHEMA)


def _distances(row: dict[str, Any], kept: np.ndarray) -> np.ndarray | None:
    """(H, H) squared distances between the directions of the kept heads; None where one of them has no norm.

    The table has the heads' places about their mean and their norms about the origin, which give their inner products.
    Subspaces have no norms.
    """
    places = np.array(row["coordinates"])[kept]
    squared = distances_of(places @ places.T)
    if row["feature"] == "subspace":
        return squared
    norms = np.array(row["norms"])[kept]
    if not (norms > 0).all():
        return None
    return unit_distances((norms[:, None] ** 2 + norms**2 - squared) / 2)

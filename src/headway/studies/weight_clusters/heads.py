"""Norms and changes of single heads, and maps of heads in two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headway.studies.weight_clusters.tsne import tsne_maps

_MOST_TSNE = 20_000  # maps, in about half a minute
_KEY = ("suite", "run", "model", "size", "seed", "step", "layer", "kind", "feature")
_N_COMPONENTS = 3


def heads(table: pl.DataFrame, notes: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row per head, and one row per principal component with the share of variance it explains.

    Heads: `norm`, `change` (mean absolute, since `previous_step`), `relative_change`, `cluster` (of k-means with two
    clusters; null where heads are equal), `pc1` to `pc3`, `tsne1`, `tsne2`.
    """
    together = table.filter(pl.col("k") == 1).sort(_KEY)
    clusters = table.filter(pl.col("clustering") == "kmeans", pl.col("k") == 2).select(*_KEY, cluster="labels")
    together = together.join(clusters, on=_KEY, how="left", maintain_order="left")
    shown = _tsne(together, notes)
    rows = [_one(row, flat) for row, flat in zip(together.iter_rows(named=True), shown, strict=True)]
    explained = together.select(*_KEY, "explained").explode("explained", empty_as_null=False)
    explained = explained.with_columns(component=pl.int_range(1, pl.len() + 1).over(_KEY)).rename(
        {"explained": "share"}
    )
    return pl.concat(rows), explained


def _tsne(together: pl.DataFrame, notes: list[str]) -> list[np.ndarray | None]:
    """t-SNE maps of raw weights; if there are very many, only of the last step of each run."""
    wanted = (pl.col("feature") == "raw") & ~pl.col("all_equal")
    if together.select(wanted).to_series().sum() > _MOST_TSNE:
        wanted &= pl.col("step") == pl.col("step").max().over("run")
        notes.append("t-SNE was drawn for the last step of each run only: there are many steps and layers.")
    rows = np.flatnonzero(together.select(wanted).to_series())
    coordinates = [np.array(together["coordinates"][int(row)].to_list()) for row in rows]
    maps: list[np.ndarray | None] = [None] * len(together)
    for shape in {one.shape for one in coordinates}:
        at = [i for i, one in enumerate(coordinates) if one.shape == shape]
        for i, flat in zip(at, tsne_maps(np.stack([coordinates[i] for i in at])), strict=True):
            maps[rows[i]] = flat
    return maps


def _one(row: dict[str, Any], flat: np.ndarray | None) -> pl.DataFrame:
    n_heads = len(row["norms"])
    coordinates = np.array(row["coordinates"])
    components = {
        f"pc{i + 1}": coordinates[:, i] if i < coordinates.shape[1] else np.full(n_heads, np.nan)
        for i in range(_N_COMPONENTS)
    }
    flat = np.full((n_heads, 2), np.nan) if flat is None else flat
    nothing = [None] * n_heads
    own = {
        "head": range(n_heads),
        "cluster": row["cluster"] or nothing,
        "norm": row["norms"],
        "change": row["head_changes"] or nothing,
        "relative_change": row["relative_changes"] or nothing,
        **components,
        "tsne1": flat[:, 0],
        "tsne2": flat[:, 1],
    }
    types = {name: pl.Int32 if name in ("head", "cluster") else pl.Float64 for name in own}
    place = [pl.lit(row[name], dtype=dtype).alias(name) for name, dtype in _PLACE.items()]
    return pl.DataFrame(own, schema=types, nan_to_null=True).select(*place, *types)


_PLACE = {name: pl.String for name in _KEY if name not in ("step", "layer")} | {
    "step": pl.Int64,
    "layer": pl.Int32,
    "previous_step": pl.Int64,
}

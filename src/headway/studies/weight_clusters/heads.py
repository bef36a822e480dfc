"""Single heads: norms, changes, and where they lie in two dimensions."""

from __future__ import annotations

import numpy as np
import polars as pl

_MOST_TSNE = 400
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
    shown = _for_tsne(together, notes)
    rows = [_one(row, tsne) for row, tsne in zip(together.iter_rows(named=True), shown, strict=True)]
    explained = together.select(*_KEY, "explained").explode("explained", empty_as_null=False)
    explained = explained.with_columns(component=pl.int_range(1, pl.len() + 1).over(_KEY)).rename(
        {"explained": "share"}
    )
    return pl.concat(rows), explained


def _for_tsne(together: pl.DataFrame, notes: list[str]) -> list[bool]:
    """Which maps are drawn by t-SNE: those of raw weights, only the last step of each run where they are many."""
    raw = pl.col("feature") == "raw"
    wanted = together.select(raw & ~pl.col("all_equal")).to_series()
    if wanted.sum() > _MOST_TSNE:
        last = pl.col("step") == pl.col("step").max().over("run")
        wanted = together.select(raw & ~pl.col("all_equal") & last).to_series()
        notes.append("t-SNE was drawn for the last step of each run only: there are many steps and layers.")
    return wanted.to_list()


def _one(row: dict, tsne: bool) -> pl.DataFrame:
    n_heads = len(row["norms"])
    coordinates = np.array(row["coordinates"])
    components = {
        f"pc{i + 1}": coordinates[:, i] if i < coordinates.shape[1] else np.full(n_heads, np.nan)
        for i in range(_N_COMPONENTS)
    }
    flat = tsne_map(coordinates) if tsne else np.full((n_heads, 2), np.nan)
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


def tsne_map(coordinates: np.ndarray) -> np.ndarray:
    """(H, 2) t-SNE of heads, begun at their first two principal components, so that it is the same every time.

    The perplexity is a third of the other heads, at most 5: distances on the map mean little, neighbours something.
    """
    from sklearn.manifold import TSNE

    n_heads = len(coordinates)
    if n_heads < 4 or coordinates.shape[1] < 2:
        return np.full((n_heads, 2), np.nan)
    perplexity = min(5.0, (n_heads - 1) / 3)
    scale = coordinates[:, 0].std()
    start = coordinates[:, :2] / (scale if scale > 0 else 1) * 1e-4
    tsne = TSNE(perplexity=perplexity, init=start, learning_rate="auto", method="exact", max_iter=500, random_state=0)
    return np.asarray(tsne.fit_transform(coordinates / (scale if scale > 0 else 1)), dtype=float)

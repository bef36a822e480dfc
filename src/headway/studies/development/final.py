"""The final step: where in the network the score is large, by layer, by seed and by depth."""

from __future__ import annotations

import numpy as np
import polars as pl

from headway.studies.development.builder import ResultBuilder
from headway.studies.development.heads import RUN_COLUMNS, SIZE_COLUMNS, Heads


def final_step(draft: ResultBuilder) -> None:
    """Adds the tables of the final step."""
    heads = draft.heads
    final = heads.final
    draft.tables["final_heads"] = final.select(
        *RUN_COLUMNS, "step", "layer", "head", "Layer", "Head", "prop_layer", "value", "z"
    )
    draft.tables["final_layer_seed"] = layer_maxima(heads)
    draft.tables["final_by_layer"] = by_layer(heads)
    draft.tables["final_by_depth"] = pl.concat([by_sixths(heads, "rows"), by_sixths(heads, "depth")])


def layer_maxima(heads: Heads) -> pl.DataFrame:
    """The largest head of each layer in each run: `max`, `max_z` and the SE of z over the layer's heads, `se_z`.

    `head` is None where several heads share the maximum.
    """
    place = [*RUN_COLUMNS, "layer", "Layer", "prop_layer"]
    largest = pl.col("value") == pl.col("value").max()
    return heads.final.group_by(place, maintain_order=True).agg(
        head=pl.when(largest.sum() == 1).then(pl.col("head").filter(largest).first()),
        max=pl.col("value").max(),
        max_z=pl.col("z").max(),
        se_z=pl.col("z").std() / pl.len().sqrt(),
    )


def by_layer(heads: Heads) -> pl.DataFrame:
    """The layer's maximum, averaged over the seeds, with ± one standard error."""
    maxima = layer_maxima(heads)
    return with_standard_error(maxima, [*SIZE_COLUMNS, "layer", "Layer", "prop_layer"], "max")


def by_sixths(heads: Heads, cut: str) -> pl.DataFrame:
    """The maximum of each sixth of the network, averaged over the seeds, with ± one standard error.

    Args:
        cut: `rows`, as published: dplyr's `ntile` over the rows of all sizes, which fills six bins with equally many
            rows (deep sizes weigh more, and a layer's heads may fall into two bins); `depth`: sixths of the depth.
    """
    final = heads.final
    if cut == "rows":
        sixth = pl.Series("sixth", ntile(final["prop_layer"].to_numpy(), 6))
    else:
        # Layer · 6 is exact in integers; the quotient of floats could fall on the wrong side of a whole number
        sixth = final.join(heads.sizes.select("model", "n_layers"), on="model", maintain_order="left").select(
            sixth=((pl.col("Layer") * 6 + pl.col("n_layers") - 1) // pl.col("n_layers")).cast(pl.Int64)
        )["sixth"]
    maxima = final.with_columns(sixth).group_by(*RUN_COLUMNS, "sixth", maintain_order=True).agg(pl.col("value").max())
    averages = with_standard_error(maxima, [*SIZE_COLUMNS, "sixth"], "value").sort("n_params", "model", "sixth")
    return averages.select(
        *SIZE_COLUMNS, pl.lit(cut).alias("cut"), "sixth", (pl.col("sixth") / 6).alias("depth"), *_AVERAGE
    )


_AVERAGE = ("mean", "se", "lower", "upper", "n_seeds")


def with_standard_error(frame: pl.DataFrame, by: list[str], column: str) -> pl.DataFrame:
    """Mean of `column` within groups, its standard error (None for one seed) and mean ± se."""
    mean, se = pl.col(column).mean(), pl.col(column).std() / pl.len().sqrt()
    return frame.group_by(by, maintain_order=True).agg(
        mean=mean, se=se, lower=mean - se, upper=mean + se, n_seeds=pl.len()
    )


def ntile(x: np.ndarray, n: int) -> np.ndarray:
    """Bins 1..n of equal counts by rank, ties broken by place; the first bins take what is left over.

    This is dplyr's `ntile`.
    """
    rank = np.empty(len(x), dtype=np.int64)
    rank[np.argsort(x, kind="stable")] = np.arange(len(x))
    small, larger = divmod(len(x), n)
    in_larger = larger * (small + 1)  # the first bins hold one row more
    return np.where(rank < in_larger, rank // (small + 1) + 1, (rank - in_larger) // max(small, 1) + larger + 1)

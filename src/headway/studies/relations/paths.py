"""Effects of paths, averaged over the pairs of each run, and over runs."""

from __future__ import annotations

import numpy as np
import polars as pl

from headway.stats.distributions import t_quantile
from headway.studies.ablations import titled
from headway.studies.roles.onsets import RUN
from headway.tables import SCORES

LOGIT = "next_token_logit"  # the effect on the next token's centred logit
_OF = ("senders", "receivers", "input", "replaced_by", "effect", "title")


def title(effect: str) -> str:
    """The title of an effect of a path."""
    if effect == LOGIT:
        return "Logit of the next token"
    return SCORES[effect].title if effect in SCORES else titled(effect)


def changes(table: pl.DataFrame) -> pl.DataFrame:
    """The mean over pairs of each run and step: run…, step, input, effect, n_pairs, before, change, control, difference, ….

    `control` is the mean of the medians of other heads of the senders' layers, `difference` the change less that; both are null
    for pairs without other heads. `largest` is the change of the pair that changes most, `n_small_p` the pairs with p ≤ 0.05.
    """
    beside = table.with_columns(title=pl.col("effect").map_elements(title, return_dtype=pl.String))
    largest = pl.col("change").sort_by(pl.col("change").abs()).last()
    found = beside.group_by(*RUN, "model", "n_params", "n_layers", "n_heads", "step", *_OF, maintain_order=True).agg(
        n_pairs=pl.len().cast(pl.Int64),
        before=pl.mean("before"),
        change=pl.mean("change"),
        largest=largest,
        control=pl.mean("control_median"),
        difference=(pl.col("change") - pl.col("control_median")).mean(),
        n_controls=pl.min("n_controls").cast(pl.Int64),
        n_small_p=(pl.col("p") <= 0.05).sum().cast(pl.Int64),
        n_texts=pl.min("n_texts").cast(pl.Int64),
    )
    return found.with_columns(step_modded=pl.col("step") + 1)


def means(of_runs: pl.DataFrame) -> pl.DataFrame:
    """The means of `changes` over the runs of a size, with 95% t intervals over runs of the difference (null for one run)."""
    found = of_runs.group_by("size", "step", "step_modded", *_OF, maintain_order=True).agg(
        pl.col("before", "change", "control", "difference").mean(),
        error=pl.std("difference") / pl.col("difference").count().sqrt(),
        n_runs=pl.col("run").n_unique().cast(pl.Int64),
        n_beside=pl.col("difference").count().cast(pl.Int64),
        n_pairs=pl.sum("n_pairs"),
        n_controls=pl.min("n_controls"),
    )
    n = found["n_beside"].to_numpy()
    half = pl.Series(np.where(n > 1, t_quantile(0.975, np.maximum(n.astype(float) - 1, 1)), np.nan)) * found["error"]
    bounded = found.with_columns(
        lower=(pl.col("difference") - half).fill_nan(None), upper=(pl.col("difference") + half).fill_nan(None)
    )
    return bounded.drop("error").sort("size", *_OF, "step", maintain_order=True)

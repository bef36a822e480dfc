"""The strongest head of each role over training, by run, and its mean over the runs of a size in a suite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from headway.known_scores import SCORES, Role
from headway.stats.distributions import t_quantile


def strongest(table: pl.DataFrame, runs: pl.DataFrame, roles: Sequence[Role]) -> pl.DataFrame:
    """The largest value of each role's score over the heads of a checkpoint: suite, run, size, seed, step, tokens_seen, role, value."""
    named = runs.select("suite", "run", "size", "seed").with_row_index("_order")
    heads = table.drop("size", "seed").join(named, on=["suite", "run"])
    place = ("suite", "run", "size", "seed", "step", "tokens_seen")
    parts = [
        heads.filter(pl.col(role.score).is_finite())
        .group_by("_order", *place, maintain_order=True)
        .agg(value=pl.col(role.score).max().cast(pl.Float64))
        .sort("_order", "step")
        .select(*place, pl.lit(role.name).alias("role"), "value")
        for role in roles
    ]
    return pl.concat(parts)


def means(followed: pl.DataFrame, roles: Sequence[Role]) -> pl.DataFrame:
    """The mean over the runs of a size at each step, with a 95% t interval (null for one run). Suites are never averaged together.

    Intervals end where the score can go no further.
    """
    found = followed.group_by("suite", "size", "step", "role", maintain_order=True).agg(
        tokens_seen=pl.col("tokens_seen").max(),
        n_runs=pl.len().cast(pl.Int64),
        mean=pl.col("value").mean(),
        _error=pl.col("value").std() / pl.len().sqrt(),
    )
    n = found["n_runs"].to_numpy()
    margin = (
        np.where(n > 1, t_quantile(0.975, np.maximum(n - 1, 1)), np.nan) * found["_error"].cast(pl.Float64).to_numpy()
    )
    ends = {"lower": found["mean"].to_numpy() - margin, "upper": found["mean"].to_numpy() + margin}
    found = found.drop("_error").with_columns(**{name: pl.Series(end).fill_nan(None) for name, end in ends.items()})
    low, high = ({role.name: getattr(SCORES[role.score], end) for role in roles} for end in ("low", "high"))
    return found.with_columns(
        lower=pl.max_horizontal("lower", _end_of(low)), upper=pl.min_horizontal("upper", _end_of(high))
    ).with_columns(pl.when(pl.col("n_runs") > 1).then(name).alias(name) for name in ends)


def _end_of(by_role: dict[str, float | None]) -> pl.Expr:
    return pl.col("role").replace_strict(by_role, return_dtype=pl.Float64)

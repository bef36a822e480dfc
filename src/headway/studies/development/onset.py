"""Onset: the first step whose rise since the step before is faster than a threshold, averaged over thresholds."""

from __future__ import annotations

import polars as pl

from headway.studies.development.builder import ResultBuilder
from headway.studies.development.growth import mean_by_model, stopped_early
from headway.studies.development.heads import RUN_COLUMNS, Heads

THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(1, 16))  # per decade of training, as published


def onset(draft: ResultBuilder) -> None:
    """Adds the onset at each threshold and its average over the thresholds."""
    heads = draft.heads
    draft.tables["onset_thresholds"] = at_thresholds(heads)
    draft.tables["onset"] = averaged(heads)
    draft.put("tables.onset_mean_by_size", mean_by_model(draft.tables["onset"], "m_step"))


def at_thresholds(heads: Heads) -> pl.DataFrame:
    """The first step of each run whose slope exceeds each threshold, and the step before.

    The onset lies in (step_before, step]; both are None where the threshold is never passed.
    """
    slopes = heads.trajectories.select("run", "step", "step_before", "slope")
    first = [
        slopes.filter(pl.col("slope") > threshold)
        .group_by("run", maintain_order=True)
        .first()
        .with_columns(threshold=pl.lit(threshold))
        for threshold in THRESHOLDS
    ]
    grid = heads.runs.select(RUN_COLUMNS).join(pl.DataFrame({"threshold": THRESHOLDS}), how="cross")
    return grid.join(pl.concat(first), on=["run", "threshold"], how="left", maintain_order="left")


def averaged(heads: Heads) -> pl.DataFrame:
    """`m_step`: the mean onset over the thresholds that the run passes, as published, with how many those are.

    `m_step_before` is the same mean of the steps before: the onset is known only to lie between the two. A run that
    stops early might have passed more: unless it passed all, it has no `m_step`.
    """
    found = (
        at_thresholds(heads)
        .group_by(RUN_COLUMNS, maintain_order=True)
        .agg(
            m_step=pl.col("step").mean(),
            m_step_before=pl.col("step_before").mean(),
            n_thresholds=pl.col("step").count(),
        )
    )
    unknown = pl.col("run").is_in(stopped_early(heads)) & (pl.col("n_thresholds") < len(THRESHOLDS))
    return found.with_columns(m_step=pl.when(~unknown).then("m_step"))

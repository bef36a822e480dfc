"""Onset: the first step whose rise since the step before is faster than a threshold, averaged over thresholds."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from headway.studies.development.builder import ResultBuilder
from headway.studies.development.growth import mean_by_model, stopped_early
from headway.studies.development.heads import RUN_COLUMNS, Heads
from headway.studies.prose import digits

PUBLISHED_SCORE = "prev_self_ratio"
PUBLISHED_THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(1, 16))  # per decade of training
_STEEPEST = 0.5  # of the score's range within one decade: what the last of the thresholds asks
_HIGH = 0.9  # quantile over runs: one odd run does not set the range


@dataclass(frozen=True)
class Thresholds:
    """The slopes, per decade of training, that an onset must pass.

    Attributes:
        levels: fifteen equally spaced slopes, ascending.
        untrained: the largest head at the start step, the median over runs; None where the levels are the published.
        trained: the largest head at the final step, the 90% quantile over runs; None likewise.
    """

    levels: tuple[float, ...]
    untrained: float | None = None
    trained: float | None = None


def thresholds(heads: Heads) -> Thresholds:
    """The published thresholds for the published score, and for any other those of its own range.

    The range is what the largest head gains over untrained heads: `trained` less `untrained`. The thresholds go in equal
    steps up to half of it per decade of training. A largest head that gains nothing has no range. Its thresholds are
    then made from all that it moves, and are the published ones where it never moves.
    """
    if heads.score.name == PUBLISHED_SCORE:
        return Thresholds(PUBLISHED_THRESHOLDS)
    steps = heads.trajectories.join(heads.runs.select("run", "start_step", "final_step"), on="run")
    at_start, at_end = (
        steps.filter(pl.col("step") == pl.col(end))["value"].to_numpy() for end in ("start_step", "final_step")
    )
    untrained, trained = float(np.median(at_start)), float(np.quantile(at_end, _HIGH))
    moved = float(np.ptp(steps["value"].to_numpy()))
    reach = trained - untrained if trained > untrained else moved
    if reach <= 0:
        return Thresholds(PUBLISHED_THRESHOLDS, untrained, trained)
    return Thresholds(_equal_steps(_STEEPEST * reach), untrained, trained)


def _equal_steps(highest: float) -> tuple[float, ...]:
    """Fifteen multiples of a step of two significant digits; the last is `highest`, up to that rounding."""
    n = len(PUBLISHED_THRESHOLDS)
    places = 1 - math.floor(math.log10(highest / n))
    step = round(highest / n, places)
    return tuple(round(step * i, places) for i in range(1, n + 1))


def onset(draft: ResultBuilder) -> None:
    """Adds the onset at each threshold and its average over the thresholds."""
    heads = draft.heads
    chosen = thresholds(heads)
    draft.put("thresholds", asdict(chosen))
    if chosen.untrained is not None and chosen.trained is not None and chosen.trained <= chosen.untrained:
        draft.notes.append(
            f"The largest head does not rise: it stands at {digits(chosen.untrained)} at the start and at "
            f"{digits(chosen.trained)} at the end. An onset is a rise, so onsets say little of this score."
        )
    draft.tables["onset_thresholds"] = at_thresholds(heads)
    draft.tables["onset"] = averaged(heads)
    draft.put("tables.onset_mean_by_size", mean_by_model(draft.tables["onset"], "m_step"))


def at_thresholds(heads: Heads) -> pl.DataFrame:
    """The first step of each run whose slope exceeds each threshold, and the step before.

    The onset lies in (step_before, step]; both are None where the threshold is never passed.
    """
    levels = thresholds(heads).levels
    slopes = heads.trajectories.select("run", "step", "step_before", "slope")
    first = [
        slopes.filter(pl.col("slope") > threshold)
        .group_by("run", maintain_order=True)
        .first()
        .with_columns(threshold=pl.lit(threshold))
        for threshold in levels
    ]
    grid = heads.runs.select(RUN_COLUMNS).join(pl.DataFrame({"threshold": levels}), how="cross")
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
    unknown = pl.col("run").is_in(stopped_early(heads)) & (pl.col("n_thresholds") < len(PUBLISHED_THRESHOLDS))
    return found.with_columns(m_step=pl.when(~unknown).then("m_step"))

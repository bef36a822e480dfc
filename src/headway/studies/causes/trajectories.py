"""The runs of a laboratory: their levels, and how a score and the abilities develop in each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.suites.names import level_order
from headway.tables import SCORES, axes_of, axis_column

NOT_STATED = "unstated"  # the level of a run that does not state its own
# Columns that the study's tables have themselves.
_TAKEN = frozenset({"run", "size", "seed", "block", "value", "factor", "level", "outcome", "step", "after", "by"})
_HIGH = 0.9  # quantile over runs: one odd run does not set the level


@dataclass(frozen=True)
class Outcome:
    """Something that is followed over the steps of each run.

    Attributes:
        name: column of the heads table.
        title: as figures name it.
        of: what the value of a run is, "peak" (its largest) or "final" (its last).
        rises: whether it has an onset.
    """

    name: str
    title: str
    of: str
    rises: bool

    @property
    def words(self) -> str:
        """The title within a sentence."""
        return self.title[:1].lower() + self.title[1:]


ABILITIES = (
    Outcome("repeat_accuracy", "Accuracy on repeated sequences", "final", rises=True),
    Outcome("loss", "Loss on the corpus", "final", rises=False),
)


@dataclass(frozen=True)
class Laboratory:
    """Attributes:
    factors: the axes with several levels, by name, with their levels in order. The first is the reference.
    runs: one row per run: run, size, seed, block, then one column per factor. Runs of one combination of levels that
        differ in size are in different blocks, from the smallest size to the largest.
    values: run, outcome, step, value; one row for each finite value.
    outcomes: what `values` holds.
    """

    factors: dict[str, tuple[str, ...]]
    runs: pl.DataFrame
    values: pl.DataFrame
    outcomes: tuple[Outcome, ...]

    @cached_property
    def blocked(self) -> bool:
        """Whether the runs have several sizes."""
        return self.runs["block"].n_unique() > 1

    def trajectories(self, outcome: Outcome) -> pl.DataFrame:
        """run, step, value of one outcome, in order."""
        return self.values.filter(pl.col("outcome") == outcome.name).select("run", "step", "value").sort("run", "step")


def varied(table: pl.DataFrame) -> list[str]:
    """The axes of a table on which its runs differ."""
    return [axis for axis in axes_of(table.columns) if table[axis_column(axis)].fill_null(NOT_STATED).n_unique() > 1]


def read_laboratory(table: pl.DataFrame, score: str) -> Laboratory:
    """The runs of a heads table, and the largest head of `score` and the abilities at each step.

    Raises:
        StatisticsError: the table lacks the score, or its runs differ in no factor.
    """
    if score not in table.columns:
        raise StatisticsError(f"the heads table has no score {score!r}: measure it first")
    names = varied(table)
    if not names:
        raise StatisticsError("the runs differ in no factor: `headway nano train --vary` makes suites whose runs do")
    if taken := sorted(_TAKEN & set(names)):
        raise StatisticsError(
            f"the axis {taken[0]!r} has the name of a column of this study: name it otherwise in axes.json"
        )
    stated = table.with_columns(pl.col(axis_column(name)).fill_null(NOT_STATED).alias(name) for name in names)
    runs = stated.group_by("run").agg(pl.first("size", "seed", "n_params", *names))
    runs = runs.with_columns(block=pl.col("n_params").rank("dense").over(names).cast(pl.String)).sort("run")
    factors = {name: tuple(sorted(runs[name].unique(), key=level_order)) for name in names}
    own = Outcome(score, SCORES[score].title if score in SCORES else score, "peak", rises=True)
    outcomes = (own, *(ability for ability in ABILITIES if ability.name in table.columns))
    steps = table.group_by("run", "step").agg(
        # NaN would be the largest
        pl.col(one.name).cast(pl.Float64).fill_nan(None).max()
        for one in outcomes
    )
    values = steps.unpivot(index=["run", "step"], variable_name="outcome").filter(pl.col("value").is_finite())
    return Laboratory(factors, runs.select("run", "size", "seed", "block", *names), values, outcomes)


def ends(lab: Laboratory, outcome: Outcome) -> pl.DataFrame:
    """run, value: the peak of each run, or its final value."""
    steps = lab.trajectories(outcome)
    value = pl.col("value").max() if outcome.of == "peak" else pl.col("value").last()
    return steps.group_by("run", maintain_order=True).agg(value)


def onset_level(lab: Laboratory, outcome: Outcome) -> float | None:
    """The level whose passing is the onset: half way from untrained runs to trained ones; None if no run rises so far.

    It is the same for all runs, because a run that hardly rises has no onset, though it reaches half of its own rise.
    Untrained runs are at their first step, with their median. Trained ones are at their peak, with the 90% quantile.
    """
    steps = lab.trajectories(outcome)
    by_run = steps.group_by("run").agg(first=pl.col("value").first(), peak=pl.col("value").max())
    if not by_run.height:
        return None
    first, peak = by_run["first"].to_numpy(), by_run["peak"].to_numpy()
    level = (float(np.median(first)) + float(np.quantile(peak, _HIGH))) / 2
    return level if level > first.max() else None


def onsets(lab: Laboratory, outcome: Outcome, level: float) -> pl.DataFrame:
    """run, after, by: the onset lies after one step and by the next, in steps + 1.

    `after` is 0 if the first checkpoint is past the level, and `by` is null if none is.
    """
    steps = lab.trajectories(outcome).with_columns(time=(pl.col("step") + 1).cast(pl.Float64))
    steps = steps.with_columns(before=pl.col("time").shift().over("run").fill_null(0.0))
    passed = steps.filter(pl.col("value") > level).group_by("run", maintain_order=True).first()
    last = steps.group_by("run", maintain_order=True).agg(last=pl.col("time").last())
    found = last.join(passed.select("run", "before", by="time"), on="run", how="left", maintain_order="left")
    return found.select("run", after=pl.coalesce("before", "last"), by="by")

"""Which causes set off a role or an ability: the runs of a laboratory differ in one factor at a time, and in their seeds.

For each factor: its effect on the onset, the peak and the abilities, with intervals, corrected p values, and the smallest
effect that these runs could have told. `docs/causes.md` lists every number and every table.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from headway.errors import StatisticsError
from headway.progress import Progress, Silent
from headway.store.directory import RunDirectory
from headway.store.partitions import columns_of
from headway.studies.causes.effects import interactions, onset_effects, value_effects
from headway.studies.causes.findings import say
from headway.studies.causes.trajectories import (
    Laboratory,
    Outcome,
    ends,
    onset_level,
    onsets,
    read_laboratory,
    varied,
)
from headway.studies.result import Result
from headway.tables import SCORES, axes_of, axis_column

STATISTICS = {
    "repeats": "Sequences that repeat a passage (share)",
    "repeated_ngrams": "4-grams that stand earlier in their sequence (share)",
    "novel_ngrams": "4-grams that no earlier batch has (share)",
    "entropy": "Entropy of tokens (nats)",
}
_RUN_COLUMNS = ("run", "size", "seed")


def applies(rundir: RunDirectory) -> bool:
    """Whether the runs of the heads table differ in a factor."""
    parts = rundir.partitions("heads")
    # The columns of one partition are cheap to read. Without an axis there, the whole table need not be.
    return bool(parts) and bool(axes_of(columns_of(parts[0]))) and bool(varied(rundir.read("heads")))


def study(
    rundir: RunDirectory,
    *,
    score: str = "prev_self_ratio",
    bootstraps: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Compare the runs of a laboratory; nothing is written before `Result.save`.

    Args:
        rundir: a run directory with a heads table of a suite whose runs differ in factors.
        score: the score that is studied, one of `headway.tables.SCORES`, beside the abilities that were measured.
        bootstraps, seed: not used: nothing is resampled.
        progress: shown while it works.

    Raises:
        RunDirectoryError: there is no heads table.
        StatisticsError: it lacks the score, or its runs differ in no factor.
    """
    lab = read_laboratory(rundir.read("heads"), score)
    result = Result("causes", score)
    result.values["score"] = {"name": score, "title": SCORES[score].title if score in SCORES else score}
    result.values["factors"] = {name: list(levels) for name, levels in lab.factors.items()}
    result.values["outcomes"] = {one.name: {"title": one.title, "of": one.of} for one in lab.outcomes}
    result.values["levels_of_onset"] = {}
    result.tables["runs"] = lab.runs
    result.tables["trajectories"] = _by_factor(lab, lab.values).with_columns(
        step_modded=pl.col("step") + 1,
        outcome_title=pl.col("outcome").replace({outcome.name: outcome.title for outcome in lab.outcomes}),
    )
    result.tables["trajectory_means"] = (
        result.tables["trajectories"]
        .group_by("factor", "level", "outcome", "outcome_title", "step", "step_modded")
        .agg(pl.mean("value"), n_runs=pl.len())
        .sort("factor", "level", "outcome", "step")
    )
    progress = progress or Silent()
    progress.start(f"causes of {score}", len(lab.outcomes))
    made: dict[str, list[pl.DataFrame]] = {}
    for outcome in lab.outcomes:
        for name, frame in _of_outcome(lab, outcome, result).items():
            named = {"outcome": outcome.name, "outcome_title": outcome.title}
            labelled = frame.select(*(pl.lit(word).alias(name) for name, word in named.items()), pl.all())
            made.setdefault(name, []).append(labelled)
        progress.advance(note=outcome.name)
    result.tables.update({name: pl.concat(frames, how="diagonal_relaxed") for name, frames in made.items()})
    _add_data(result, rundir)
    say(result, lab)
    return result


def _add_data(result: Result, rundir: RunDirectory) -> None:
    """Add what the runs read, by level: the mean of each statistic over runs, from each checkpoint to the next."""
    if not rundir.partitions("data"):
        reason = "the run directory has no table of what runs read; `headway nano statistics` makes it"
        result.leave_out("what runs read", reason, ["data"])
        return
    read = rundir.read("data").rename({axis_column(name): name for name in result.values["factors"]})
    long = read.unpivot(
        on=list(STATISTICS), index=["run", "step", *result.values["factors"]], variable_name="statistic"
    ).with_columns(pl.col("statistic").replace(STATISTICS))
    of_factor = [
        long.group_by(level=pl.col(factor), statistic="statistic", step="step", maintain_order=True)
        .agg(pl.mean("value"), n_runs=pl.len())
        .select(pl.lit(factor).alias("factor"), pl.all())
        for factor in result.values["factors"]
    ]
    result.tables["data"] = pl.concat(of_factor).with_columns(step_modded=pl.col("step") + 1)


def _of_outcome(lab: Laboratory, outcome: Outcome, result: Result) -> dict[str, pl.DataFrame]:
    """The tables of one outcome; what does not exist is left out with its reason."""
    tables: dict[str, pl.DataFrame] = {}
    values = ends(lab, outcome)
    tables["values"] = _by_factor(lab, values)
    try:
        found, means, formula = value_effects(lab, values)
    except StatisticsError as error:
        result.leave_out(f"effects on the {outcome.of} {outcome.words}", str(error), ["effects", "means"])
    else:
        result.values.setdefault("models", {})[outcome.name] = formula
        tables |= {"effects": found.with_columns(what=pl.lit(outcome.of)), "means": means}
        tables["interactions"] = interactions(lab, values)
    if outcome.rises:
        level = onset_level(lab, outcome)
        if level is None:
            result.leave_out(f"onset of {outcome.words}", "no run rises above what untrained runs reach", ["onsets"])
        else:
            result.values["levels_of_onset"][outcome.name] = level
            own = onsets(lab, outcome, level)
            tables["onsets"] = _by_factor(lab, own)
            shifts = onset_effects(lab, own).with_columns(what=pl.lit("onset"))
            tables["effects"] = pl.concat([shifts, tables["effects"]]) if "effects" in tables else shifts
    return tables


def _by_factor(lab: Laboratory, of_runs: pl.DataFrame) -> pl.DataFrame:
    """The rows of runs once for each factor: factor, level, run, size, seed, and the columns of `of_runs`."""
    levels = lab.runs.unpivot(
        on=list(lab.factors), index=list(_RUN_COLUMNS), variable_name="factor", value_name="level"
    )
    own: dict[str, Any] = {"maintain_order": "left_right"}
    return levels.join(of_runs, on="run", **own).select("factor", "level", *_RUN_COLUMNS, *of_runs.columns[1:])

"""The heads table made ready: which rows count, what is missing, which steps are the same twice.

Names are the study's, so that its formulas read as published: `Layer` and `Head` count from 1,
`prop_layer = Layer / n_layers`, `step_modded = step + 1` (a log axis can then show step 0).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.studies.stacks import require_one_stack
from headway.tables import (
    HEADS_COLUMNS,
    SCORES,
    Score,
    axes_of,
    axis_column,
    score_columns,
    with_stack,
    with_tokens,
)

RUN_COLUMNS = ("run", "model", "size", "seed", "seed_name", "n_params")
SIZE_COLUMNS = ("model", "size", "n_params")


@dataclass(frozen=True)
class Heads:
    """One score of every head, run and step.

    Attributes:
        score: what is studied.
        frame: a row per run, step and head, sorted by size, seed, step, layer and head; `value` is the score, finite,
            and `numerator` that of a ratio, null where the table does not have it.
        runs: a row per run, in the order of size and seed.
        missing: grid cells that are not there: a run, a step, heads of a step, or scores that are not numbers.
        duplicates: steps of a run in which every score of every head equals an earlier step's.
        factors: the axes of the suite whose levels set apart models of one size; each level then counts as a size.
    """

    score: Score
    frame: pl.DataFrame
    runs: pl.DataFrame
    missing: pl.DataFrame
    duplicates: pl.DataFrame
    factors: tuple[str, ...] = ()

    @cached_property
    def final(self) -> pl.DataFrame:
        """The rows of each size's final step, with `z`: the value scaled to mean 0 and SD 1 within its size."""
        at_end = self.runs.select("run", step="final_step")
        final = self.frame.join(at_end, on=["run", "step"], how="semi", maintain_order="left")
        mean, sd = pl.col("value").mean().over("model"), pl.col("value").std().over("model")
        return final.with_columns(z=pl.when(sd > 0).then((pl.col("value") - mean) / sd))

    @cached_property
    def trajectories(self) -> pl.DataFrame:
        """The largest head of each run and step, and `slope`: its rise per decade of step + 1 since the step before.

        Between two identical checkpoints there is no slope. A checkpoint that equals a later one that does not follow
        it at once was served with the wrong weights: it is marked `suspect`, and slopes reach over it.
        """
        top = _in_order(largest_heads(self.frame), self.runs, "step").drop("n_layers", "n_heads", "numerator")
        top = top.join(
            _duplicate_marks(self.duplicates), on=["run", "step"], how="left", maintain_order="left"
        ).with_columns(pl.col("repeated", "suspect").fill_null(False))
        usable = top.filter(~pl.col("suspect")).with_columns(
            step_before=pl.col("step").shift().over("run"),
            slope=pl.when(~pl.col("repeated")).then(
                pl.col("value").diff().over("run") / pl.col("log_step").diff().over("run")
            ),
        )
        return top.join(
            usable.select("run", "step", "step_before", "slope"),
            on=["run", "step"],
            how="left",
            maintain_order="left",
        )

    @cached_property
    def distinct(self) -> pl.DataFrame:
        """The trajectories without repeated and suspect checkpoints: nothing was measured at these that is a step's own."""
        return self.trajectories.filter(~pl.col("repeated") & ~pl.col("suspect"))

    @cached_property
    def followed(self) -> list[str]:
        """The runs that were measured at two distinct steps at least: of the others no change is known."""
        return self.distinct.group_by("run", maintain_order=True).len().filter(pl.col("len") > 1)["run"].to_list()

    @property
    def sizes(self) -> pl.DataFrame:
        """A row per size: model, size, n_params, n_layers, n_heads, start_step, final_step, n_seeds."""
        return self.runs.group_by("model", maintain_order=True).agg(
            pl.first("size", "n_params", "n_layers", "n_heads", "start_step", "final_step"), n_seeds=pl.len()
        )

    @property
    def size_step(self) -> tuple[float, str]:
        """By how many decades of n_params a change with size is told, and in what words: ten times, or the range
        that was measured where it is less than that."""
        known = self.sizes.filter(pl.col("n_params") > 0)
        span = float(np.log10(known["n_params"].to_numpy()[[0, -1]].astype(float)) @ [-1, 1]) if known.height else 0.0
        if span >= 1:
            return 1.0, "having ten times the parameters"
        ends = known["size"].to_list()
        return span, f"going from {ends[0]} to {ends[-1]}" if ends else "more parameters"


_PLACE = ("layer", "head", "Layer", "Head", "prop_layer")


def largest_heads(frame: pl.DataFrame) -> pl.DataFrame:
    """The row of the largest head of each run and step; where several heads share the largest value, it has no place."""
    best = frame.filter(pl.col("value") == pl.col("value").max().over("run", "step"))
    alone = pl.len().over("run", "step") == 1
    placed = best.with_columns(pl.when(alone).then(pl.col(name)).alias(name) for name in _PLACE)
    return placed.unique(["run", "step"], keep="first", maintain_order=True)


def read_heads(table: pl.DataFrame, score: str) -> Heads:
    """The heads table of a run directory, made ready for `score`.

    Raises:
        StatisticsError: `score` or a column is not there, rows stand twice, or no row has a finite score.
    """
    _check_columns(table, score)
    table = _only(table, pl.all_horizontal(pl.col("run", "step", "layer", "head").is_not_null()))
    require_one_stack(table)
    table = _as_today(table).with_columns(pl.col(column.name).cast(column.dtype) for column in HEADS_COLUMNS)
    table, factors = _distinct_sizes(_one_geometry_per_model(table))
    table = table.with_columns(value=pl.col(score).cast(pl.Float64), numerator=_numerator(table, SCORES[score]))
    checkpoints = _checkpoints(table)
    measured = checkpoints.filter(pl.col("not_finite") < pl.col("there"))
    if not measured.height:
        raise StatisticsError(f"no row of the heads table has a finite {score}: there is nothing to analyse")
    finite = _only(table, pl.col("value").is_finite())
    runs = _runs(finite, measured)
    # A table may have millions of rows: only columns that are kept are put in order, and the others made from these.
    made = {
        "seed_name": pl.lit("seed") + pl.col("seed"),
        "step_modded": pl.col("step") + 1,
        "log_step": (pl.col("step") + 1).cast(pl.Float64).log10(),
        "Layer": pl.col("layer") + 1,
        "Head": pl.col("head") + 1,
        "prop_layer": (pl.col("layer") + 1) / pl.col("n_layers"),
    }
    columns = [*RUN_COLUMNS, "n_layers", "n_heads", "step", "step_modded", "log_step", "layer", "head"]
    columns += ["Layer", "Head", "prop_layer", "value", "numerator"]
    kept = finite.select(name for name in columns if name not in made)
    frame = _in_order(kept, runs, "step", "layer", "head").with_columns(**made).select(columns)
    of_grid = (table, runs, checkpoints)
    return Heads(SCORES[score], frame, runs, _missing(*of_grid), _duplicates(*of_grid), factors)


def _only(table: pl.DataFrame, condition: pl.Expr) -> pl.DataFrame:
    """The rows for which the condition holds. If it holds for all of them, nothing is copied: a table may have millions."""
    holds = table.select(condition).to_series()
    return table if holds.all(ignore_nulls=False) else table.filter(holds)


def _checkpoints(table: pl.DataFrame) -> pl.DataFrame:
    """A row per run and step: model, how many heads are `there`, and how many of their scores are no numbers.

    Raises:
        StatisticsError: a head of a step stands twice.
    """
    place = pl.col("layer").cast(pl.Int64) * 2**32 + pl.col("head")  # both have 32 bits: no two heads share a place
    rows = table.lazy().select("run", "step", "model", "value", place=place)
    found = rows.group_by("run", "step").agg(
        pl.first("model"),
        there=pl.len(),
        not_finite=(~pl.col("value").is_finite()).fill_null(True).sum(),
        distinct=pl.col("place").n_unique(),
    )
    checkpoints = found.collect()
    if (checkpoints["distinct"] < checkpoints["there"]).any():
        keys = ["run", "step", "layer", "head"]
        twice = table.filter(table.select(keys).is_duplicated())
        run, step, layer, head = twice.select(keys).row(0)
        raise StatisticsError(
            f"the heads table has {twice.height} rows that stand for a head more than once, the first is run {run!r} "
            f"step {step} layer {layer} head {head}: keep one row per run, step, layer and head"
        )
    return checkpoints.drop("distinct")


def _numerator(table: pl.DataFrame, score: Score) -> pl.Expr:
    there = score.numerator in table.columns
    return (pl.col(str(score.numerator)) if there else pl.lit(None)).cast(pl.Float64)


def _as_today(table: pl.DataFrame) -> pl.DataFrame:
    """The table with the columns that older releases and files of others lack."""
    return with_stack(with_tokens(table))


def _check_columns(table: pl.DataFrame, score: str) -> None:
    known = _as_today(table.clear()).columns
    absent = [column.name for column in HEADS_COLUMNS if column.name not in known]
    if absent:
        raise StatisticsError(
            f"the heads table lacks the columns {', '.join(absent)}: it was not made by `headway measure` "
            "or `headway import-heads`"
        )
    if score not in SCORES:
        raise StatisticsError(f"{score!r} is not a score; the scores are {', '.join(SCORES)}")
    if score not in table.columns:
        there = ", ".join(score_columns(table)) or "none"
        raise StatisticsError(f"the heads table has no score {score!r}; its scores are {there}")


def _one_geometry_per_model(table: pl.DataFrame) -> pl.DataFrame:
    """A size has one n_params, n_layers and n_heads: the largest that its rows state."""
    return table.with_columns(pl.col("n_params", "n_layers", "n_heads").max().over("model"))


def _distinct_sizes(table: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Where two models bear the same size, the model's name stands for it, or the size with the levels of its axes.

    The axes whose levels are named are returned, too.
    """
    if not table.lazy().select("model", "size").unique().collect()["size"].is_duplicated().any():
        return table, ()
    shared = pl.col("model").n_unique().over("size") > 1
    axes = tuple(axis for axis in axes_of(table.columns) if table[axis_column(axis)].n_unique() > 1)
    levels = [pl.concat_str(pl.lit(f", {axis} "), pl.col(axis_column(axis)).fill_null("unstated")) for axis in axes]
    own = pl.concat_str("size", *levels) if axes else pl.col("model")
    if axes and table.select(own.alias("own"), "model").unique()["own"].is_duplicated().any():
        own, axes = pl.col("model"), ()  # models that differ in more than their axes
    return table.with_columns(size=pl.when(shared).then(own).otherwise("size")), axes


def _runs(finite: pl.DataFrame, measured: pl.DataFrame) -> pl.DataFrame:
    """A row per run, from its rows with finite scores and its checkpoints that have any."""
    own = finite.group_by("run").agg(
        pl.first("model", "size", "seed"),
        seed_name=pl.lit("seed") + pl.first("seed"),
        n_params=pl.first("n_params"),
        n_layers=pl.first("n_layers"),
        n_heads=pl.first("n_heads"),
    )
    steps = measured.group_by("run").agg(
        n_steps=pl.len(), first_step=pl.col("step").min(), last_step=pl.col("step").max()
    )
    runs = own.join(steps, on="run").join(_end_steps(measured), on="model")
    runs = runs.with_columns(stops_early=pl.col("last_step") < pl.col("final_step"))
    seed_number = pl.col("seed").str.extract(r"^(\d+)$").cast(pl.Int64, strict=False)
    runs = runs.sort("n_params", "model", seed_number, "seed", "run", nulls_last=True)
    has_final = measured.select("run", final_step="step", has_final_step=True)
    return runs.join(has_final, on=["run", "final_step"], how="left", maintain_order="left").with_columns(
        pl.col("has_final_step").fill_null(False)
    )


def _end_steps(measured: pl.DataFrame) -> pl.DataFrame:
    """A size's start and final step: the first and the last one that at least half of its runs have.

    Where no step is shared by so many, of those that most of them share.
    """
    n_runs = measured.group_by("model").agg(n_runs=pl.col("run").n_unique())
    per_step = measured.group_by("model", "step").agg(n=pl.col("run").n_unique()).join(n_runs, on="model")
    shared = per_step.filter((pl.col("n") * 2 >= pl.col("n_runs")) | (pl.col("n") == pl.col("n").max().over("model")))
    return shared.group_by("model").agg(start_step=pl.col("step").min(), final_step=pl.col("step").max())


def of_runs(frame: pl.DataFrame, runs: pl.DataFrame, *then: str) -> pl.DataFrame:
    """The rows of `runs` in the order of these, then by the columns `then`; sizes and seeds are named as in `runs`."""
    named = runs.select("run", "size", "seed").with_row_index("_order")
    joined = frame.drop("size", "seed").join(named, on="run")
    return joined.sort("_order", *then, maintain_order=True).drop("_order")


def _in_order(frame: pl.DataFrame, runs: pl.DataFrame, *then: str) -> pl.DataFrame:
    """The rows of `runs` in the order of these, then by the columns `then`. Columns are copied once."""
    names = runs["run"]
    place = pl.col("run").replace_strict(names, pl.int_range(names.len(), dtype=pl.UInt32, eager=True), default=None)
    keys = frame.select(place.alias("_place"), *then)
    order = keys.select(pl.arg_sort_by("_place", *then, nulls_last=True)).to_series()
    return frame[order.head(keys.height - keys["_place"].null_count())]


def _missing(table: pl.DataFrame, runs: pl.DataFrame, checkpoints: pl.DataFrame) -> pl.DataFrame:
    """What a full grid would hold and this one does not: model, size, seed, run, step, what, n_heads."""
    seeds = runs.select("seed").unique(maintain_order=True)
    sizes = runs.select("model", "size").unique(maintain_order=True)
    whole_runs = (
        sizes.join(seeds, how="cross")
        .join(runs, on=["model", "seed"], how="anti")
        .with_columns(run=pl.lit(None, pl.String), step=pl.lit(None, pl.Int64), what=pl.lit("run"), n_heads=None)
    )
    present = checkpoints.drop("model")
    steps = checkpoints.select("model", "step").unique()
    # A layer that no run of a model has anywhere has no heads, as in a hybrid with state-space layers.
    layers = table.group_by("model").agg(layers_there=pl.col("layer").n_unique())
    grid = (
        runs.join(layers, on="model", maintain_order="left")
        .select("model", "size", "seed", "run", full=pl.col("layers_there") * pl.col("n_heads"))
        .join(steps, on="model", maintain_order="left")
    )
    grid = grid.join(present, on=["run", "step"], how="left", maintain_order="left").sort("model", "seed", "step")
    absent_heads = pl.col("full") - pl.col("there")
    columns = ["model", "size", "seed", "run", "step", "what", "n_heads"]
    parts = [
        whole_runs,
        grid.filter(pl.col("there").is_null()).with_columns(what=pl.lit("step"), n_heads=pl.col("full")),
        grid.filter(absent_heads > 0).with_columns(what=pl.lit("heads"), n_heads=absent_heads),
        grid.filter(pl.col("not_finite") > 0).with_columns(what=pl.lit("not a number"), n_heads=pl.col("not_finite")),
    ]
    return pl.concat([part.select(columns).cast({"n_heads": pl.Int64}) for part in parts])


def _duplicates(table: pl.DataFrame, runs: pl.DataFrame, checkpoints: pl.DataFrame) -> pl.DataFrame:
    """Steps in which every score of every head equals an earlier step's, and whether the equal steps are neighbours."""
    scores = score_columns(table)
    table = table.select("run", "step", "layer", "head", *scores)
    without = checkpoints.filter(pl.col("not_finite") == pl.col("there"))
    if without.height:
        table = table.join(without, on=["run", "step"], how="anti")
    rows: list[tuple[str, int, int, bool]] = []
    for (run,), of_run in _in_order(table, runs, "step", "layer", "head").group_by("run", maintain_order=True):
        numbers = of_run.select("layer", "head", *scores).cast(pl.Float64).to_numpy()
        steps, starts = np.unique(of_run["step"].to_numpy(), return_index=True)
        alike: dict[bytes, list[int]] = {}
        for place, heads in enumerate(np.split(numbers, starts[1:])):
            alike.setdefault(np.ascontiguousarray(heads).tobytes(), []).append(place)
        for places in alike.values():
            neighbours = places[-1] - places[0] == len(places) - 1
            rows += [(str(run), int(steps[b]), int(steps[a]), neighbours) for a, b in itertools.pairwise(places)]
    schema = {"run": pl.String, "step": pl.Int64, "same_as": pl.Int64, "neighbours": pl.Boolean}
    found = pl.DataFrame(rows, schema=schema, orient="row").sort("step")
    return runs.select(RUN_COLUMNS).join(found, on="run", maintain_order="left_right")


def _duplicate_marks(duplicates: pl.DataFrame) -> pl.DataFrame:
    """`repeated`: nothing changed since the step before. `suspect`: equals a later step that is not its neighbour."""
    repeated = duplicates.filter("neighbours").select("run", "step", repeated=True)
    suspect = duplicates.filter(~pl.col("neighbours")).select("run", step="same_as", suspect=True)
    return repeated.join(suspect, on=["run", "step"], how="full", coalesce=True)

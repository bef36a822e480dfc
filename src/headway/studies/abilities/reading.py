"""Read the abilities of a run directory: those that were measured, and those that were imported."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from headway.errors import RunDirectoryError
from headway.known_abilities import ABILITIES
from headway.store.directory import RunDirectory
from headway.store.partitions import columns_of
from headway.tables import IMPORTED_ABILITIES, MEASURED_ABILITIES, MODEL_COLUMNS

TABLES = frozenset({MEASURED_ABILITIES, IMPORTED_ABILITIES, "heads"})
_RUN = ["run", "size", "seed"]
_KEY = ["run", "step", "ability"]
_COLUMNS = [*_RUN, "step", "ability", "value", "std_error", "higher_is_better"]
_OLD = tuple(column.name for column in MODEL_COLUMNS)


def applies(rundir: RunDirectory) -> bool:
    """Whether there are abilities: measured, imported, or in a heads table from before there was a table of abilities."""
    if {MEASURED_ABILITIES, IMPORTED_ABILITIES} & set(rundir.tables()):
        return True
    parts = rundir.partitions("heads")
    return bool(parts) and bool(set(columns_of(parts[0])) & set(_OLD))


def read_abilities(rundir: RunDirectory) -> pl.DataFrame:
    """One row per checkpoint and ability: run, size, seed, step, ability, value, std_error, higher_is_better.

    Raises:
        RunDirectoryError: there are none, or one ability was both measured and imported.
    """
    there = rundir.tables()
    found = {name: rundir.read(name) for name in (MEASURED_ABILITIES, IMPORTED_ABILITIES) if name in there}
    _require_apart([set(table["ability"]) for table in found.values()])
    heads = rundir.read("heads") if "heads" in there else pl.DataFrame()
    known = {name for table in found.values() for name in table["ability"].unique()}
    old = [name for name in _OLD if name in heads.columns and name not in known]
    if not old and not found:
        return rundir.read(MEASURED_ABILITIES)  # raises the error that says what to do
    parts = [table.select(_COLUMNS) for table in found.values()]
    if old:
        parts.append(_stated(heads, old))
    every = pl.concat([part.cast({"step": pl.Int64, "value": pl.Float64}) for part in parts])
    return every.unique(_KEY, keep="first", maintain_order=True)


def _require_apart(names: Sequence[set[str]]) -> None:
    if len(names) > 1 and (both := sorted(set.intersection(*names))):
        raise RunDirectoryError(
            f"the ability {both[0]!r} was both measured and imported, so its numbers would mix. Delete the folder "
            f"{IMPORTED_ABILITIES}, and import again without it"
        )


def _stated(heads: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The abilities that a heads table states of its checkpoints, on the rows of all heads."""
    once = heads.unique(["run", "step"], keep="first", maintain_order=True).select(*_RUN, "step", *names)
    long = once.unpivot(on=names, index=[*_RUN, "step"], variable_name="ability", value_name="value")
    better = {name: ABILITIES[name].higher_is_better for name in names}
    return long.with_columns(
        std_error=pl.lit(None, pl.Float64),
        higher_is_better=pl.col("ability").replace_strict(better, return_dtype=pl.Boolean),
    ).select(_COLUMNS)


def with_measured(heads: pl.DataFrame, rundir: RunDirectory, names: Sequence[str]) -> pl.DataFrame:
    """The heads table with a column for each measured ability of `names`, repeated on the rows of a checkpoint's heads."""
    if MEASURED_ABILITIES not in rundir.tables():
        return heads
    measured = rundir.read(MEASURED_ABILITIES).filter(pl.col("ability").is_in(list(names)))
    wide = measured.pivot("ability", index=["run", "step"], values="value")
    return heads.drop(set(wide.columns) - {"run", "step"}, strict=False).join(
        wide, on=["run", "step"], how="left", maintain_order="left"
    )

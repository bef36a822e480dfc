"""Put imported abilities into the run directory: those of several imports stand in one table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from headway.errors import RunDirectoryError, UsageError
from headway.published.files import Source
from headway.published.layout import GEOMETRY
from headway.store.directory import RunDirectory
from headway.store.manifest import TableRecord
from headway.sweep import store, stored_rows
from headway.tables import ABILITIES_COLUMNS, IMPORTED_ABILITIES, MEASURED_ABILITIES, schema, with_tokens
from headway.text import count, listed

TABLE = IMPORTED_ABILITIES
_KEY = ["run", "step", "ability"]


def have_sources(rundir: RunDirectory, names: Any) -> bool:
    """Whether the table `imported_abilities` is whole and holds what was imported from the files with these names."""
    if not isinstance(names, list) or not names:  # a manifest may have been edited
        return True
    record = rundir.manifest().tables.get(TABLE)
    return record is not None and set(map(str, names)) <= set(_imports(record)) and _is_whole(rundir, record)


def _imports(record: TableRecord) -> dict[str, dict[str, Any]]:
    """What the table was imported from, by the name of the file."""
    imported = record.identity.get("imported", [])
    return (
        {str(one.get("name")): one for one in imported if isinstance(one, dict)} if isinstance(imported, list) else {}
    )


def _is_whole(rundir: RunDirectory, record: TableRecord) -> bool:
    return stored_rows(TABLE, rundir, record.identity) is not None


def stored_rows_of(rundir: RunDirectory, sources: Sequence[Source], reading: Mapping[str, Any]) -> int | None:
    """The number of rows of the table `imported_abilities`; None unless it is whole and all of `sources` were read into it so."""
    record = rundir.manifest().tables.get(TABLE)
    if record is None:
        return None
    there = _imports(record)
    same = all(there.get(source.name) == {**source.identity(), **reading} for source in sources)
    return stored_rows(TABLE, rundir, record.identity) if same else None


def store_abilities(
    rows: pl.DataFrame,
    sources: Sequence[Source],
    reading: Mapping[str, Any],
    rundir: RunDirectory,
    *,
    geometry: pl.DataFrame | None = None,
    force: bool = False,
) -> int:
    """Add rows to the table `imported_abilities`. What was imported from other files stays.

    Args:
        rows: the columns `ABILITY_ROWS`.
        sources: the files that they come from. Rows that an earlier import made of files with these names are replaced.
        reading: the options that decide how files are read, suite among them.
        geometry: a table with model, n_params, n_layers and n_heads, such as `heads`; None if there is none.

    Returns:
        The number of rows that the table has.

    Raises:
        UsageError: two files state different values of one ability of a checkpoint, or an ability was measured there.
        RunDirectoryError: the table holds a file of such a name with other contents or other options, and `force` is not
            given.
    """
    if not sources:
        return 0
    _require_not_measured(rows, rundir)
    own = {source.name: {**source.identity(), **reading} for source in sources}
    before, rows_before = _before(rundir, own, force)
    types = schema(ABILITIES_COLUMNS)
    rows = rows.with_columns(suite=pl.lit(str(reading.get("suite", ""))))
    every = _with_sizes(pl.concat([rows_before, rows], how="diagonal"), geometry)
    every = _require_agreement(with_tokens(every).select(pl.col(name).cast(dtype) for name, dtype in types.items()))
    imported = sorted({**before, **own}.values(), key=lambda one: str(one["name"]))
    store(every, TABLE, rundir, identity={"imported": imported}, force=True)
    return every.height


def _require_not_measured(rows: pl.DataFrame, rundir: RunDirectory) -> None:
    """Check that no ability of `rows` was measured into this directory: two numbers of one name would mix.

    Raises:
        UsageError: one was.
    """
    if not rundir.partitions(MEASURED_ABILITIES):
        return
    measured = set(rundir.read(MEASURED_ABILITIES)["ability"])
    if both := [name for name in rows["ability"].unique(maintain_order=True) if name in measured]:
        raise UsageError(
            f"{rundir.path} holds the ability {both[0]!r} as measured by headway, so another one of that name cannot be "
            "imported. Give it another name with --columns, or choose another --out"
        )


def _before(
    rundir: RunDirectory, own: Mapping[str, Mapping[str, Any]], force: bool
) -> tuple[dict[str, dict[str, Any]], pl.DataFrame]:
    """What earlier imports of other files put into the table: files by name, and rows."""
    nothing: tuple[dict[str, dict[str, Any]], pl.DataFrame] = ({}, pl.DataFrame(schema=schema(ABILITIES_COLUMNS)))
    record = rundir.manifest().tables.get(TABLE)
    if record is None or not rundir.partitions(TABLE):
        return nothing
    there = _imports(record)
    changed = [name for name, one in own.items() if name in there and there[name] != one]
    if changed and not force:
        raise RunDirectoryError(
            f"{rundir.path} holds abilities from a file {changed[0]} with other contents, or read with other options. "
            "Choose another --out, rename the file, or replace what is there with --force"
        )
    if there and not _is_whole(rundir, record):
        lost = [name for name in there if name not in own]
        if lost:
            warnings.warn(
                f"the table {TABLE!r} of {rundir.path} is damaged or was not finished. Import these again: {listed(lost)}",
                stacklevel=4,
            )
        return nothing
    kept = {name: one for name, one in there.items() if name not in own}
    rows = rundir.read(TABLE) if kept else nothing[1]
    rows = rows.filter(pl.col("source").is_in(list(kept)))
    return kept, with_tokens(rows).select(pl.col(name).cast(dtype) for name, dtype in schema(ABILITIES_COLUMNS).items())


def heads_of(rundir: RunDirectory) -> pl.DataFrame | None:
    """The table `heads` of the run directory, if there is one."""
    return rundir.read("heads") if rundir.partitions("heads") else None


def _with_sizes(rows: pl.DataFrame, geometry: pl.DataFrame | None) -> pl.DataFrame:
    """The rows with the sizes that the table `heads` states for their models."""
    if geometry is None:
        return rows
    stated = geometry.group_by("model").agg(pl.max(*GEOMETRY)).rename({name: f"_{name}" for name in GEOMETRY})
    rows = rows.join(stated, on="model", how="left", maintain_order="left")
    return rows.with_columns(pl.coalesce(f"_{name}", name).alias(name) for name in GEOMETRY)


def _require_agreement(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per checkpoint and ability; equal values of several files are kept once.

    Raises:
        UsageError: two values differ.
    """
    spread = rows.group_by(_KEY).agg(low=pl.col("value").min(), high=pl.col("value").max())
    differing = spread.filter(pl.col("low") < pl.col("high")).sort(_KEY)
    if differing.height:
        run, step, ability = differing.select(_KEY).row(0)
        own = rows.filter((pl.col("run") == run) & (pl.col("step") == step) & (pl.col("ability") == ability))
        told = listed([f"{value!r} in {source}" for value, source in own.select("value", "source").rows()])
        raise UsageError(
            f"{count(differing.height, 'value of an ability disagrees', 'values of abilities disagree')}. The first is {ability} of {run} at step {step}: "
            f"{told}. Leave one of them out, or give one of them another name"
        )
    return rows.unique(_KEY, keep="first", maintain_order=True)

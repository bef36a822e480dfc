"""Several suites in one run directory: each has a manifest, tables and results of its own.

    DIR/                  the first suite, as in a directory of one suite
    DIR/suites/NAME/      each further one: a run directory like any other

So runs of one name in two suites never share a file, and a sweep of one suite knows nothing of the other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from headway.errors import RunDirectoryError
from headway.store.directory import RunDirectory, fingerprint
from headway.store.manifest import TableRecord

FOLDER = "suites"
# The suite of imported rows for which the user named none. They may be of any suite.
UNNAMED = "published"
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


def suites_of(rundir: RunDirectory) -> dict[str, RunDirectory]:
    """The run directory of each suite, by its name; the first suite is the first.

    A directory whose manifest names no suite counts as one suite, named after the directory.
    """
    own = _names(rundir)
    found = {next((name for name in own if name != UNNAMED), next(iter(own), rundir.path.name)): rundir}
    folder = rundir.path / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        part = RunDirectory(path)
        if path.is_dir() and part.manifest_path.exists():
            name = next(iter(_names(part)), path.name)
            # Two folders of one name are a copy that a user made. Neither may hide the other.
            found[name if name not in found else path.name] = part
    return found


def of_suite(rundir: RunDirectory, suite: str, tables: Collection[str]) -> RunDirectory:
    """The run directory for `tables` of a suite: `rundir` itself if it holds this suite or none, else one below it.

    Imported rows without a suite's name are taken to be of the suite that lacks the table, if there is only one.
    """
    home, own = _home(rundir), _names(rundir)
    if not own or suite in own:
        return rundir
    if home is not None:  # a further suite's own folder holds no other suite
        return of_suite(home, suite, tables)
    path = rundir.path / FOLDER / _folder_name(suite)
    alone = not (rundir.path / FOLDER).is_dir()
    if alone and UNNAMED in (suite, *own) and len({suite, *own}) == 2 and not {*tables} & {*rundir.tables()}:
        return rundir
    return RunDirectory(path)


def others_than(rundir: RunDirectory) -> dict[str, RunDirectory]:
    """The run directories of the other suites beside that of one suite, by name."""
    every = suites_of(_home(rundir) or rundir)
    return {name: one for name, one in every.items() if one.path != rundir.path}


class SeveralSuites(RunDirectory):
    """The tables of several suites together, to be read only. Rows are told apart by `suite` and `run`, never by `run` alone."""

    def __init__(self, rundir: RunDirectory) -> None:
        super().__init__(rundir.path)
        self.suites = suites_of(rundir)

    def tables(self) -> list[str]:
        return sorted({name for one in self.suites.values() for name in one.tables()})

    def having(self, table: str) -> dict[str, RunDirectory]:
        """The suites that have `table`."""
        return {name: one for name, one in self.suites.items() if one.partitions(table)}

    def read(self, table: str) -> pl.DataFrame:
        """All rows of `table`, with the name of their suite in the column `suite`.

        Raises:
            RunDirectoryError: no suite has the table.
            StorageError: a partition is damaged.
        """
        having = self.having(table)
        if not having:
            raise RunDirectoryError(f"no suite of {self.path} has the table {table!r}. Measure or import one first")
        parts = [one.read(table).with_columns(suite=pl.lit(name)) for name, one in having.items()]
        return pl.concat(parts, how="diagonal_relaxed")

    def contents(self, table: str) -> str:
        return fingerprint({name: one.contents(table) for name, one in self.suites.items()})


def _home(rundir: RunDirectory) -> RunDirectory | None:
    """The directory of the first suite, if `rundir` is that of a further one."""
    if rundir.path.parent.name != FOLDER:
        return None
    home = RunDirectory(rundir.path.parent.parent)
    return home if home.manifest_path.exists() else None


def _names(rundir: RunDirectory) -> list[str]:
    """The names of suites in a manifest, in the order in which their tables were begun."""
    records = rundir.manifest().tables.values()
    return list(dict.fromkeys(name for record in records for name in _of_record(record)))


def _of_record(record: TableRecord) -> list[str]:
    imported: Any = record.identity.get("imported")
    of_files = [one.get("suite") for one in imported if isinstance(one, Mapping)] if isinstance(imported, list) else []
    return [str(name) for name in (record.suite, *of_files) if name]


def _folder_name(suite: str) -> str:
    """A file name for a suite. Names that differ never have the same one."""
    plain = _UNSAFE.sub("-", suite).strip("-_+.") or "suite"
    return plain if plain == suite else f"{plain}-{fingerprint(suite)[:8]}"

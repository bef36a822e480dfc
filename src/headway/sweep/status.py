"""How far a sweep is, seen from its files alone: another terminal, another machine, the day after."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from headway.errors import RunDirectoryError, StorageError
from headway.rundir import RunDirectory, read_part
from headway.sweep.job import fingerprint

RECENT = 600.0  # seconds over which the rate is taken


@dataclass(frozen=True)
class Status:
    """One table of a run directory. `rate` is in checkpoints per second over the last ten minutes, 0 if idle."""

    table: str
    planned: int
    done: int
    failed: dict[str, dict[str, Any]]
    rate: float
    damaged: dict[str, str]

    @property
    def left(self) -> int:
        return self.planned - self.done - len(self.failed)


def status(directory: RunDirectory, verify: bool = False) -> list[Status]:
    """How far each table of `directory` is.

    Args:
        verify: read every part, and find those that are truncated, damaged or made from something else.

    Raises:
        RunDirectoryError: it is not a run directory.
    """
    manifest = directory.require().manifest()
    if "tables" not in manifest:
        raise RunDirectoryError(f"{directory.manifest_path} lists no tables: it was not written by headway")
    return [_table_status(directory, table, entry, verify) for table, entry in manifest["tables"].items()]


def _table_status(directory: RunDirectory, table: str, entry: dict[str, Any], verify: bool) -> Status:
    planned = set(entry["checkpoints"])
    parts = [part for part in directory.parts(table) if part.name.removesuffix(".parquet") in planned]
    made_from = fingerprint(entry["identity"])
    damaged = {part.name: words for part in parts if (words := _damage(part, made_from))} if verify else {}
    ages = sorted(time.time() - part.stat().st_mtime for part in parts)
    recent = [age for age in ages if age < RECENT]
    return Status(
        table=table,
        planned=len(planned),
        done=len(parts) - len(damaged),
        failed=directory.failures(table),
        rate=len(recent) / max(recent) if recent and max(recent) > 0 else 0.0,
        damaged=damaged,
    )


def _damage(part: Any, made_from: str) -> str:
    try:
        _, metadata = read_part(part)
    except StorageError as error:
        return str(error)
    return "" if metadata.get("job") == made_from else "made from something else"

"""How far a sweep is, read from its files alone, so that any terminal or machine can ask."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from headway.errors import RunDirectoryError, StorageError
from headway.store.directory import RunDirectory, fingerprint
from headway.store.files import read_each
from headway.store.manifest import TableRecord
from headway.store.partitions import read_partition_metadata, read_whole
from headway.store.suite_folders import suites_of
from headway.sweep.versions import release

RECENT = 600.0  # the rate is that of the last so many seconds


@dataclass(frozen=True, repr=False)
class Status:
    """One table of a suite in a run directory.

    Attributes:
        suite: the suite's name.
        planned, done: how many checkpoints were asked for, and how many of them have a partition of this job.
        failed: the failure of each of the others, by key.
        rate: checkpoints per second over the last ten minutes; 0 if the sweep is idle or the clock has jumped.
        damaged: why each file that does not count is ignored: damaged, of another job, or misnamed.
        releases: how many partitions each release of headway, torch and transformers computed.
    """

    table: str
    planned: int
    done: int
    failed: dict[str, dict[str, Any]]
    rate: float
    damaged: dict[str, str]
    releases: dict[str, int]
    suite: str = ""

    def __repr__(self) -> str:
        return f"<Status {self.table}: {self.done} of {self.planned} done, {len(self.failed)} failed, {self.left} left>"

    @property
    def left(self) -> int:
        return self.planned - self.done - len(self.failed)


def status(directory: RunDirectory, verify: bool = False) -> list[Status]:
    """How far each table of `directory` is, suite by suite.

    Args:
        verify: read every partition wholly instead of its metadata, which finds damage anywhere in the file.

    Raises:
        RunDirectoryError: it is not a run directory.
    """
    manifest = directory.require().manifest()
    if not manifest.tables:
        raise RunDirectoryError(f"{directory.manifest_path} lists no tables: it was not written by headway")
    return [
        _table_status(suite, of_suite, table, record, verify)
        for suite, of_suite in suites_of(directory).items()
        for table, record in of_suite.manifest().tables.items()
    ]


def _table_status(suite: str, directory: RunDirectory, table: str, record: TableRecord, verify: bool) -> Status:
    planned = set(record.checkpoints)
    look = partial(_look, made_from=fingerprint(record.identity), verify=verify)
    parts = read_each(look, directory.partitions(table))
    parts += [_Part(path.name, "its name is not RUN@STEP.parquet: it is ignored") for path in directory.strays(table)]
    whole = [part for part in parts if not part.damage]
    return Status(
        table=table,
        planned=len(planned),
        done=sum(part.name.removesuffix(".parquet") in planned for part in whole),
        failed=directory.failures(table),
        rate=_rate(whole, time.time()),
        damaged={part.name: part.damage for part in parts if part.damage},
        releases=Counter(part.release for part in whole if part.release),
        suite=suite,
    )


class _Part(NamedTuple):
    """What a partition says. `seconds` is its computing time, by a clock that never jumps; 0 for an imported one."""

    name: str
    damage: str = ""
    written: float = 0.0
    seconds: float = 0.0
    release: str = ""


def _look(path: Path, made_from: str, verify: bool) -> _Part:
    try:
        metadata = read_whole(path).metadata if verify else read_partition_metadata(path)
        written = path.stat().st_mtime
    except (StorageError, OSError) as error:
        return _Part(path.name, damage=str(error))
    if metadata.get("job") != made_from:
        return _Part(path.name, damage="computed with other settings than manifest.json names")
    return _Part(path.name, "", written, float(metadata.get("seconds", 0)), _release(metadata))


def _release(metadata: Mapping[str, str]) -> str:
    return release(json.loads(metadata["versions"])) if "versions" in metadata else ""


def _rate(parts: Collection[_Part], now: float) -> float:
    """Partitions per second since work on the first recent one began.

    If a clock has jumped, partitions are dated in the future or long ago, and do not count.
    """
    recent = [part for part in parts if 0 <= now - part.written < RECENT and part.seconds > 0]
    return len(recent) / max(now - part.written + part.seconds for part in recent) if recent else 0.0

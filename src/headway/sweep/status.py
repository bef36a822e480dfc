"""How far a sweep is, seen from its files alone: another terminal, another machine, the day after."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from headway.errors import RunDirectoryError, StorageError
from headway.store.directory import RunDirectory, fingerprint
from headway.store.manifest import TableRecord
from headway.store.partitions import read_partition, read_partition_metadata
from headway.sweep.versions import release

RECENT = 600.0  # seconds over which the rate is taken
_AT_ONCE = 8  # parts that are looked at


@dataclass(frozen=True)
class Status:
    """One table of a run directory.

    Attributes:
        planned, done: checkpoints asked for, and those that have a part of this very job.
        failed: the others that failed, by key.
        rate: checkpoints per second over the last ten minutes; 0 if idle, or where clocks do not tell.
        damaged: files that do not count, and why: damaged, of another job, or not named as partitions are.
        releases: how many parts each release of headway, torch and transformers computed; several are said.
    """

    table: str
    planned: int
    done: int
    failed: dict[str, dict[str, Any]]
    rate: float
    damaged: dict[str, str]
    releases: dict[str, int]

    @property
    def left(self) -> int:
        return self.planned - self.done - len(self.failed)


def status(directory: RunDirectory, verify: bool = False) -> list[Status]:
    """How far each table of `directory` is.

    Args:
        verify: read every part wholly, rather than what it says of itself, and find those that are damaged anywhere.

    Raises:
        RunDirectoryError: it is not a run directory.
    """
    manifest = directory.require().manifest()
    if not manifest.tables:
        raise RunDirectoryError(f"{directory.manifest_path} lists no tables: it was not written by headway")
    return [_table_status(directory, table, record, verify) for table, record in manifest.tables.items()]


def _table_status(directory: RunDirectory, table: str, record: TableRecord, verify: bool) -> Status:
    planned = set(record.checkpoints)
    look = partial(_look, made_from=fingerprint(record.identity), verify=verify)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        parts = list(threads.map(look, directory.partitions(table)))
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
    )


class _Part(NamedTuple):
    """What a part tells. `seconds` is how long it took, by a clock that never jumps; 0 where it was not computed."""

    name: str
    damage: str = ""
    written: float = 0.0
    seconds: float = 0.0
    release: str = ""


def _look(path: Path, made_from: str, verify: bool) -> _Part:
    try:
        metadata = read_partition(path)[1] if verify else read_partition_metadata(path)
        written = path.stat().st_mtime
    except (StorageError, OSError) as error:
        return _Part(path.name, damage=str(error))
    if metadata.get("job") != made_from:
        return _Part(path.name, damage="computed with other settings than manifest.json names")
    return _Part(path.name, "", written, float(metadata.get("seconds", 0)), _release(metadata))


def _release(metadata: Mapping[str, str]) -> str:
    return release(json.loads(metadata["versions"])) if "versions" in metadata else ""


def _rate(parts: Collection[_Part], now: float) -> float:
    """Parts per second since work on the first of the recent ones began. Where clocks jumped, parts are dated in the
    future or long ago: neither count. That a part took its seconds bounds the rate, whatever its date.
    """
    recent = [part for part in parts if 0 <= now - part.written < RECENT and part.seconds > 0]
    return len(recent) / max(now - part.written + part.seconds for part in recent) if recent else 0.0

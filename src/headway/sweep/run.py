"""Plan a grid of checkpoints, run a job over it, keep what is done, record what failed."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from headway import __version__
from headway.errors import HeadwayError, RunDirectoryError, SelectionError, StorageError
from headway.progress import Progress, Silent
from headway.store.directory import RunDirectory, fingerprint, safe_name
from headway.store.manifest import TableRecord
from headway.store.partitions import SUFFIX
from headway.suites import Checkpoint, revisions
from headway.sweep.executors import Executor, InProcess
from headway.sweep.job import Job, Outcome, Work
from headway.sweep.reuse import Reuse
from headway.sweep.settings import differing_settings
from headway.sweep.sources import moved, settle, sources
from headway.sweep.versions import versions
from headway.text import count, plain


@dataclass(frozen=True)
class Summary:
    """What a sweep came to: checkpoints of the table done now, kept from before, failed."""

    table: str
    done: int
    kept: int
    failed: list[Outcome] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{count(self.done, 'checkpoint')} done, {self.kept} kept from before, {len(self.failed)} failed"


def run(
    job: Job,
    checkpoints: Sequence[Checkpoint],
    directory: RunDirectory,
    *,
    asked: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Applies `job` to every checkpoint and stores one part for each; parts that are whole and were computed from
    the same things are kept. A checkpoint that fails is recorded, and the others go on.

    Args:
        asked: what the manifest shall say beside the job's identity (selection, device, ...).
        force: compute into a directory whose parts were made from something else, or with other versions; those are
            replaced.

    Raises:
        RunDirectoryError: `directory` holds this table made from something else; or another command took the table for
            something else meanwhile, with `force`.
        StorageError: it cannot be written to.
        SelectionError: there are no checkpoints.
    """
    if not checkpoints:
        raise SelectionError("no checkpoint is selected: widen --where, or leave it out")
    for checkpoint in checkpoints:
        safe_name(checkpoint.run, "run name")
    progress = progress or Silent()
    identity = _identity(job, checkpoints)
    by_key = {checkpoint.key: checkpoint for checkpoint in checkpoints}
    if not force:  # before the Hub is asked anything
        _refuse_if_claimed(directory, job.table, identity)
        directory.require_own(job.table, directory.jobs(job.table), fingerprint(identity))
    made_from, stamped = fingerprint(identity), revisions(checkpoints, job.needs)
    given, lie_in = getattr(job, "given", {}), sources(checkpoints)
    reuse = Reuse(directory, job.table, made_from, job.needs, by_key, stamped, given, force)
    if elsewhere := moved(directory, job.table, lie_in):
        settle(directory, job.table, elsewhere, lie_in, reuse.kept(), force)
    record = {"asked": dict(asked or {}), "sources": lie_in, "commits": stamped.commits}
    claim(job.table, identity, list(by_key), directory, record, force=force)
    kept = reuse.kept()
    left = [checkpoint for key, checkpoint in by_key.items() if key not in kept]
    failed: list[Outcome] = []
    progress.start(f"{job.table} of {checkpoints[0].suite}", len(by_key), len(kept))
    work = Work(job, str(directory.path), made_from, stamped.known)
    for outcome in (executor or InProcess()).run(work, left):
        if outcome.failed:
            failed.append(outcome)
            directory.add_failure(_failure(job.table, made_from, outcome))
        progress.advance(1, f"{len(failed)} failed" if failed else outcome.checkpoint.key)
    _require_written(directory, job.table, by_key.keys() - {outcome.checkpoint.key for outcome in failed})
    for sentence in differing_settings(directory, job.table):
        warnings.warn(sentence, stacklevel=3)
    return Summary(job.table, done=len(left) - len(failed), kept=len(kept), failed=failed)


def _require_written(directory: RunDirectory, table: str, keys: Collection[str]) -> None:
    """A sweep must not end well when what it wrote is no longer there.

    Raises:
        StorageError: the part of one of `keys` is absent.
    """
    there = {path.name.removesuffix(SUFFIX) for path in directory.partitions(table)}
    if absent := sorted(key for key in keys if key not in there):
        raise StorageError(
            f"{len(absent)} of {count(len(keys), 'partition')} that this command wrote to {directory.path / table} are "
            f"no longer there, such as {absent[0]}: something deleted them meanwhile, or workers do not share this "
            "place. Run the same command again to compute them"
        )


def begun(job: Job, checkpoints: Sequence[Checkpoint], directory: RunDirectory) -> bool:
    """Whether `directory` holds parts that this very job made of checkpoints of their suite."""
    return directory.claimed(job.table) == fingerprint(_identity(job, checkpoints)) and bool(
        directory.partitions(job.table)
    )


def _identity(job: Job, checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    return {"suite": checkpoints[0].suite, **job.identity()}


def store(
    frame: pl.DataFrame, table: str, directory: RunDirectory, *, identity: dict[str, Any], force: bool = False
) -> None:
    """Enters a ready table that no job made, such as a published one: one part a checkpoint. Whole parts of the same
    table are left as they are.

    Args:
        frame: with the columns `run` and `step`.
        identity: what it was made from, for the manifest.

    Raises:
        RunDirectoryError: `directory` holds this table made from something else, and `force` is not given.
        StorageError: it cannot be written to.
    """
    parts = {(str(run), int(step)): part for (run, step), part in frame.group_by("run", "step", maintain_order=True)}
    keys = [f"{safe_name(run, 'run name')}@{step}" for run, step in parts]
    made_from = fingerprint(identity)
    if not force:
        directory.require_own(table, directory.jobs(table), made_from)
    claim(table, identity, keys, directory, {}, force=force)
    for (run, step), part in parts.items():
        directory.write_partition(table, run, step, part, {"job": made_from})


def stored_rows(table: str, directory: RunDirectory, identity: dict[str, Any]) -> int | None:
    """How many rows `store` wrote of a table with this identity, if all of its parts are there and whole."""
    if directory.claimed(table) != fingerprint(identity):
        return None
    planned = set(directory.manifest().tables[table].checkpoints)
    if planned != {path.name.removesuffix(SUFFIX) for path in directory.partitions(table)}:
        return None
    with suppress(HeadwayError):
        return directory.read(table).height
    return None


def claim(
    table: str,
    identity: dict[str, Any],
    keys: Sequence[str],
    directory: RunDirectory,
    record: Mapping[str, Any],
    *,
    force: bool,
) -> None:
    """Enters what `table` is made from, and for which checkpoints, into the manifest; or finds it there already. What
    commands that were killed left half-written is removed.

    Args:
        record: what else repeating it takes: `asked`, and by run and by key the `sources` and `commits`, to which those
            of earlier commands are added.

    Raises:
        RunDirectoryError: the table there was made from something else, and `force` is not given.
    """
    identity = json.loads(json.dumps(identity))
    with directory.changing_manifest() as manifest:
        if force:
            directory.drop_foreign_partitions(table, fingerprint(identity))  # kept, they would mix with the new ones
        else:
            _refuse_if_claimed(directory, table, identity)  # another command may have come first
        before = manifest.tables.get(table)
        if before is None or before.identity != identity:
            before = TableRecord(identity, [], begun=now())
        manifest.tables[table] = TableRecord(
            identity,
            checkpoints=sorted({*keys, *before.checkpoints}),
            asked=dict(record.get("asked", {})),
            sources={**before.sources, **record.get("sources", {})},
            commits={**before.commits, **record.get("commits", {})},
            begun=before.begun,
            continued=now(),
            versions=_with_those_of_now(before.versions),
        )
        manifest.headway = __version__
    directory.remove_abandoned()


def _with_those_of_now(known: list[dict[str, str]]) -> list[dict[str, str]]:
    """Every set of versions that the table was made with."""
    return known if versions() in known else [*known, versions()]


def _refuse_if_claimed(directory: RunDirectory, table: str, identity: dict[str, Any]) -> None:
    """Says in which settings the table that the manifest names differs from `identity`.

    Raises:
        RunDirectoryError: it differs, and has parts.
    """
    record = directory.manifest().tables.get(table)
    if record is None or not directory.partitions(table):  # a table without partitions may be begun anew
        return
    before = record.identity
    identity = json.loads(json.dumps(identity))
    differing = [key for key in {**before, **identity} if before.get(key) != identity.get(key)]
    if differing:
        changes = "; ".join(
            f"{key}: {_short(before.get(key))} there, {_short(identity.get(key))} now" for key in differing
        )
        raise RunDirectoryError(
            f"{directory.path} holds {table!r} computed with other settings ({changes}). "
            "Choose another --out, or replace what is there with --force"
        )


def _short(value: Any) -> str:
    words = plain(value)
    return words if len(words) <= 80 else words[:79] + "…"


def _failure(table: str, made_from: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "table": table,
        "job": made_from,
        "checkpoint": outcome.checkpoint.key,
        "revision": outcome.checkpoint.revision,
        "kind": outcome.kind,
        "error": outcome.error,
        "when": now(),
        **({"trace": outcome.trace} if outcome.trace else {}),
    }


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")

"""Running a job over a grid of checkpoints: finished partitions are reused, failures are recorded."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import polars as pl

from headway import __version__
from headway.errors import HeadwayError, RunDirectoryError, SelectionError, StorageError
from headway.progress import Progress, Silent
from headway.store.directory import RunDirectory, fingerprint, safe_name
from headway.store.manifest import TableRecord
from headway.store.partitions import SUFFIX
from headway.store.suite_folders import of_suite
from headway.suites import Checkpoint, Revisions, revisions
from headway.sweep.comparable import require_comparable
from headway.sweep.executors import Executor, InProcess
from headway.sweep.job import Job, Outcome, Task, Work
from headway.sweep.reuse import Reuse
from headway.sweep.settings import differing_settings, settings_used
from headway.sweep.sources import moved, settle, sources
from headway.sweep.versions import versions
from headway.text import count, listed, plain


@dataclass(frozen=True)
class Summary:
    """How a sweep ended: how many checkpoints were computed, reused, and failed.

    `table` is the first one if the sweep made several. A checkpoint is reused if all its tables were there.
    """

    table: str
    done: int
    reused: int
    failed: list[Outcome] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{count(self.done, 'checkpoint')} computed, {self.reused} reused, {len(self.failed)} failed"


def run(
    job: Job | Sequence[Job],
    checkpoints: Sequence[Checkpoint],
    directory: RunDirectory,
    *,
    asked: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Apply `job` to every checkpoint, and store one partition for each.

    Partitions that are whole and were computed from the same inputs are reused. A checkpoint that fails is recorded, and
    the others continue. In a directory that holds another suite, the partitions lie in the folder of this suite.

    Args:
        job: one job, or several with a table each. A checkpoint is read once for those that must be
            computed, by one that `reads_logits` if there is any, or else by the last: its input must serve the others, too.
        asked: provenance for the manifest, which does not affect results: selection, device and the like.
        force: replace partitions that were computed with other settings or package versions.

    Raises:
        RunDirectoryError: `directory` holds one of the tables computed with other settings, of this suite or in a way that
            forbids to compare it with that of another one, or another command has replaced it with `force` meanwhile.
        StorageError: the directory cannot be written to.
        SelectionError: there are no checkpoints.
    """
    if not checkpoints:
        raise SelectionError("no checkpoint is selected: widen --where, or leave it out")
    for checkpoint in checkpoints:
        safe_name(checkpoint.run, "run name")
    jobs = list(job) if isinstance(job, Sequence) else [job]
    directory = of_suite(directory, checkpoints[0].suite, [one.table for one in jobs])
    progress = progress or Silent()
    by_key = {checkpoint.key: checkpoint for checkpoint in checkpoints}
    for one in jobs:  # before the Hub is asked anything
        if not force:
            require_free(one.table, directory, _identity(one, checkpoints))
        require_comparable(one.table, directory, _identity(one, checkpoints), force=force)
    stamped = revisions(checkpoints, frozenset().union(*(one.needs for one in jobs)))
    record = {"asked": dict(asked or {}), "sources": sources(checkpoints), "commits": stamped.commits}
    tasks = tuple(_task(one, by_key, directory, stamped, record, force) for one in jobs)
    left = [checkpoint for key, checkpoint in by_key.items() if any(key in task.left for task in tasks)]
    failed: list[Outcome] = []
    failed_keys: dict[str, set[str]] = {task.job.table: set() for task in tasks}
    tables = listed([task.job.table for task in tasks])
    progress.start(f"{tables} of {checkpoints[0].suite}", len(by_key), len(by_key) - len(left))
    for outcome in (executor or InProcess()).run(Work(tasks, str(directory.path), stamped.known), left):
        if outcome.failed:
            failed.append(outcome)
            for task, why in _failures(tasks, outcome):
                failed_keys[task.job.table].add(why.checkpoint.key)
                directory.add_failure(_failure(task, why))
        progress.advance(1, f"{len(failed)} failed" if failed else outcome.checkpoint.key)
    for task in tasks:
        table = task.job.table
        _require_written(directory, table, by_key.keys() - failed_keys[table])
        _record_used(directory, table, task.made_from)
    said = (sentence for table in failed_keys for sentence in differing_settings(directory, table))
    for sentence in dict.fromkeys(said):  # the tables were computed from the same files
        warnings.warn(sentence, stacklevel=3)
    reused = len(by_key) - len(left)
    return Summary(jobs[0].table, done=len(left) - len(failed), reused=reused, failed=failed)


def _task(
    job: Job,
    by_key: Mapping[str, Checkpoint],
    directory: RunDirectory,
    stamped: Revisions,
    record: Mapping[str, Any],
    force: bool,
) -> Task:
    """Claim the table of a job, and look which of its partitions are reused."""
    identity = _identity(job, list(by_key.values()))
    made_from, given = fingerprint(identity), getattr(job, "given", {})
    reuse = Reuse(directory, job.table, made_from, job.needs, by_key, stamped, given, force)
    if elsewhere := moved(directory, job.table, record["sources"]):
        settle(directory, job.table, elsewhere, record["sources"], reuse.partitions(), force)
    left = frozenset(by_key.keys() - reuse.partitions().keys())
    claim(job.table, identity, list(by_key), directory, record, force=force, computes=bool(left))
    return Task(job, made_from, left)


def _failures(tasks: Sequence[Task], outcome: Outcome) -> Iterator[tuple[Task, Outcome]]:
    """Each table that a checkpoint failed for, with the outcome that says why."""
    key = outcome.checkpoint.key
    for one in (outcome, *outcome.others):
        for task in tasks:
            if key in task.left and one.table in ("", task.job.table):
                yield task, one


def _record_used(directory: RunDirectory, table: str, made_from: str) -> None:
    """State in the manifest what the partitions say was used, unless another command has replaced the table."""
    used = settings_used(directory, table)
    if directory.manifest().tables[table].used == used:
        return
    with directory.changing_manifest() as manifest:
        if fingerprint(manifest.tables[table].identity) == made_from:
            manifest.tables[table] = replace(manifest.tables[table], used=used)


def _require_written(directory: RunDirectory, table: str, keys: Collection[str]) -> None:
    """Check that the partitions are still there, so that a sweep into a deleted directory does not end well.

    Raises:
        StorageError: the partition of one of `keys` is absent.
    """
    there = {path.name.removesuffix(SUFFIX) for path in directory.partitions(table)}
    if absent := sorted(key for key in keys if key not in there):
        raise StorageError(
            f"{len(absent)} of {count(len(keys), 'partition')} that this command wrote to {directory.path / table} are "
            f"no longer there, such as {absent[0]}: they were deleted meanwhile, or the workers do not share this "
            "folder. Run the same command again to compute them"
        )


def begun(job: Job, checkpoints: Sequence[Checkpoint], directory: RunDirectory) -> bool:
    """Whether `directory` holds partitions that the same job computed from this suite."""
    return directory.claimed(job.table) == fingerprint(_identity(job, checkpoints)) and bool(
        directory.partitions(job.table)
    )


def _identity(job: Job, checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    return {"suite": checkpoints[0].suite, **job.identity()}


def store(
    frame: pl.DataFrame,
    table: str,
    directory: RunDirectory,
    *,
    identity: dict[str, Any],
    asked: Mapping[str, Any] | None = None,
    force: bool = False,
) -> None:
    """Store a ready table that no job computed, such as a published one: a partition for each checkpoint.

    Args:
        frame: with the columns `run` and `step`.
        identity: what the table was made from, for the manifest.
        asked: provenance for the manifest, which does not decide numbers.

    Raises:
        RunDirectoryError: `directory` holds this table made from something else, and `force` is not given.
        StorageError: the directory cannot be written to.
    """
    parts = {(str(run), int(step)): part for (run, step), part in frame.group_by("run", "step", maintain_order=True)}
    keys = [f"{safe_name(run, 'run name')}@{step}" for run, step in parts]
    made_from = fingerprint(identity)
    if not force:
        require_free(table, directory, identity)
    claim(table, identity, keys, directory, {"asked": asked or {}}, force=force, computes=True)
    directory.write_partitions(table, parts, {"job": made_from})


def require_free(table: str, directory: RunDirectory, identity: dict[str, Any]) -> None:
    """Check that `directory` holds no table of this name that was made from something else.

    Raises:
        RunDirectoryError: it does.
    """
    _refuse_if_claimed(directory, table, identity)  # its error names the settings that differ
    directory.require_own(table, directory.jobs(table), fingerprint(identity))


def stored_rows(table: str, directory: RunDirectory, identity: dict[str, Any]) -> int | None:
    """The number of rows that `store` wrote for this identity; None unless all partitions are there and whole."""
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
    computes: bool,
) -> None:
    """Record in the manifest how `table` is made and for which checkpoints, and remove half-written files.

    Args:
        record: what else is needed to repeat it: `asked`, `sources` by run, `commits` by key. Sources and commits of
            earlier commands stay.
        computes: whether partitions will be written. A command that finds all of them leaves its time and its versions out of the
            manifest, so that a report stays as it is.

    Raises:
        RunDirectoryError: the table there was made from something else, and `force` is not given.
    """
    identity = json.loads(json.dumps(identity))
    with directory.changing_manifest() as manifest:
        if force:
            directory.drop_foreign_partitions(
                table, fingerprint(identity)
            )  # otherwise they would mix with the new ones
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
            continued=now() if computes else before.continued,
            versions=_with_those_of_now(before.versions) if computes else before.versions,
            used=before.used,
        )
        manifest.headway = __version__
    directory.remove_abandoned()


def _with_those_of_now(known: list[dict[str, str]]) -> list[dict[str, str]]:
    """Every set of versions that the table was made with, this process's included."""
    return known if versions() in known else [*known, versions()]


def _refuse_if_claimed(directory: RunDirectory, table: str, identity: dict[str, Any]) -> None:
    """Refuse to mix a table with one that was computed with other settings; the error names them.

    Raises:
        RunDirectoryError: the table in the manifest has another identity, and has partitions.
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


def _failure(task: Task, outcome: Outcome) -> dict[str, Any]:
    return {
        "table": task.job.table,
        "job": task.made_from,
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

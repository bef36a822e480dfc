"""Plan a grid of checkpoints, run a job over it, keep what is done, record what failed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import polars as pl

from headway import __version__
from headway.errors import CheckpointError, RunDirectoryError, SelectionError, StorageError
from headway.progress import Progress, Silent
from headway.rundir import RunDirectory, read_part, safe_name
from headway.suites import Checkpoint, files, stamp
from headway.sweep.executors import Executor, InProcess
from headway.sweep.job import Job, Outcome, Work, fingerprint


@dataclass(frozen=True)
class Summary:
    """What a sweep came to: checkpoints done now, kept from before, failed."""

    done: int
    kept: int
    failed: list[Outcome] = field(default_factory=list)


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
        force: compute into a directory whose parts were made from something else; those are replaced.

    Raises:
        RunDirectoryError: `directory` holds this table made from something else.
        StorageError: it cannot be written to.
        SelectionError: there are no checkpoints.
    """
    if not checkpoints:
        raise SelectionError("no checkpoint is selected: widen --where, or leave it out")
    for checkpoint in checkpoints:
        safe_name(checkpoint.run, "run name")
    progress = progress or Silent()
    identity = {"suite": checkpoints[0].suite, **job.identity()}
    keys = [checkpoint.key for checkpoint in checkpoints]
    claim(job.table, identity, keys, directory, asked=dict(asked or {}), force=force)
    made_from = fingerprint(identity)
    left = [checkpoint for checkpoint in checkpoints if not is_done(directory, job.table, checkpoint, made_from)]
    kept = len(checkpoints) - len(left)
    failed: list[Outcome] = []
    progress.start(f"{job.table} of {checkpoints[0].suite}", len(checkpoints), kept)
    work = Work(job, str(directory.path), made_from)
    for outcome in (executor or InProcess()).run(work, left):
        if outcome.failed:
            failed.append(outcome)
            directory.add_failure(_failure(job.table, outcome))
        progress.advance(1, f"{len(failed)} failed" if failed else outcome.checkpoint.key)
    return Summary(done=len(left) - len(failed), kept=kept, failed=failed)


def store(
    frame: pl.DataFrame, table: str, directory: RunDirectory, *, identity: dict[str, Any], force: bool = False
) -> None:
    """Enters a ready table that no job made, such as a published one: one part a checkpoint.

    Args:
        frame: with the columns `run` and `step`.
        identity: what it was made from, for the manifest.

    Raises:
        RunDirectoryError: `directory` holds this table made from something else, and `force` is not given.
        StorageError: it cannot be written to.
    """
    parts = {(str(run), int(step)): part for (run, step), part in frame.group_by("run", "step", maintain_order=True)}
    keys = [f"{safe_name(run, 'run name')}@{step}" for run, step in parts]
    claim(table, identity, keys, directory, asked={}, force=force)
    made_from = fingerprint(identity)
    for (run, step), part in parts.items():
        directory.write_part(table, run, step, part, {"job": made_from, "checkpoint": f"{run}@{step}"})


def claim(
    table: str, identity: dict[str, Any], keys: Sequence[str], directory: RunDirectory, *, asked: Any, force: bool
) -> None:
    """Enters what `table` is made from, and for which checkpoints, into the manifest; or finds it there already.

    Raises:
        RunDirectoryError: the table there was made from something else, and `force` is not given.
    """
    identity = json.loads(json.dumps(identity))
    with directory.changing_manifest() as manifest:
        tables = manifest.setdefault("tables", {})
        before = tables.get(table)
        if before is not None and not force:
            _refuse_if_different(directory, table, before["identity"], identity)
        if before is not None and before["identity"] != identity:
            directory.drop_parts(table)  # asked for by `force`; kept, they would mix with the new ones
            before = None
        tables[table] = {
            "identity": identity,
            "asked": asked,
            "checkpoints": sorted({*keys, *(before["checkpoints"] if before else ())}),
            "begun": before["begun"] if before else now(),
            "continued": now(),
            "versions": versions(),
        }
        manifest["headway"] = __version__


def _refuse_if_different(directory: RunDirectory, table: str, before: dict[str, Any], identity: dict[str, Any]) -> None:
    differing = [key for key in {**before, **identity} if before.get(key) != identity.get(key)]
    if differing:
        changes = "; ".join(
            f"{key}: {_short(before.get(key))} there, {_short(identity.get(key))} now" for key in differing
        )
        raise RunDirectoryError(
            f"{directory.path} holds {table!r} made from something else ({changes}). "
            "Choose another --out, or replace what is there with --force"
        )


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "name" in value:
        return f"{value['name']}" + (f" (sha256 {value['sha256'][:8]}…)" if "sha256" in value else "")
    words = str(value)
    return words if len(words) <= 80 else words[:79] + "…"


def is_done(directory: RunDirectory, table: str, checkpoint: Checkpoint, made_from: str) -> bool:
    """Whether the checkpoint's part is there, whole, and computed by this very job from these very weights."""
    path = directory.part_path(table, checkpoint.run, checkpoint.step)
    if not path.exists():
        return False
    try:
        _, metadata = read_part(path)
    except StorageError:
        return False
    return metadata.get("job") == made_from and _same_weights(checkpoint, metadata)


def _same_weights(checkpoint: Checkpoint, metadata: Mapping[str, str]) -> bool:
    try:
        if metadata.get("stamp") == stamp(checkpoint):
            return True
        with files(checkpoint, need={"config"}) as found:
            return metadata.get("weights") == found.identity
    except CheckpointError:
        return True  # out of reach now: what was computed from it stays


def _failure(table: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "table": table,
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


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    import platform

    found = {"python": platform.python_version(), "headway": __version__}
    for package in ("torch", "transformers", "numpy", "scikit-learn"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

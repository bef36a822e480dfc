"""Runs that share a name but come from another folder or repository: their weights must not mix in one table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from headway.errors import RunDirectoryError
from headway.store.directory import RunDirectory
from headway.suites import Checkpoint


def sources(checkpoints: Iterable[Checkpoint]) -> dict[str, str]:
    """Each run's repository or folder."""
    return {checkpoint.run: checkpoint.source.location for checkpoint in checkpoints}


def moved(directory: RunDirectory, table: str, now: Mapping[str, str]) -> dict[str, str]:
    """The runs of `table` whose source differs from the one in the manifest, with the source in the manifest."""
    record = directory.manifest().tables.get(table)
    before = record.sources if record else {}
    return {run: before[run] for run, source in now.items() if before.get(run, source) != source}


def settle(
    directory: RunDirectory,
    table: str,
    before: Mapping[str, str],
    now: Mapping[str, str],
    reused: Collection[str],
    force: bool,
) -> None:
    """Accept runs whose source has changed, if their weights are the same: the suite was moved or copied.

    Args:
        before, now: the source of each run, in the manifest and in this command.
        reused: the keys of the partitions whose inputs are unchanged.
        force: delete partitions of other weights instead of refusing them.

    Raises:
        RunDirectoryError: weights differ, or cannot be compared, and `force` is not given.
    """
    doubtful = [part for part in directory.partitions(table) if _run_of(part) in before and part.stem not in reused]
    if doubtful and not force:
        run = _run_of(doubtful[0])
        raise RunDirectoryError(
            f"{directory.path} holds {table!r} of a run {run} from {before[run]}, and this {run} is from {now[run]}. "
            f"Its weights differ, or cannot be compared, in {len(doubtful)} partitions, such as "
            f"{doubtful[0].stem}. Choose another --out, or replace these partitions with --force"
        )
    for part in doubtful:
        part.unlink(missing_ok=True)


def _run_of(part: Path) -> str:
    return part.stem.rpartition("@")[0]

"""Where the runs of a table lie: runs that share a name but not their weights must never share a table unseen."""

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
    kept: Collection[str],
    force: bool,
) -> None:
    """Sees to the parts of runs that lay elsewhere `before`. A suite that was moved or copied has the weights that it
    had, and its parts are kept; with `force`, those that cannot be known to be of these weights go.

    Args:
        kept: the keys of the parts whose inputs were found to be unchanged.

    Raises:
        RunDirectoryError: there are others, and `force` is not given.
    """
    doubtful = [part for part in directory.partitions(table) if _run_of(part) in before and part.stem not in kept]
    if doubtful and not force:
        run = _run_of(doubtful[0])
        raise RunDirectoryError(
            f"{directory.path} holds {table!r} of a run {run} from {before[run]}, and this {run} is from {now[run]}. "
            f"Its weights differ, or cannot be seen to be the same: of {len(doubtful)} such parts, the first is "
            f"{doubtful[0].stem}. Choose another --out; or replace those parts with --force"
        )
    for part in doubtful:
        part.unlink(missing_ok=True)


def _run_of(part: Path) -> str:
    return part.stem.rpartition("@")[0]

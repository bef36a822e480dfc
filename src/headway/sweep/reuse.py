"""Which finished partitions can be reused: whole, of the same job, and with inputs that have not changed."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from headway.errors import CheckpointError, StorageError
from headway.store.directory import RunDirectory
from headway.store.partitions import read_whole
from headway.suites import Checkpoint, Revisions, identity_of
from headway.sweep.versions import release, versions
from headway.text import count

_AT_ONCE = 8  # partitions that are checked at the same time


class Reused(NamedTuple):
    """A partition that is reused.

    Attributes:
        release: the package versions that computed it.
        unchecked: why its inputs could not be checked for changes; empty if they were.
    """

    release: str
    unchecked: str = ""


@dataclass(frozen=True)
class Reuse:
    """Decides which partitions of a sweep are reused.

    Attributes:
        made_from: the hash of the job.
        need: the kinds of files that the job reads.
        checkpoints: the checkpoints of the sweep, by key.
        revisions: their current revisions.
        given: hashes of inputs that are no files of a checkpoint, such as labels, by name.
        force: whether to recompute partitions of other package versions.
    """

    directory: RunDirectory
    table: str
    made_from: str
    need: Collection[str]
    checkpoints: Mapping[str, Checkpoint]
    revisions: Revisions
    given: Mapping[str, str]
    force: bool = False

    def partitions(self) -> dict[str, Reused]:
        """The partitions to reuse, by key. A warning tells of those that could not be checked."""
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            looked_at = dict(zip(self.checkpoints, threads.map(self._look, self.checkpoints.values()), strict=True))
        reused = {key: found for key, found in looked_at.items() if found is not None}
        _warn(list(reused.values()))
        return reused

    def _look(self, checkpoint: Checkpoint) -> Reused | None:
        path = self.directory.partition_path(self.table, checkpoint.run, checkpoint.step)
        try:
            metadata = read_whole(path).metadata if path.exists() else {}
        except StorageError:
            return None
        if metadata.get("job") != self.made_from or "inputs" not in metadata:
            return None
        computed_with = release(json.loads(metadata["versions"]))
        if self.force and computed_with != release(versions()):
            return None
        unchecked = ""
        for key, (stamp, identity) in json.loads(metadata["inputs"]).items():
            try:
                if self._changed(key, stamp, identity):
                    return None
            except CheckpointError as error:  # the Hub is unreachable: reuse it, and say so
                unchecked = str(error)
        return Reused(computed_with, unchecked)

    def _changed(self, key: str, stamp: str, identity: str) -> bool:
        """Whether an input has changed. An input that is not part of this sweep is taken to be the same."""
        if key in self.given:
            return self.given[key] != identity
        if key in self.revisions.out_of_reach:
            raise CheckpointError(self.revisions.out_of_reach[key])
        if key not in self.checkpoints or (stamp and self.revisions.known.get(key) == stamp):
            return False
        return identity_of(self.checkpoints[key], self.need) != identity


def _warn(reused: Sequence[Reused]) -> None:
    unchecked = [found.unchecked for found in reused if found.unchecked]
    if unchecked:
        warnings.warn(
            f"{len(unchecked)} of {count(len(reused), 'reused result')} could not be checked for changed inputs: "
            f"{unchecked[0]}",
            stacklevel=4,
        )
    releases, now = Counter(found.release for found in reused), release(versions())
    others = [f"{number} with {of}" for of, number in releases.items() if of != now]
    if others:
        warnings.warn(
            f"of {count(len(reused), 'reused result')}, other package versions computed {'; '.join(others)}; the versions "
            f"now are {now}. Their numbers may differ by more than rounding. --force (force=True) recomputes them",
            stacklevel=4,
        )

"""Which parts of before still hold: whole, of this very job, and of inputs that have not changed since."""

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
from headway.store.partitions import read_partition
from headway.suites import Checkpoint, Revisions, identity_of
from headway.sweep.versions import release, versions
from headway.text import count

_AT_ONCE = 8  # parts that are looked at


class Kept(NamedTuple):
    """A part that holds: the versions it was computed with, and why its inputs could not be looked at, if so."""

    release: str
    unchecked: str = ""


@dataclass(frozen=True)
class Reuse:
    """Decides which parts of a sweep are kept.

    Attributes:
        made_from: the hash of the job.
        need: what it reads of a checkpoint.
        checkpoints: of the sweep, by key.
        revisions: theirs, now.
        given: hashes of what the job was given beside files, by name.
        force: whether parts that other versions computed are given up.
    """

    directory: RunDirectory
    table: str
    made_from: str
    need: Collection[str]
    checkpoints: Mapping[str, Checkpoint]
    revisions: Revisions
    given: Mapping[str, str]
    force: bool = False

    def kept(self) -> dict[str, Kept]:
        """The parts that hold, by their checkpoints' keys; says once what is to be known of them."""
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            looked_at = dict(zip(self.checkpoints, threads.map(self._look, self.checkpoints.values()), strict=True))
        kept = {key: found for key, found in looked_at.items() if found is not None}
        _say(list(kept.values()))
        return kept

    def _look(self, checkpoint: Checkpoint) -> Kept | None:
        path = self.directory.partition_path(self.table, checkpoint.run, checkpoint.step)
        try:
            metadata = read_partition(path)[1] if path.exists() else {}
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
            except CheckpointError as error:  # out of reach now: what was computed from it stays
                unchecked = str(error)
        return Kept(computed_with, unchecked)

    def _changed(self, key: str, stamp: str, identity: str) -> bool:
        """Whether an input is another than it was. One that is no part of this sweep is taken to be the same."""
        if key in self.given:
            return self.given[key] != identity
        if key in self.revisions.out_of_reach:
            raise CheckpointError(self.revisions.out_of_reach[key])
        if key not in self.checkpoints or (stamp and self.revisions.known.get(key) == stamp):
            return False
        return identity_of(self.checkpoints[key], self.need) != identity


def _say(kept: Sequence[Kept]) -> None:
    unchecked = [found.unchecked for found in kept if found.unchecked]
    if unchecked:
        warnings.warn(
            f"of {count(len(kept), 'part that is', 'parts that are')} kept, it could not be seen of {len(unchecked)} "
            f"whether what it was computed from has changed: {unchecked[0]}",
            stacklevel=4,
        )
    releases, now = Counter(found.release for found in kept), release(versions())
    others = [f"{number} with {of}" for of, number in releases.items() if of != now]
    if others:
        warnings.warn(
            f"of {count(len(kept), 'part that is', 'parts that are')} kept, {'; '.join(others)} were computed; it is "
            f"{now} now, which may differ by more than rounding: --force (force=True) computes those anew",
            stacklevel=4,
        )

"""Room on disk for checkpoints that are removed after use: a process holds two at most, however many threads ask.

A sweep computes one checkpoint while it fetches the next. Clustering compares a checkpoint with the one before, so it reserves
both at once: two threads that each held one and waited for another would wait for ever. What the next in line needs stays, so that
a checkpoint is not downloaded again for the one after it.
"""

from __future__ import annotations

import shutil
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from headway.errors import StorageError

MOST = 2  # checkpoints on disk


@dataclass
class _Place:
    """A checkpoint's folder. `filling` is held while it is downloaded; `commit` is empty until then."""

    folder: Path
    lock: FileLock
    commit: str = ""
    filling: threading.Lock = field(default_factory=threading.Lock)


class Shelf:
    """The checkpoints that this process holds for the time of their use, by a key such as their source."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._changed = threading.Condition()
        self._users: Counter[Hashable] = Counter()
        self._queue: list[frozenset[Hashable]] = []
        self._places: dict[Hashable, _Place] = {}
        self._mine = threading.local()

    @contextmanager
    def reserve(self, keys: Collection[Hashable]) -> Iterator[None]:
        """Wait until there is room for all of `keys` at once, and keep it while the block lasts.

        A thread that already has room gets more at once, since it could otherwise wait for itself.
        """
        wanted = frozenset(keys)
        depth = getattr(self._mine, "depth", 0)
        with self._changed:
            self._queue.append(wanted)
            try:
                if not depth:
                    self._changed.wait_for(lambda: len(self._held() | wanted) <= max(self.most, len(wanted)))
                self._users.update(wanted)
            finally:
                self._queue.remove(wanted)
                self._tidy()
        self._mine.depth = depth + 1
        try:
            yield
        finally:
            self._mine.depth = depth
            with self._changed:
                self._users.subtract(wanted)
                self._tidy()

    def _held(self) -> set[Hashable]:
        return {key for key, n in self._users.items() if n} | set(self._places)

    def _tidy(self) -> None:
        """Remove what nobody uses and the next in line does not need."""
        self._users = +self._users
        needed = set(self._users) | set(self._queue[0] if self._queue else ())
        for key in [key for key in self._places if key not in needed]:
            _remove(self._places.pop(key))
        self._changed.notify_all()

    def folder(self, key: Hashable, root: Path, commit: str, fill: Callable[[Path], None]) -> Path | None:
        """The folder of a reserved checkpoint, filled by `fill` if it is not there; None if it holds another commit.

        Raises:
            StorageError: no folder can be made below `root`.
        """
        with self._changed:
            place = self._places.get(key)
            if place is None:
                place = self._places[key] = _new_place(root)
        with place.filling:
            if place.commit not in ("", commit):
                return None
            if not place.commit:
                fill(place.folder)
                place.commit = commit
        return place.folder


def _new_place(root: Path) -> _Place:
    """A new folder. Those of killed processes are removed first."""
    folder = root / uuid.uuid4().hex
    lock = FileLock(f"{folder}.lock", thread_local=False)  # another thread may be the last to use it
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(root)
        lock.acquire()
        folder.mkdir()
    except OSError as error:
        raise StorageError(f"{root} cannot be written to: {error.strerror or error}") from error
    return _Place(folder, lock)


def _remove(place: _Place) -> None:
    shutil.rmtree(place.folder, ignore_errors=True)
    Path(place.lock.lock_file).unlink(missing_ok=True)
    place.lock.release()


def _remove_abandoned(root: Path) -> None:
    # A process holds the lock of its folder while it lives. A lock that can be taken belongs to a killed process.
    for path in root.glob("*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        path.unlink(missing_ok=True)
        lock.release()

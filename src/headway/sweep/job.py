"""What a sweep does to one checkpoint: read it, compute its table, write the part."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import traceback
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl

from headway.errors import HeadwayError, StorageError
from headway.rundir import RunDirectory
from headway.suites import Checkpoint, stamp


class Input(Protocol):
    """What a job reads of a checkpoint. `identity` is a hash of its weights, as their source states it."""

    @property
    def identity(self) -> str: ...


class Job(Protocol):
    """A function from a checkpoint to a table. It knows nothing of the grid, and travels to workers by pickle."""

    @property
    def table(self) -> str:
        """The folder of its parts, such as `heads`."""
        ...

    def identity(self) -> dict[str, Any]:
        """All that decides the numbers, as JSON: corpus, scores, seeds, versions of the definitions."""
        ...

    def read(self, checkpoint: Checkpoint) -> AbstractContextManager[Any]:
        """Fetches and reads; runs in another thread while the checkpoint before it is computed."""
        ...

    def compute(self, checkpoint: Checkpoint, input: Any) -> pl.DataFrame:
        """The numbers; called by one thread of a process at a time."""
        ...


def fingerprint(value: Any) -> str:
    """A short hash of a JSON value, the same whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """What became of one checkpoint. `error` is empty where its part was written."""

    checkpoint: Checkpoint
    seconds: float = 0.0
    error: str = ""
    kind: str = ""
    trace: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.error)


@dataclass
class Work:
    """`work(checkpoint)` does one checkpoint and says what became of it. Two threads may share it: one reads
    ahead or writes while the other computes. `made_from` goes into each part, and tells later whether it still holds.

    Raises:
        StorageError: the part cannot be written (a full disk): every further checkpoint would fail too.
    """

    job: Job
    directory: str
    made_from: str
    _computing: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _starting: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _started: bool = field(default=False, repr=False)

    def __call__(self, checkpoint: Checkpoint) -> Outcome:
        if self._started:
            return self._do(checkpoint)
        # The first goes alone: it imports torch and transformers, whose lazy modules two threads cannot import at once.
        with self._starting:
            outcome = self._do(checkpoint)
            self._started = True
            return outcome

    def _do(self, checkpoint: Checkpoint) -> Outcome:
        start = time.perf_counter()
        try:
            seen = stamp(checkpoint)
            with self.job.read(checkpoint) as input:
                with self._computing:
                    frame = self.job.compute(checkpoint, input)
                identity = input.identity
            metadata = {"job": self.made_from, "weights": identity, "stamp": seen, "checkpoint": checkpoint.key}
            RunDirectory(self.directory).write_part(self.job.table, checkpoint.run, checkpoint.step, frame, metadata)
        except StorageError:
            raise
        except HeadwayError as error:
            return Outcome(checkpoint, time.perf_counter() - start, str(error), type(error).__name__)
        except Exception as error:
            # A defect or a fault nobody foresaw must not take the other checkpoints with it.
            words = f"{type(error).__name__}: {error}"
            return Outcome(checkpoint, time.perf_counter() - start, words, "unexpected", traceback.format_exc())
        return Outcome(checkpoint, time.perf_counter() - start)

    def __getstate__(self) -> dict[str, Any]:
        return {"job": self.job, "directory": self.directory, "made_from": self.made_from}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

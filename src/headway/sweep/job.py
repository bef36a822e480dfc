"""What a sweep does to one checkpoint: read it, compute its table, write the part."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import polars as pl

from headway.errors import HeadwayError, RunDirectoryError, StorageError
from headway.store.directory import RunDirectory
from headway.suites import Checkpoint
from headway.sweep.threads import on_one_core
from headway.sweep.versions import versions


class Input(Protocol):
    """What a job reads of a checkpoint. `identities` has, by the keys of all checkpoints that were read for it, the
    hashes of their files, as `suites.files` states them; and what the job was `given` for it.

    An input may have `settings`, as JSON: what must be the same at all steps of a run, by name.
    """

    @property
    def identities(self) -> Mapping[str, str]: ...


class Job(Protocol):
    """A function from a checkpoint to a table. It knows nothing of the grid, and travels to workers by pickle.

    What it was given for single checkpoints beside their files, such as labels of heads, is no part of its identity but
    an input of theirs: `given` has hashes of it by name, and so have the `identities` of each input that it is part of.
    A job that is given nothing has no `given`.
    """

    @property
    def table(self) -> str:
        """The folder of its parts, such as `heads`."""
        ...

    @property
    def needs(self) -> Collection[str]:
        """What it reads of a checkpoint: of `config`, `weights` and `tokenizer`."""
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
    """`work(checkpoint)` does one checkpoint and says what became of it. Two threads may share it, which read and write;
    a third computes for both. Each part says what it was made from, which tells later whether it holds.

    Attributes:
        made_from: the hash of the job.
        revisions: of the checkpoints, from before they are read.

    Raises:
        StorageError: the part cannot be written (a full disk): every further checkpoint would fail too.
        RunDirectoryError: another command has taken the table for something else.
    """

    job: Job
    directory: str
    made_from: str
    revisions: Mapping[str, str]
    _computing: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, "headway-computes"), repr=False
    )
    _starting: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _started: bool = field(default=False, repr=False)

    def __call__(self, checkpoint: Checkpoint) -> Outcome:
        # The first goes alone: it imports torch and transformers, whose lazy modules two threads cannot import at once.
        # The thread that computes does all of it, since no other may run parallel loops.
        with self._starting:
            if not self._started:
                outcome = self._computing.submit(self._do, checkpoint, self.job.compute).result()
                self._started = True
                return outcome
        with on_one_core():
            return self._do(checkpoint, self._in_the_computing_thread)

    @cached_property
    def _rundir(self) -> RunDirectory:
        return RunDirectory(self.directory)

    def _in_the_computing_thread(self, checkpoint: Checkpoint, input: Any) -> pl.DataFrame:
        return self._computing.submit(self.job.compute, checkpoint, input).result()

    def _do(self, checkpoint: Checkpoint, compute: Callable[[Checkpoint, Any], pl.DataFrame]) -> Outcome:
        start = time.perf_counter()
        try:
            with self.job.read(checkpoint) as input:
                frame = compute(checkpoint, input)
                identities = input.identities
                settings = getattr(input, "settings", {})
            metadata = self._metadata(identities, settings, time.perf_counter() - start)
            self._rundir.write_partition(self.job.table, checkpoint.run, checkpoint.step, frame, metadata)
        except (StorageError, RunDirectoryError):
            raise
        except HeadwayError as error:
            return Outcome(checkpoint, time.perf_counter() - start, str(error), type(error).__name__)
        except Exception as error:
            # A defect or a fault nobody foresaw must not take the other checkpoints with it.
            words = f"{type(error).__name__}: {error}"
            return Outcome(checkpoint, time.perf_counter() - start, words, "unexpected", traceback.format_exc())
        return Outcome(checkpoint, time.perf_counter() - start)

    def _metadata(self, identities: Mapping[str, str], settings: Mapping[str, Any], seconds: float) -> dict[str, str]:
        """What the part says of itself. `seconds` are those of a clock that never jumps."""
        inputs = {key: [self.revisions.get(key, ""), identity] for key, identity in identities.items()}
        return {
            "job": self.made_from,
            "inputs": json.dumps(inputs),
            "settings": json.dumps(settings),
            "versions": json.dumps(versions()),
            "seconds": f"{seconds:.3f}",
        }

    def __getstate__(self) -> dict[str, Any]:
        return {"job": self.job, "directory": self.directory, "made_from": self.made_from, "revisions": self.revisions}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

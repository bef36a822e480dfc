"""Processing one checkpoint: read it, compute its table, write the partition."""

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
    """A checkpoint as a job reads it.

    `identities` holds a hash of the files of each checkpoint that was read, by key, as `suites.files` gives it, and of
    what the job was `given`. An input may have `settings`: JSON values, by name, that must not differ between steps.
    """

    @property
    def identities(self) -> Mapping[str, str]: ...


class Job(Protocol):
    """A function from a checkpoint to a table. It knows nothing of the grid, and travels to workers by pickle.

    A job may be given inputs for single checkpoints that are no files of theirs, such as labels of heads. They are not
    part of its identity, so that changing one recomputes only the checkpoints that use it: `given` holds their hashes
    by name, and `identities` of each input repeats those that it uses. Other jobs have no `given`.

    A job may say what it `used` of an input: JSON values by name that the manifest states, such as a length that a context
    has cut.
    """

    @property
    def table(self) -> str:
        """The folder of its partitions, such as `heads`."""
        ...

    @property
    def needs(self) -> Collection[str]:
        """The kinds of files that it reads, out of `config`, `weights` and `tokenizer`."""
        ...

    def identity(self) -> dict[str, Any]:
        """All that decides the numbers, as JSON: corpus, scores, seeds, versions of the definitions."""
        ...

    def read(self, checkpoint: Checkpoint) -> AbstractContextManager[Any]:
        """Fetch and read; runs in another thread while the previous checkpoint is computed."""
        ...

    def compute(self, checkpoint: Checkpoint, input: Any) -> pl.DataFrame:
        """The numbers; called by one thread of a process at a time."""
        ...


@dataclass(frozen=True)
class Outcome:
    """The outcome of one checkpoint. `error` is empty if its partition was written."""

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
    """`work(checkpoint)` processes one checkpoint and returns its outcome.

    Two threads may share it: they read and write, and a third one computes for both. Each partition records its inputs,
    which decide later whether it is reused.

    Attributes:
        made_from: the hash of the job.
        revisions: the checkpoints' revisions, from before they are read.

    Raises:
        StorageError: the partition cannot be written, so that every further checkpoint would fail too.
        RunDirectoryError: another command has replaced the table.
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
        # The first checkpoint goes alone: it imports torch and transformers, whose lazy modules two threads cannot import
        # at once. The computing thread does all of it, because no other thread may run parallel loops.
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
                used = self.job.used(input) if hasattr(self.job, "used") else {}
            metadata = self._metadata(identities, settings, used, time.perf_counter() - start)
            self._rundir.write_partition(self.job.table, checkpoint.run, checkpoint.step, frame, metadata)
        except (StorageError, RunDirectoryError):
            raise
        except HeadwayError as error:
            return Outcome(checkpoint, time.perf_counter() - start, str(error), type(error).__name__)
        except Exception as error:
            # An unforeseen error must not end the sweep over the other checkpoints.
            words = f"{type(error).__name__}: {error}"
            return Outcome(checkpoint, time.perf_counter() - start, words, "unexpected", traceback.format_exc())
        return Outcome(checkpoint, time.perf_counter() - start)

    def _metadata(
        self, identities: Mapping[str, str], settings: Mapping[str, Any], used: Mapping[str, Any], seconds: float
    ) -> dict[str, str]:
        """The metadata of the partition. `seconds` come from a clock that never jumps."""
        inputs = {key: [self.revisions.get(key, ""), identity] for key, identity in identities.items()}
        return {
            "job": self.made_from,
            "inputs": json.dumps(inputs),
            "settings": json.dumps(settings),
            "used": json.dumps(used),
            "versions": json.dumps(versions()),
            "seconds": f"{seconds:.3f}",
        }

    def __getstate__(self) -> dict[str, Any]:
        return {"job": self.job, "directory": self.directory, "made_from": self.made_from, "revisions": self.revisions}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

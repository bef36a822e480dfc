"""Processing one checkpoint: read it, compute its tables, write the partitions."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
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

    A job may `share(checkpoint, input)` with later jobs what it makes on the way to its own table. It is asked to when its
    partition is there and theirs are not, so that their numbers do not depend on where an earlier sweep stopped.

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
    """The outcome of one checkpoint. `error` is empty if its partitions were written.

    Attributes:
        table: the table that `error` concerns; empty if it concerns all that were to be computed.
        others: the outcomes of further tables that failed.
    """

    checkpoint: Checkpoint
    seconds: float = 0.0
    error: str = ""
    kind: str = ""
    trace: str = ""
    table: str = ""
    others: tuple[Outcome, ...] = ()

    @property
    def failed(self) -> bool:
        return bool(self.error)


Compute = Callable[[Callable[[Checkpoint, Any], Any], Checkpoint, Any], Any]


@dataclass(frozen=True)
class Task:
    """One job of a sweep, and the checkpoints that lack its partition.

    Attributes:
        made_from: the hash of the job.
        left: the keys of these checkpoints.
    """

    job: Job
    made_from: str
    left: frozenset[str]


@dataclass
class Work:
    """`work(checkpoint)` processes one checkpoint and returns its outcome.

    A checkpoint is read once for all its tables: by a job that `reads_logits`, if there is one, since it reads what the
    others read, and more. A table that fails does not keep the others from being written.

    Two threads may share it: they read and write, and a third one computes for both. Each partition records its inputs,
    which decide later whether it is reused.

    Attributes:
        tasks: the jobs, in order of what they read.
        revisions: the checkpoints' revisions, from before they are read.

    Raises:
        StorageError: the partition cannot be written, so that every further checkpoint would fail too.
        RunDirectoryError: another command has replaced the table.
    """

    tasks: tuple[Task, ...]
    directory: str
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
                outcome = self._computing.submit(self._do, checkpoint, _here).result()
                self._started = True
                return outcome
        with on_one_core():
            return self._do(checkpoint, self._in_the_computing_thread)

    @cached_property
    def _rundir(self) -> RunDirectory:
        return RunDirectory(self.directory)

    def _in_the_computing_thread(
        self, call: Callable[[Checkpoint, Any], Any], checkpoint: Checkpoint, input: Any
    ) -> Any:
        return self._computing.submit(call, checkpoint, input).result()

    def _do(self, checkpoint: Checkpoint, compute: Compute) -> Outcome:
        start = time.perf_counter()
        failed: list[Outcome] = []
        tasks = [task for task in self.tasks if checkpoint.key in task.left]
        try:
            with _reader(tasks).read(checkpoint) as input:
                for task in self.tasks:
                    if checkpoint.key in task.left:
                        failed += self._write(task, checkpoint, input, compute, start)
                    elif hasattr(task.job, "share"):
                        compute(task.job.share, checkpoint, input)
        except (StorageError, RunDirectoryError):
            raise
        except Exception as error:
            failed.append(_failed(checkpoint, error, start))
        if not failed:
            return Outcome(checkpoint, time.perf_counter() - start)
        return replace(failed[0], others=tuple(failed[1:]))

    def _write(self, task: Task, checkpoint: Checkpoint, input: Any, compute: Compute, start: float) -> list[Outcome]:
        """Compute one table and write its partition; return the failure, if there is one."""
        job = task.job
        try:
            frame = compute(job.compute, checkpoint, input)
            metadata = self._metadata(task, input, time.perf_counter() - start)
            self._rundir.write_partition(job.table, checkpoint.run, checkpoint.step, frame, metadata)
        except (StorageError, RunDirectoryError):
            raise
        except Exception as error:
            return [replace(_failed(checkpoint, error, start), table=job.table)]
        return []

    def _metadata(self, task: Task, input: Any, seconds: float) -> dict[str, str]:
        """The metadata of the partition. `seconds` come from a clock that never jumps."""
        inputs = {key: [self.revisions.get(key, ""), identity] for key, identity in input.identities.items()}
        return {
            "job": task.made_from,
            "inputs": json.dumps(inputs),
            "settings": json.dumps(getattr(input, "settings", {})),
            "used": json.dumps(task.job.used(input) if hasattr(task.job, "used") else {}),
            "versions": json.dumps(versions()),
            "seconds": f"{seconds:.3f}",
        }

    def __getstate__(self) -> dict[str, Any]:
        return {"tasks": self.tasks, "directory": self.directory, "revisions": self.revisions}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _reader(tasks: Sequence[Task]) -> Job:
    """The job whose input serves all of them."""
    return next((task.job for task in tasks if getattr(task.job, "reads_logits", False)), tasks[-1].job)


def _here(call: Callable[[Checkpoint, Any], Any], checkpoint: Checkpoint, input: Any) -> Any:
    return call(checkpoint, input)


def _failed(checkpoint: Checkpoint, error: Exception, start: float) -> Outcome:
    """The outcome of an error. An unforeseen one must not end the sweep over the other checkpoints."""
    seconds = time.perf_counter() - start
    if isinstance(error, HeadwayError):
        return Outcome(checkpoint, seconds, str(error), type(error).__name__)
    trace = "".join(traceback.format_exception(error))
    return Outcome(checkpoint, seconds, f"{type(error).__name__}: {error}", "unexpected", trace)

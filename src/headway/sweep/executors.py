"""Executors: a sweep runs in this process, or in worker processes of this machine.

An executor yields the outcome of each checkpoint as it finishes. Each worker holds two checkpoints: it computes one while
it reads the next or writes the previous one.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait as wait_for_any
from typing import Protocol, TypeVar

from headway.devices import cores
from headway.suites import Checkpoint
from headway.sweep.job import Outcome, Work
from headway.workers import AT_ONCE, Worker, WorkerDied, dismiss

T = TypeVar("T")

_HEAVY = ("torch", "transformers.modeling_utils")  # what takes seconds to import, and every sweep needs
_PATIENCE = 0.3  # seconds of work after which workers are hired for what is left: they need more than one to start
ATTEMPTS = 3  # a checkpoint is given up once so many workers have died with it


class Executor(Protocol):
    def run(self, work: Work, checkpoints: Sequence[Checkpoint]) -> Iterator[Outcome]: ...


def ask(executor: Executor | None, call: Callable[[], T]) -> T:
    """What `call` returns, in a worker that is kept if there is one: this process need not import torch for it then."""
    return executor.ask(call) if isinstance(executor, Processes) else call()


class InProcess:
    """Runs in this process, and reads ahead in a second thread."""

    def run(self, work: Work, checkpoints: Sequence[Checkpoint]) -> Iterator[Outcome]:
        left = deque(checkpoints)
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="headway") as threads:
            running: set[Future[Outcome]] = set()
            # Leaving the block waits for the checkpoints that are begun, so that their partitions are written.
            while left or running:
                while left and len(running) < AT_ONCE:
                    running.add(threads.submit(work, left.popleft()))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()


class Processes:
    """Runs in `n` processes of this machine. A worker that dies is replaced, and its checkpoints are retried.

    As a context manager it keeps its workers for several sweeps. They import torch and transformers once, from the beginning.

    Args:
        n: the number of processes.
        gpus: how many GPUs this process may use; worker i sees only the i-th of them (modulo their number).
    """

    def __init__(self, n: int, gpus: int = 0) -> None:
        self.n, self.gpus = n, gpus
        self._kept: dict[int, Worker] | None = None  # within `with`

    def __enter__(self) -> Processes:
        self._kept = {i: self._hire(i, self.n, _HEAVY) for i in range(self.n)}
        return self

    def __exit__(self, *_: object) -> None:
        dismiss([*(self._kept or {}).values()])
        self._kept = None

    def run(self, work: Work, checkpoints: Sequence[Checkpoint]) -> Iterator[Outcome]:
        left = deque(checkpoints)
        losses: dict[Checkpoint, int] = {}
        kept, at_most = self._kept, min(self.n, len(checkpoints))
        n = self.n if kept is not None else at_most
        crew = {i: kept.pop(i) if kept and i in kept else self._hire(i, n) for i in range(at_most)}
        try:
            for worker in crew.values():
                worker.begin(work)
            while left or any(worker.holds for worker in crew.values()):
                for worker in crew.values():
                    while left and len(worker.holds) < AT_ONCE:
                        worker.give(left.popleft())
                waiting = {w.connection: i for i, w in crew.items() if w.holds}
                for connection in wait_for_any(list(waiting)):
                    i = waiting[connection]  # type: ignore[index]
                    try:
                        yield crew[i].take()[1]
                    except WorkerDied:
                        lost = list(crew[i].holds.values())
                        reason = crew[i].stop()
                        crew[i] = self._hire(i, n)
                        crew[i].begin(work)
                        for checkpoint in lost:
                            losses[checkpoint] = losses.get(checkpoint, 0) + 1
                            if losses[checkpoint] < ATTEMPTS:
                                left.appendleft(checkpoint)
                            else:
                                words = f"its worker process died {ATTEMPTS} times ({reason}): out of memory?"
                                yield Outcome(checkpoint, error=words, kind="WorkerDied")
        finally:
            if kept is not None:
                kept |= {i: worker for i, worker in crew.items() if not worker.holds}
            dismiss([worker for worker in crew.values() if kept is None or worker.holds])

    def ask(self, call: Callable[[], T]) -> T:
        """What `call` returns in a kept worker; in this process if there is none."""
        with suppress(WorkerDied):  # it has died: the next sweep replaces it
            if self._kept:
                answer: T = next(iter(self._kept.values())).ask(call)
                return answer
        return call()

    def share(self, calls: Sequence[Callable[[], T]], tell: Callable[[int, T], None]) -> list[T]:
        """What each call returns. This process does its share of them, as one of the `n`.

        Workers that are not kept are hired once the work has taken a moment, because they need longer than that to start.
        What a worker was at when it died is done here.

        Args:
            tell: called with the number of each call that has ended and what it returned, by the thread that waited for it.

        Raises:
            Exception: The first that a call raised. Calls that were begun are finished before, and no others are begun.
        """
        left, over = deque(enumerate(calls)), threading.Event()
        answers: dict[int, T] = {}
        errors: dict[int, Exception] = {}

        def work(ask: Callable[[Callable[[], T]], T]) -> None:
            with suppress(IndexError):  # nothing is left
                while True:
                    number, call = left.popleft()
                    try:
                        answers[number] = ask(call)
                        tell(number, answers[number])
                    except WorkerDied:
                        left.append((number, call))
                        return
                    except Exception as error:
                        errors[number] = error
                        left.clear()

        def work_elsewhere(i: int) -> None:
            if self._kept is None and over.wait(_PATIENCE):
                return
            with self._lent(i) as worker:
                work(worker.ask)

        with ThreadPoolExecutor(self.n) as threads:
            try:
                for i in range(1, min(self.n, len(calls))):
                    threads.submit(work_elsewhere, i)
                work(lambda call: call())
            except BaseException:
                left.clear()
                raise
            finally:
                over.set()
        work(lambda call: call())  # what a worker was at when it died
        if errors:
            raise errors[min(errors)]
        return [answers[number] for number in range(len(calls))]

    @contextmanager
    def _lent(self, i: int) -> Iterator[Worker]:
        """Worker i, kept or hired for the block."""
        worker = (self._kept or {}).pop(i, None) or self._hire(i, self.n)
        try:
            yield worker
        finally:
            if self._kept is not None and worker.process.is_alive():
                self._kept[i] = worker
            else:
                dismiss([worker])

    def _hire(self, i: int, n: int, ahead: Sequence[str] = ()) -> Worker:
        environment = {"CUDA_VISIBLE_DEVICES": _gpu_names(self.gpus)[i % self.gpus]} if self.gpus else {}
        return Worker(max(1, cores() // n), environment, ahead)


def _gpu_names(n: int) -> list[str]:
    """The names of the first `n` GPUs that this process may use, as a scheduler set them in CUDA_VISIBLE_DEVICES."""
    allotted = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in allotted.split(",")][:n] if allotted else [str(i) for i in range(n)]

"""Executors: a sweep runs in this process, or in worker processes of this machine.

An executor yields the outcome of each checkpoint as it finishes. Each worker holds two checkpoints: it computes one while
it reads the next or writes the previous one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from typing import Any, Protocol, TypeVar

from threadpoolctl import threadpool_limits

from headway.allocation import end_quickly
from headway.devices import cores
from headway.errors import HeadwayError
from headway.suites import Checkpoint
from headway.sweep.job import Outcome, Work

T = TypeVar("T")

AT_ONCE = 2  # checkpoints that a worker holds: one is computed, one is read or written
_HEAVY = ("torch", "transformers.modeling_utils")  # what takes seconds to import, and every sweep needs
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
        self._kept: dict[int, _Worker] | None = None  # within `with`

    def __enter__(self) -> Processes:
        self._kept = {i: self._hire(i, self.n, ahead=True) for i in range(self.n)}
        return self

    def __exit__(self, *_: object) -> None:
        _dismiss(self._kept or {})
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
                        yield crew[i].take()
                    except (EOFError, ConnectionError):
                        lost = list(crew[i].holds)
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
            _dismiss({i: worker for i, worker in crew.items() if kept is None or worker.holds})

    def ask(self, call: Callable[[], T]) -> T:
        """What `call` returns in a kept worker; in this process if there is none."""
        with suppress(EOFError, ConnectionError):  # it has died: the next sweep replaces it
            if self._kept:
                answer: T = next(iter(self._kept.values())).ask(call)
                return answer
        return call()

    def _hire(self, i: int, n: int, ahead: bool = False) -> _Worker:
        environment = {"OMP_NUM_THREADS": str(max(1, cores() // n))}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = _gpu_names(self.gpus)[i % self.gpus]
        return _Worker(environment, ahead)


def _dismiss(crew: Mapping[int, _Worker]) -> None:
    for worker in crew.values():
        worker.connection.close()  # tell all of them before waiting for the first
        if not worker.holds:
            worker.process.terminate()  # it writes nothing any more; it may be importing torch ahead, for seconds
    for worker in crew.values():
        worker.stop()


def _gpu_names(n: int) -> list[str]:
    """The names of the first `n` GPUs that this process may use, as a scheduler set them in CUDA_VISIBLE_DEVICES."""
    allotted = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in allotted.split(",")][:n] if allotted else [str(i) for i in range(n)]


class _Worker:
    """A worker process, and the checkpoints that it holds."""

    def __init__(self, environment: dict[str, str], ahead: bool) -> None:
        spawn = multiprocessing.get_context("spawn")  # fork would copy torch's threads in an unknown state
        self.connection, theirs = spawn.Pipe()
        self.holds: dict[Checkpoint, None] = {}
        self.process = spawn.Process(target=_serve, args=(theirs, environment, ahead), daemon=True)
        with _deaf_to_ctrl_c():  # the worker inherits that, and so says nothing of a Ctrl-C while it starts
            self.process.start()
        theirs.close()  # so that the worker's death is seen as the end of the pipe

    def begin(self, work: Work) -> None:
        """What it does from now on. It holds no checkpoint."""
        self._send(work)

    def give(self, checkpoint: Checkpoint) -> None:
        self.holds[checkpoint] = None
        self._send(checkpoint)

    def ask(self, call: Callable[[], Any]) -> Any:
        """What `call` returns or raises in the worker, which holds no checkpoint; EOFError if it has died."""
        self.connection.send(call)
        return self._received()

    def _send(self, what: Work | Checkpoint) -> None:
        with suppress(BrokenPipeError, ConnectionError):  # it has died: `take` finds out
            self.connection.send(what)

    def take(self) -> Outcome:
        """The next outcome; EOFError if the worker has died, and what stops the whole sweep is raised here."""
        answer: Outcome = self._received()
        del self.holds[answer.checkpoint]
        return answer

    def _received(self) -> Any:
        answer = self.connection.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def stop(self) -> str:
        """Lets it finish what it holds and go; says how it ended."""
        self.connection.close()
        self.process.join(timeout=60 if self.process.exitcode is None else None)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """A Ctrl-C in the block is heard at its end."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # multiprocessing starts it beside the first process, and hears Ctrl-C after that
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, environment: dict[str, str], ahead: bool) -> None:
    """A worker process: does the work that comes through the pipe on the checkpoints that follow it, until it closes.

    Whatever else comes is called.

    Args:
        ahead: whether it imports what reads models before there is work.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which closes the pipe
    os.environ.update(environment)
    threadpool_limits(int(environment["OMP_NUM_THREADS"]), user_api="blas")  # NumPy has read the environment before
    end_quickly()
    if ahead:
        for module in _HEAVY:
            import_module(module)
    sending = threading.Lock()

    def do(call: Callable[[], Any]) -> None:
        answer: Any
        try:
            answer = call()
        except HeadwayError as error:
            answer = error
        except Exception as error:  # any other may not survive the pipe
            answer = RuntimeError("".join(traceback.format_exception(error)))
        with sending, suppress(OSError):  # the parent has gone; the part is written all the same
            connection.send(answer)

    with ThreadPoolExecutor(AT_ONCE) as threads, suppress(EOFError, OSError):
        while True:
            received = connection.recv()
            if isinstance(received, Work):
                work = received
            else:
                threads.submit(do, partial(work, received) if isinstance(received, Checkpoint) else received)

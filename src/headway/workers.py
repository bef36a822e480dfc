"""Worker processes of this machine: each calls what is sent to it, and answers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pickle import PicklingError
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from headway.allocation import end_quickly
from headway.errors import HeadwayError

T = TypeVar("T")

AT_ONCE = 2  # what a worker does at once: it computes one thing, and reads or writes another


class WorkerDied(Exception):
    """The process has ended, and what it held is not done."""


class Worker:
    """A process that calls what it is sent.

    Args:
        threads: how many threads each product of matrices takes there.
        environment: further variables of its environment.
        ahead: modules that it imports at once, before there is work.

    Attributes:
        holds: what it was given and has not answered, by number.
    """

    def __init__(self, threads: int, environment: Mapping[str, str] | None = None, ahead: Sequence[str] = ()) -> None:
        spawn = multiprocessing.get_context("spawn")  # fork would copy torch's threads in an unknown state
        self.connection, theirs = spawn.Pipe()
        self.holds: dict[int, Any] = {}
        self._given = 0
        given = (theirs, threads, {**(environment or {}), "OMP_NUM_THREADS": str(threads)}, tuple(ahead))
        self.process = spawn.Process(target=_serve, args=given, daemon=True)
        with _deaf_to_ctrl_c():  # the worker inherits that, and so says nothing of a Ctrl-C while it starts
            self.process.start()
        theirs.close()  # so that the worker's death is seen as the end of the pipe

    def begin(self, work: Callable[[Any], Any]) -> None:
        """What it does from now on with all that it is given. It holds nothing now."""
        self._send(None, work)

    def give(self, thing: Any) -> None:
        self._given += 1
        self.holds[self._given] = thing
        self._send(self._given, thing)

    def take(self) -> tuple[Any, Any]:
        """The next thing that is done, and the answer.

        Raises:
            WorkerDied: It has.
            Exception: The work raised it.
        """
        try:
            number, answer = self.connection.recv()
        except (EOFError, ConnectionError) as error:
            raise WorkerDied from error
        if isinstance(answer, BaseException):
            raise answer
        return self.holds.pop(number), answer

    def ask(self, call: Callable[[], T]) -> T:
        """What `call` returns in the worker, which holds nothing.

        Raises:
            WorkerDied: It has.
            Exception: The call raised it.
        """
        self.begin(_called)
        self.give(call)
        try:
            answer: T = self.take()[1]
            return answer
        finally:
            self.holds.clear()

    def _send(self, number: int | None, what: Any) -> None:
        with suppress(BrokenPipeError, ConnectionError):  # it has died: `take` finds out
            self.connection.send((number, what))

    def stop(self) -> str:
        """Lets it finish what it holds and go; says how it ended."""
        self.connection.close()
        self.process.join(timeout=60 if self.process.exitcode is None else None)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def dismiss(workers: Sequence[Worker]) -> None:
    """Let all of them finish what they hold and go."""
    for worker in workers:
        worker.connection.close()  # tell all of them before waiting for the first
        if not worker.holds:
            worker.process.terminate()  # it writes nothing any more; it may be importing ahead, for seconds
    for worker in workers:
        worker.stop()


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


def _called(call: Callable[[], Any]) -> Any:
    return call()


def _serve(connection: Connection, threads: int, environment: Mapping[str, str], ahead: Sequence[str]) -> None:
    """A worker process: does the work that comes through the pipe on the things that follow it, until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which closes the pipe
    os.environ.update(environment)
    threadpool_limits(threads, user_api="blas")  # NumPy has read the environment before
    end_quickly()
    for module in ahead:
        import_module(module)
    sending = threading.Lock()

    def do(number: int, call: Callable[[], Any]) -> None:
        answer: Any
        try:
            answer = call()
        except HeadwayError as error:
            answer = error
        except Exception as error:  # any other may not survive the pipe
            answer = RuntimeError("".join(traceback.format_exception(error)))
        with sending, suppress(OSError):  # the parent has gone; what was written is there all the same
            try:
                connection.send((number, answer))
            except (AttributeError, PicklingError, TypeError) as error:  # the parent would wait for ever
                connection.send((number, RuntimeError(f"an answer cannot be sent: {error}")))

    with ThreadPoolExecutor(AT_ONCE) as pool, suppress(EOFError, OSError):
        while True:
            number, received = connection.recv()
            if number is None:
                work = received
            else:
                pool.submit(do, number, partial(work, received))

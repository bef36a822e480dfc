"""Showing the progress of long work: a bar on a terminal, lines in a log, nothing in library calls."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Protocol

from headway import interrupts
from headway.terminal import log, printable, say

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


class Progress(Protocol):
    """One piece of long work after another: `start` it, `advance` it, until the next starts or `close`.

    `say` shows a sentence that the user should know, such as how an input was read.
    """

    def start(self, what: str, total: int, done: int = 0) -> None: ...
    def advance(self, n: int = 1, note: str = "") -> None: ...
    def say(self, words: str) -> None: ...
    def close(self) -> None: ...


class Silent:
    """Shows nothing: the default of the Python api."""

    def start(self, what: str, total: int, done: int = 0) -> None:
        pass

    def advance(self, n: int = 1, note: str = "") -> None:
        pass

    def say(self, words: str) -> None:
        pass

    def close(self) -> None:
        pass


class Lines:
    """A plain line at most every `every` seconds, for logs: what, how many are done, the rate, the time left."""

    def __init__(self, every: float = 10.0) -> None:
        self.every = every
        self._what, self._total, self._done, self._first = "", 0, 0, 0
        self._started = self._shown = time.monotonic()

    def start(self, what: str, total: int, done: int = 0) -> None:
        self._what, self._total, self._done, self._first = what, total, done, done
        self._started = self._shown = time.monotonic()
        log(f"{printable(what)}: {done}/{total}")

    def advance(self, n: int = 1, note: str = "") -> None:
        self._done += n
        now = time.monotonic()
        if now - self._shown < self.every and self._done < self._total:
            return
        self._shown = now
        rate = (self._done - self._first) / max(now - self._started, 1e-9)
        left = (self._total - self._done) / rate if rate > 0 else float("inf")
        note = f"  {printable(note)}" if note else ""
        log(f"{printable(self._what)}: {self._done}/{self._total}, {rate:.2g}/s, {clock(left)} left{note}")

    def say(self, words: str) -> None:
        say(words)

    def close(self) -> None:
        pass


class Bar:
    """A bar with count, rate and time left."""

    def __init__(self) -> None:
        self._rich: RichProgress | None = None
        self._task: int | None = None

    def start(self, what: str, total: int, done: int = 0) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        if self._rich is None:
            self._rich = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("elapsed,"),
                TimeRemainingColumn(),
                TextColumn("left  {task.fields[note]}", markup=False),
                console=Console(stderr=True),
            )
            self._rich.start()
        self._task = self._rich.add_task(printable(what), total=total, completed=done, note="")

    def advance(self, n: int = 1, note: str = "") -> None:
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, advance=n, note=printable(note))  # type: ignore[arg-type]

    def say(self, words: str) -> None:
        say(words)  # rich moves its bar below what is printed meanwhile

    def close(self) -> None:
        if self._rich is not None:
            self._rich.stop()
            self._rich = None


@contextmanager
def showing() -> Iterator[Progress]:
    """A bar on a terminal, plain lines elsewhere. Ctrl-C ends the process at once."""
    import polars  # noqa: F401 - before the handler, because polars installs its own

    interrupts.exit_on_interrupt()
    progress: Progress = Bar() if sys.stderr.isatty() else Lines()
    with closing(progress):
        yield progress


def clock(seconds: float) -> str:
    """Seconds as a person reads them: 45 s, 3:20 min, 2:05 h."""
    if seconds == float("inf"):
        return "unknown"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60) if seconds >= 3600 else int(seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02d} h" if seconds >= 3600 else f"{minutes}:{int(seconds % 60):02d} min"

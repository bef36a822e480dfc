"""Ctrl-C on the command line: answered at once, never with a traceback, and nothing that was computed is lost.

The first one lets what is in hand be finished and written; the second ends the process there and then, which harms
nothing either: files are whole or absent.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from headway.terminal import say

EXIT_CODE = 130  # 128 + SIGINT, as shells have it
STOPPED = "stopped; what was finished is kept: run the same command again to go on"


class Stopped(BaseException):
    """The first Ctrl-C, raised in the main thread. No KeyboardInterrupt: typer would end that without a word."""


@contextmanager
def answered() -> Iterator[None]:
    """While the block runs, the first Ctrl-C says what happens and raises `Stopped` in it, the second ends the process.

    To be entered after polars is imported: that takes SIGINT over in a way that leaves a waiting thread asleep.
    """
    if not _is_ours():
        yield
        return
    pressed = False

    def on_ctrl_c(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            end_now()
        pressed = True
        say("finishing what is in hand; press Ctrl-C again to stop now")
        raise Stopped

    before = signal.signal(signal.SIGINT, on_ctrl_c)
    try:
        yield
    except Exception as error:
        if pressed:  # it failed because it was stopped: an import cut short, a helper that heard Ctrl-C, too
            raise Stopped from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def end_at_once() -> None:
    """From here on Ctrl-C ends the process, with one line: for while headway starts, and has nothing in hand."""
    if _is_ours():
        signal.signal(signal.SIGINT, end_now)


def ignore() -> None:
    """While the process ends of itself Ctrl-C is heard no more: it would end it with another exit code."""
    if _is_ours():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_now(*_: object) -> NoReturn:
    """Ends this process and its workers."""
    multiprocessing = sys.modules.get("multiprocessing")
    for worker in multiprocessing.active_children() if multiprocessing else ():
        worker.kill()
    say(STOPPED)
    if sys.stderr.isatty():
        os.write(2, b"\x1b[?25h")  # a progress bar hides the cursor
    os._exit(EXIT_CODE)


def _is_ours() -> bool:
    """Not in a thread, where signals are not heard; not where the caller had SIGINT ignored, as `nohup` does."""
    import threading

    return threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) in (
        signal.default_int_handler,
        end_now,
    )

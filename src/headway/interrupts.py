"""Ctrl-C on the command line ends the process at once.

Nothing that was finished is lost, because every file is whole or absent, and the same command goes on from there. So no
exception is raised: it would surface in the midst of any library, and some of them swallow it or print a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import NoReturn

from headway.terminal import say

EXIT_CODE = 130  # 128 + SIGINT, as shells have it


def exit_on_interrupt() -> None:
    """Let Ctrl-C end this process and its workers from here on, with one line and exit code 130.

    It does nothing in a thread, where Python hears no signals, or if the caller ignores SIGINT, as `nohup` does. Call it
    again after importing polars, which installs a handler of its own.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _exit)


def _exit(*_: object) -> NoReturn:
    multiprocessing = sys.modules.get("multiprocessing")
    for worker in multiprocessing.active_children() if multiprocessing else ():
        worker.kill()
    say("stopped; finished results are kept. Run the same command again to go on")
    if sys.stderr.isatty():
        os.write(2, b"\x1b[?25h")  # a progress bar hides the cursor
    os._exit(EXIT_CODE)

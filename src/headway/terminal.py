"""Writing to terminals and logs: untrusted names are escaped, and a failed write stops nothing.

Names of tensors, files and prompts come from files of others. Their control characters could move the cursor or forge a
line of headway's own. A log on a full disk, or a closed one, must not end a sweep.
"""

from __future__ import annotations

import io
import os
import re
import sys
from contextlib import suppress
from typing import TextIO

# Control characters, line separators, signs that turn the direction of text, and bytes that were no text.
_UNSAFE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def printable(text: object) -> str:
    """`text` on one line, with invisible characters written as escapes such as \\x1b."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def say(words: object) -> None:
    """Writes one line to standard error, under headway's name."""
    log(f"headway: {printable(words)}")


def log(line: str) -> None:
    """Writes `line` to standard error; where that cannot be written to, the line is lost."""
    try:
        print(line, file=sys.stderr, flush=True)
    except RuntimeError:  # a signal came in the midst of another print
        os.write(2, f"\n{line}\n".encode(errors="backslashreplace"))
    except (OSError, ValueError):  # full, or closed
        pass


def prepare() -> None:
    """Makes the standard streams of this process safe to write to. Called once, when the command starts."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale may lack the characters of a name
    sys.stderr = _Forgiving(sys.stderr)


def _open_closed_streams() -> None:
    """Opens the null device where a standard stream is closed: else the next file that is opened takes its place, and
    what is printed lands in that file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


class _Forgiving:
    """Standard error that takes everything, whether it can be written or not."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

"""The lines of a text file, as editors see them."""

from __future__ import annotations

from pathlib import Path

from headway.errors import CorpusError


def utf8(path: Path) -> str:
    """What a file says, without a byte order mark.

    Raises:
        CorpusError: it is not UTF-8.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A byte order mark is not among the bytes that utf-8-sig counts.
        at = error.start + len(data) - len(error.object)
        line = data.count(b"\n", 0, at) + 1
        raise CorpusError(
            f"{path} is not UTF-8: byte {at} (0x{data[at]:02x}, line {line}) cannot be decoded ({error.reason}). "
            "Save it as UTF-8"
        ) from error


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, without their ends. What raises is as in `utf8`.

    Only line ends that editors write count: `str.splitlines` would also cut at form feeds and line separators.
    """
    lines = utf8(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]

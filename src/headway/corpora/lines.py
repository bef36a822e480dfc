"""Read the lines of a text file, split as editors split them."""

from __future__ import annotations

from pathlib import Path

from headway.errors import CorpusError


def utf8(path: Path) -> str:
    """Return the content of a file without its byte order mark.

    Raises:
        CorpusError: the file is not UTF-8.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # `error.start` does not count the byte order mark.
        at = error.start + len(data) - len(error.object)
        line = data.count(b"\n", 0, at) + 1
        raise CorpusError(
            f"{path} is not UTF-8: byte {at} (0x{data[at]:02x}, line {line}) cannot be decoded ({error.reason}). "
            "Save it as UTF-8"
        ) from error


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file without their line ends. It raises the errors of `utf8`.

    `str.splitlines` is not used, because it also splits at form feeds and line separators.
    """
    lines = utf8(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]

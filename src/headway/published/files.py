"""Read tables of others: CSV, plain or gzipped, with every cell as text."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import polars as pl

from headway.errors import UsageError
from headway.text import unicode_name

_LARGEST = 2.0**53  # a larger whole number is not exact as a float


@dataclass(frozen=True)
class Source:
    """A file to import. `name` is unique among the files of one import."""

    path: Path
    name: str
    sha256: str

    def identity(self) -> dict[str, str]:
        return {"name": self.name, "sha256": self.sha256}


def open_sources(files: Sequence[str | PathLike[str]] | str | PathLike[str]) -> list[Source]:
    """Check that `files` are files, and hash them.

    Two files of one name are told apart by their folders. A file that is given twice stands twice.

    Raises:
        UsageError: there are no files, or one is not a file or cannot be read.
    """
    paths = require_files([files] if isinstance(files, str | PathLike) else files)
    names = {path: _unique_name(path, paths) for path in paths}
    return [Source(path, names[path], _hash(path)) for path in paths]


def _unique_name(path: Path, paths: Sequence[Path]) -> str:
    """The name of the file, after as many folders as tell it from the other files."""
    others = [other.absolute().parts for other in paths if other != path]
    own = path.absolute().parts
    for n in range(1, len(own)):
        if not any(other[-n:] == own[-n:] for other in others):
            return "/".join(unicode_name(Path(part)) for part in own[-n:])
    return unicode_name(path)


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def require_files(paths: Sequence[str | PathLike[str]]) -> list[Path]:
    """Expand `~` in `paths` and check that they are files.

    Raises:
        UsageError: there are no paths, or one is not a file.
    """
    if not paths:
        raise UsageError("no file to import: name one or more files, such as heads.csv.gz")
    files = [Path(path).expanduser() for path in paths]
    for file in files:
        if not file.is_file():
            raise UsageError(f"{file} is not a file: name the file to import, such as heads.csv or heads.csv.gz")
    return files


def read_csv(path: Path) -> pl.DataFrame:
    """Read a CSV file, plain or gzipped. Cells are text; NA, NaN and empty ones are null.

    Raises:
        UsageError: the file cannot be read, is not UTF-8, or has no rows.
    """
    try:
        # All cells are read as text: a type guessed from the first rows fails at numbers in R's format, such as 1e+05.
        raw = pl.read_csv(path, infer_schema=False, null_values=["NA", "NaN", "nan", ""])
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "utf-8" in reason:
            raise _not_utf8(path) from error
        raise UsageError(f"{path} cannot be read as CSV: {reason}") from error
    if any("\ufffd" in name for name in raw.columns):  # polars replaces wrong bytes in a header without an error
        raise _not_utf8(path)
    return raw


def _not_utf8(path: Path) -> UsageError:
    """Make the error for a file that is not UTF-8. It names the first wrong cell."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode("utf-8", "surrogateescape")
    rows = csv.reader(io.StringIO(text, newline=""))
    header = next(rows)
    cells = ((column, row, cell) for row, cells in enumerate(rows, 1) for column, cell in enumerate(cells))
    wrong = next(((column, row, cell) for column, row, cell in cells if re.search("[\udc80-\udcff]", cell)), None)
    if re.search("[\udc80-\udcff]", "".join(header)) or wrong is None or wrong[0] >= len(header):
        where = "in its header"
    else:
        column, row, cell = wrong
        where = f"in column {header[column]}, row {row}: {cell.encode('utf-8', 'surrogateescape')!r}"
    return UsageError(f"{path} is not UTF-8 {where}. Save it as UTF-8 (CSV UTF-8 in a spreadsheet) and import that")


def whole_numbers(path: Path, raw: pl.DataFrame, name: str) -> pl.Series:
    """Column `name` as Int64.

    Raises:
        UsageError: a cell is empty, or no whole number below 2**53.
    """
    cast = raw[name].cast(pl.Float64, strict=False)
    wrong = ~cast.is_finite().fill_null(False) | (cast != cast.floor()) | (cast.abs() >= _LARGEST)
    _require_right(path, raw, name, wrong, "a whole number")
    return cast.cast(pl.Int64)


def finite_numbers(path: Path, raw: pl.DataFrame, name: str) -> pl.Series:
    """Column `name` as Float64; empty cells are null.

    Raises:
        UsageError: a cell is no finite number.
    """
    cast = raw[name].cast(pl.Float64, strict=False)
    wrong = raw[name].is_not_null() & ~cast.is_finite().fill_null(False)
    _require_right(path, raw, name, wrong, "a finite number, or NA where there is none")
    return cast


def require_filled(path: Path, raw: pl.DataFrame, name: str) -> None:
    """Check that no cell of column `name` is empty.

    Raises:
        UsageError: one is. The message names its row.
    """
    if raw[name].null_count():
        row = int(raw[name].is_null().arg_max() or 0)
        raise UsageError(f"{path}: column {name} is empty in row {row + 1}")


def _require_right(path: Path, raw: pl.DataFrame, name: str, wrong: pl.Series, kind: str) -> None:
    wrong = wrong.fill_null(True)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise UsageError(f"{path}: column {name} must hold {kind}; row {row + 1} has {raw[name][row]!r}")

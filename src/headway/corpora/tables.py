"""Read texts from a column of a table: spreadsheets with all their sheets, CSV, TSV, JSON lines, Parquet."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import polars as pl

from headway.corpora.lines import read_lines, utf8
from headway.errors import CorpusError
from headway.text import listed

_Read = TypeVar("_Read")

SHEETS = (".xlsx", ".xls", ".ods")
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


class Column(NamedTuple):
    """The cells of one column.

    Attributes:
        name: name of the column.
        cells: in the order of rows, sheet after sheet.
        sheets: for a workbook, the name of each sheet with this column and its number of texts.
    """

    name: str
    cells: list[str | None]
    sheets: tuple[tuple[str, int], ...] = ()


def read_column(path: Path, column: str | None, sheets: Sequence[str] = ()) -> Column:
    """Read a column of the table at `path`.

    Args:
        column: name of the column; None if the table has a single one.
        sheets: sheets of a workbook to read; if empty, all that have the column.

    Raises:
        CorpusError: the table cannot be read, has no such column or sheet, or the column holds no text.
    """
    kind = path.suffix.lower()
    if kind in SHEETS:
        return _of_workbook(path, _chosen(path, _workbook(path), sheets), column)
    if sheets:
        raise CorpusError(f"{path} has no sheets: write {path}:COLUMN, without [{','.join(sheets)}]")
    table = _reading(path, READERS[kind])
    name = column or _only_column(path, table.columns, f"{path}:COLUMN")
    return Column(name, _texts(str(path), table, name))


def _of_workbook(path: Path, tables: Mapping[str, pl.DataFrame], column: str | None) -> Column:
    described = "; ".join(f"sheet {name!r}: {_names(table.columns)}" for name, table in tables.items())
    if column is None:
        names = {tuple(table.columns) for table in tables.values() if table.width}
        if len(names) != 1 or len(next(iter(names))) != 1:
            raise CorpusError(f"{path}: say which column holds the texts, as {path}:COLUMN. It has {described}")
        column = next(iter(names))[0]
    having = {name: table for name, table in tables.items() if column in table.columns}
    if not having:
        raise CorpusError(f"{path} has no column {column!r}. It has {described}")
    cells = {name: _texts(f"sheet {name!r} of {path}", table, column) for name, table in having.items()}
    counts = tuple((name, sum(cell is not None and bool(cell.strip()) for cell in own)) for name, own in cells.items())
    return Column(column, [cell for own in cells.values() for cell in own], counts)


def _chosen(path: Path, tables: dict[str, pl.DataFrame], sheets: Sequence[str]) -> dict[str, pl.DataFrame]:
    absent = [sheet for sheet in sheets if sheet not in tables]
    if absent:
        raise CorpusError(f"{path} has no sheet {absent[0]!r}: it has {_names(list(tables))}")
    return {sheet: tables[sheet] for sheet in sheets} if sheets else tables


def _workbook(path: Path) -> dict[str, pl.DataFrame]:
    def read(path: Path) -> dict[str, pl.DataFrame]:
        with _silent("fastexcel"):  # it logs the names of empty columns
            return pl.read_excel(path, sheet_id=0, infer_schema_length=None, raise_if_empty=False)

    return _reading(path, read)


@contextmanager
def _silent(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)  # child loggers inherit the level
    try:
        yield
    finally:
        logger.setLevel(before)


def _texts(where: str, table: pl.DataFrame, column: str) -> list[str | None]:
    if column not in table.columns:
        raise CorpusError(f"{where} has no column {column!r}: it has {_names(table.columns)}")
    cells = table[column]
    if cells.dtype not in (pl.String, pl.Null, pl.Categorical):
        raise CorpusError(f"the column {column!r} of {where} holds {cells.dtype}, not text. Choose another column")
    return cells.cast(pl.String).to_list()


def _only_column(path: Path, columns: Sequence[str], example: str) -> str:
    if len(columns) != 1:
        raise CorpusError(
            f"{path} is a table: say which column holds the texts, as {example}. It has {_names(columns)}"
        )
    return columns[0]


def _names(names: Sequence[str]) -> str:
    return listed([repr(name) for name in names]) or "none"


def _reading(path: Path, read: Callable[[Path], _Read]) -> _Read:
    """Return `read(path)`. Every failure becomes one error message."""
    try:
        return read(path)
    except (CorpusError, OSError):
        raise
    except Exception as error:  # polars and its engines raise many kinds of exceptions
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise CorpusError(f"{path} cannot be read as a {path.suffix} table: {reason}") from error


def _csv(path: Path) -> pl.DataFrame:
    text = utf8(path)
    header = text.split("\n", 1)[0]
    for separator, name in _SEPARATORS.items():
        if separator in header and "," not in header:
            raise CorpusError(
                f"{path} separates its columns by {name} instead of commas: save it with commas, or with tabs as .tsv"
            )
    return pl.read_csv(io.BytesIO(text.encode()), infer_schema=False)


def _tsv(path: Path) -> pl.DataFrame:
    """Read tab-separated text.

    By the format's definition a tab always ends a cell and a line end a row, so quotes are ordinary characters. But
    spreadsheets quote cells. So quotes are removed in two cases: if each quote is closed within its line, or if the lines
    would otherwise have different numbers of cells.
    """
    lines = read_lines(path)
    rows = [line for line in lines if line]
    as_they_stand = len({line.count("\t") for line in rows}) == 1
    data, options = io.BytesIO(utf8(path).encode()), {"separator": "\t", "infer_schema": False}
    try:
        unquoted = pl.read_csv(data, **options)  # type: ignore[arg-type]
    except pl.exceptions.PolarsError:
        unquoted = None
    if unquoted is not None and (unquoted.height == len(rows) - 1 or not as_they_stand):
        return unquoted
    data.seek(0)
    return pl.read_csv(data, quote_char=None, **options)  # type: ignore[arg-type]


READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    # Every cell is read as text, because a column of numbers may also be a corpus.
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": lambda path: pl.read_ndjson(io.BytesIO(utf8(path).encode()), infer_schema_length=None),
    ".parquet": pl.read_parquet,
}

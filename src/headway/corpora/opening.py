"""What `--corpus` names -> a corpus.

    texts.txt                 one text per line, UTF-8; blank lines are no texts
    stories.xlsx:Sentence     a column of a table: .xlsx, .xls, .ods (first sheet), .csv, .tsv, .parquet, .jsonl
    nano                      built in: the held-out tenth of the text that the nano suite is trained on

A table with a single column needs no column name. Blank cells are no texts.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import polars as pl

from headway.corpora.corpus import Corpus
from headway.errors import CorpusError


def open_corpus(spec: str | PathLike[str]) -> Corpus:
    """The corpus that `spec` names: a built-in name, FILE.txt, or TABLE:COLUMN.

    A file called like a built-in corpus is reached as ./NAME. A colon in a file's name is no obstacle: the longest
    beginning of `spec` that is a file is the file, so C:\\stories.csv:Sentence and a:b.txt mean what they say.

    Raises:
        CorpusError: the file is not there, not UTF-8, of an unknown kind, lacks the column, or holds no text.
    """
    spec = str(spec)
    if spec in BUILT_IN:
        return BUILT_IN[spec]()
    path, column = _split(spec)
    kind = path.suffix.lower()
    try:
        if kind == ".txt":
            return Corpus.of(path.name, _lines(path, column))
        if kind not in _TABLES:
            raise CorpusError(
                f"{path} is of a kind that holds no corpus ({kind or 'no ending'}): give a .txt with one text per "
                f"line, or a table ({', '.join(_TABLES)}) with its column, such as stories.csv:text"
            )
        name, texts = _column(path, _TABLES[kind](path), column)
    except OSError as error:
        raise CorpusError(f"the corpus {path} cannot be read: {error.strerror or error}") from error
    return Corpus.of(f"{path.name}:{name}", texts)


def _nano() -> Corpus:
    from headway.suites.nano import held_out

    return Corpus.of("nano", held_out())


BUILT_IN: dict[str, Callable[[], Corpus]] = {"nano": _nano}


def _split(spec: str) -> tuple[Path, str | None]:
    """The file and the column, if any, that `spec` names."""
    colons = [at for at, character in enumerate(spec) if character == ":"]
    for end in [len(spec), *reversed(colons)]:
        if Path(spec[:end]).is_file():
            return Path(spec[:end]), spec[end + 1 :] or None
    if Path(spec).is_dir():
        raise CorpusError(f"the corpus {spec} is a folder: give a file, such as {Path(spec) / 'texts.txt'}")
    # A colon in second place belongs to a drive.
    asked = spec[: next((at for at in colons if at > 1), len(spec))]
    raise CorpusError(
        f"no corpus {asked!r}: there is no such file (looked in {Path.cwd()}), and the built-in ones are "
        f"{', '.join(BUILT_IN)}"
    )


def _utf8(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A byte order mark is not among the bytes that utf-8-sig counts.
        at = error.start + len(data) - len(error.object)
        line = data.count(b"\n", 0, at) + 1
        raise CorpusError(
            f"{path} is not UTF-8: byte {at} (0x{data[at]:02x}, line {line}) cannot be decoded ({error.reason}); "
            "save it as UTF-8"
        ) from error


def _lines(path: Path, column: str | None) -> list[str]:
    if column is not None:
        raise CorpusError(f"{path} is a text file and has no column {column!r}: give {path} alone, each line is a text")
    # Only the ends of lines that editors write: str.splitlines would also cut at form feeds and the like.
    lines = _utf8(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def _column(path: Path, table: pl.DataFrame, column: str | None) -> tuple[str, list[str | None]]:
    """The name and the cells of `column`, or of the only column there is."""
    listed = ", ".join(table.columns)
    if column is None:
        if table.width != 1:
            raise CorpusError(f"{path} is a table: say which column holds the texts, as {path}:COLUMN; it has {listed}")
        column = table.columns[0]
    if column not in table.columns:
        raise CorpusError(f"{path} has no column {column!r}: it has {listed}")
    cells = table[column]
    if cells.dtype not in (pl.String, pl.Null, pl.Categorical):
        raise CorpusError(f"the column {column!r} of {path} holds {cells.dtype}, not text: {path} has {listed}")
    return column, cells.cast(pl.String).to_list()


def _reader(read: Callable[[Path], pl.DataFrame]) -> Callable[[Path], pl.DataFrame]:
    """`read` with whatever it fails with told as one message."""

    def reading(path: Path) -> pl.DataFrame:
        try:
            return read(path)
        except (CorpusError, OSError):
            raise
        except Exception as error:  # polars, and each engine below it, raise kinds of their own
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            raise CorpusError(f"{path} cannot be read as a {path.suffix} table: {reason}") from error

    return reading


def _text_table(read: Callable[..., pl.DataFrame], **options: Any) -> Callable[[Path], pl.DataFrame]:
    return _reader(lambda path: read(io.BytesIO(_utf8(path).encode()), **options))


_excel = _reader(lambda path: pl.read_excel(path, infer_schema_length=None))
_TABLES: dict[str, Callable[[Path], pl.DataFrame]] = {
    # Every cell as text: a column of numbers is as good a text as any if it is asked for.
    ".csv": _text_table(pl.read_csv, infer_schema=False),
    ".tsv": _text_table(pl.read_csv, infer_schema=False, separator="\t"),
    ".jsonl": _text_table(pl.read_ndjson, infer_schema_length=None),
    ".parquet": _reader(pl.read_parquet),
    ".xlsx": _excel,
    ".xls": _excel,
    ".ods": _excel,
}

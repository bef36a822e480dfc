"""Open the corpus that `--corpus` names.

    texts.txt                    one text per line, UTF-8; blank lines are left out
    stories.xlsx:Sentence        a column of a table: .xlsx, .xls, .ods, .csv, .tsv, .parquet, .jsonl
    stories.xlsx[A,B]:Sentence   some sheets of a workbook; without brackets, every sheet that has the column
    nano                         built in: the held-out tenth of the nano suite's text

A table with a single column needs no column name. Blank cells are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from headway.corpora.corpus import Corpus
from headway.corpora.lines import read_lines
from headway.corpora.tables import READERS, SHEETS, read_column
from headway.errors import CorpusError
from headway.text import unicode_name


def open_corpus(spec: str | PathLike[str]) -> Corpus:
    """Open a corpus: a built-in name, FILE.txt, TABLE:COLUMN or WORKBOOK[SHEETS]:COLUMN.

    Write ./NAME for a file with the name of a built-in corpus. File names may contain colons and brackets, such as
    C:\\stories.csv:Sentence and a:b.txt: the longest prefix of `spec` that is a file is taken as the file.

    Raises:
        CorpusError: the file is missing, not UTF-8 or of an unknown kind, lacks the sheet or column, or holds no text.
    """
    spec = str(spec)
    if spec in BUILT_IN:
        return BUILT_IN[spec]()
    asked = _split(spec)
    path, kind = asked.path, asked.path.suffix.lower()
    try:
        if kind == ".txt":
            if asked.column or asked.sheets:
                raise CorpusError(
                    f"{path} is a text file, which has no sheets or columns: give {path} alone, with one text per line"
                )
            return Corpus.of(unicode_name(path), read_lines(path))
        if kind not in (*READERS, *SHEETS):
            raise CorpusError(
                f"{path} is not a supported kind of file ({kind or 'no ending'}): give a .txt with one text per "
                f"line, or a table ({', '.join((*READERS, *SHEETS))}) with its column, such as stories.csv:text"
            )
        column = read_column(path, asked.column, asked.sheets)
    except OSError as error:
        raise CorpusError(f"the corpus {path} cannot be read: {error.strerror or error}") from error
    sheets = f"[{','.join(asked.sheets)}]" if asked.sheets else ""
    return Corpus.of(f"{unicode_name(path)}{sheets}:{column.name}", column.cells, column.sheets)


def _nano() -> Corpus:
    from headway.nano import held_out

    return Corpus.of("nano", held_out())


BUILT_IN: dict[str, Callable[[], Corpus]] = {"nano": _nano}


class _Asked(NamedTuple):
    path: Path
    sheets: tuple[str, ...] = ()
    column: str | None = None


_AFTER_FILE = re.compile(r"(?:\[(?P<sheets>[^\]]+)\])?(?::(?P<column>.*))?", re.DOTALL)


def _split(spec: str) -> _Asked:
    """Split `spec` into a file and, if given, its sheets and column."""
    spec = str(Path(spec).expanduser()) if spec.startswith("~") else spec
    ends = [len(spec), *(at for at in range(len(spec) - 1, 0, -1) if spec[at] in ":[")]
    for end in ends:
        rest = _AFTER_FILE.fullmatch(spec[end:])
        if rest and Path(spec[:end]).is_file():
            sheets = tuple(name.strip() for name in (rest["sheets"] or "").split(",") if name.strip())
            return _Asked(Path(spec[:end]), sheets, rest["column"] or None)
    if Path(spec).is_dir():
        raise CorpusError(f"the corpus {spec} is a folder: give a file, such as {Path(spec) / 'texts.txt'}")
    # A colon in second position belongs to a Windows drive.
    asked = spec[: next((at for at in reversed(ends) if at > 1), len(spec))]
    raise CorpusError(
        f"no corpus {asked!r}: there is no such file (looked in {Path.cwd()}). Built-in corpora: {', '.join(BUILT_IN)}"
    )

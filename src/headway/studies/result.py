"""What a study hands over: numbers by name, tables by name, and notes for the reader."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from headway.errors import RunDirectoryError, StorageError
from headway.store.directory import RunDirectory, safe_name
from headway.store.files import require_regular, to_json, write_whole

_OWN_KEYS = ("study", "notes", "sources", "files", "seal")


@dataclass(frozen=True)
class Result:
    """A study's outcome: numbers for the text, tables for the figures.

    Attributes:
        study: the study's name; its files are `analysis/STUDY.json` and `analysis/STUDY.TABLE.parquet`.
        values: nested dicts and lists of numbers, strings, booleans, and None for a number that does not exist.
        tables: tidy frames by name, every column ready to be drawn.
        notes: sentences on the data that the reader should know before believing the numbers.
        sources: for each table of the run directory that was studied, a hash of what it held then.
    """

    study: str
    values: dict[str, Any]
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", as_json(self.values))

    def save(self, rundir: RunDirectory) -> None:
        """Writes the tables, then the JSON with their hashes and its own; tables of an earlier result are removed.

        A command that is killed meanwhile leaves tables that the JSON does not know, which `load` notices.

        Raises:
            StorageError: they cannot be written.
        """
        safe_name(self.study, "study")
        encoded = {_table_path(rundir, self.study, name): _parquet(frame) for name, frame in self.tables.items()}
        files = {name: _hash(data) for name, data in zip(self.tables, encoded.values(), strict=True)}
        document = {"study": self.study, "notes": self.notes, "sources": self.sources, "files": files, **self.values}
        for path, data in encoded.items():
            write_whole(path, data)
        write_whole(rundir.analysis / f"{self.study}.json", to_json({**document, "seal": _hash(to_json(document))}))
        kept = {path.name for path in encoded}
        for path in rundir.analysis.glob(f"{self.study}.*.parquet"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    @classmethod
    def load(cls, rundir: RunDirectory, study: str) -> Result:
        """The result of `study` in `rundir`.

        Raises:
            RunDirectoryError: it has not been analysed.
            StorageError: a file of the result is gone, or is not the one that was saved with the others.
        """
        path = rundir.analysis / f"{safe_name(study, 'study')}.json"
        if not path.exists():
            raise RunDirectoryError(f"{rundir.path} holds no result of {study!r}: run `headway analyze` on it first")
        try:
            values = _sealed(path, study)
            tables = {
                name: pl.read_parquet(io.BytesIO(_as_saved(_table_path(rundir, study, name), digest)))
                for name, digest in values["files"].items()
            }
        except (OSError, ValueError, KeyError, RecursionError, pl.exceptions.PolarsError) as error:
            raise StorageError(
                f"the result of {study!r} in {rundir.path} is not whole ({error}). Run `headway analyze {rundir.path}` again"
            ) from error
        numbers = {key: value for key, value in values.items() if key not in _OWN_KEYS}
        return cls(study, numbers, tables, values["notes"], values["sources"])

    def changed_since(self, rundir: RunDirectory) -> list[str]:
        """The tables of `rundir` that hold other partitions now than when they were studied."""
        return [table for table, then in self.sources.items() if rundir.contents(table) != then]


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sealed(path: Path, study: str) -> dict[str, Any]:
    """The JSON at `path`, whose hash over all else it holds itself.

    Raises:
        ValueError: it was edited, or is of another study.
    """
    require_regular(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    rest = {key: value for key, value in document.items() if key != "seal"}
    if document.get("seal") != _hash(to_json(rest)):
        raise ValueError(f"{path.name} was changed after it was saved")
    if document["study"] != study:
        raise ValueError(f"{path.name} holds the study {document['study']!r}")
    return document


def _as_saved(path: Path, digest: str) -> bytes:
    """The bytes of `path`.

    Raises:
        ValueError: they are not those that were saved with the result.
    """
    require_regular(path)
    data = path.read_bytes()
    if _hash(data) != digest:
        raise ValueError(f"{path.name} is of another analysis, or was changed")
    return data


def _table_path(rundir: RunDirectory, study: str, table: str) -> Path:
    return rundir.analysis / f"{study}.{safe_name(table, 'table name')}.parquet"


def as_json(value: Any) -> Any:
    """`value` with numpy's numbers as Python's and NaN and infinities, which JSON lacks, as None."""
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [as_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

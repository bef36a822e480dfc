"""What a study hands over: numbers by name, tables by name, and notes for the reader."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from headway.errors import RunDirectoryError, StorageError
from headway.rundir import RunDirectory, safe_name
from headway.whole_files import to_json, write_whole

_OWN_KEYS = ("study", "notes", "table_names")


@dataclass(frozen=True)
class Result:
    """A study's outcome: numbers for the text, tables for the figures.

    Attributes:
        study: the study's name; its files are `analysis/STUDY.json` and `analysis/STUDY.TABLE.parquet`.
        values: nested dicts and lists of numbers, strings, booleans, and None for a number that does not exist.
        tables: tidy frames by name, every column ready to be drawn.
        notes: sentences on the data that the reader should know before believing the numbers.
    """

    study: str
    values: dict[str, Any]
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", as_json(self.values))

    def save(self, rundir: RunDirectory) -> None:
        """Writes the tables, then the JSON that names them; a table of an earlier run that is no more goes away.

        Raises:
            StorageError: the place cannot be written to.
        """
        safe_name(self.study, "study")
        for name, frame in self.tables.items():
            buffer = io.BytesIO()
            frame.write_parquet(buffer)
            write_whole(_table_path(rundir, self.study, name), buffer.getvalue())
        own = {"study": self.study, "notes": self.notes, "table_names": list(self.tables)}
        write_whole(rundir.analysis / f"{self.study}.json", to_json(own | self.values))
        kept = {_table_path(rundir, self.study, name).name for name in self.tables}
        for path in rundir.analysis.glob(f"{self.study}.*.parquet"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    @classmethod
    def load(cls, rundir: RunDirectory, study: str) -> Result:
        """The result of `study` in `rundir`.

        Raises:
            RunDirectoryError: it has not been analysed.
            StorageError: a file of the result is damaged or gone.
        """
        path = rundir.analysis / f"{safe_name(study, 'study')}.json"
        if not path.exists():
            raise RunDirectoryError(f"{rundir.path} holds no result of {study!r}: run `headway analyze` on it first")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            own = {key: values.pop(key) for key in _OWN_KEYS}
            tables = {
                name: pl.read_parquet(io.BytesIO(_table_path(rundir, study, name).read_bytes()))
                for name in own["table_names"]
            }
        except (OSError, ValueError, KeyError, AttributeError, pl.exceptions.PolarsError) as error:
            raise StorageError(
                f"the result of {study!r} in {rundir.path} is damaged ({type(error).__name__}: {error}): "
                "run `headway analyze` again"
            ) from error
        return cls(own["study"], values, tables, own["notes"])


def _table_path(rundir: RunDirectory, study: str, table: str) -> Any:
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

"""The result of a study: findings, numbers by name, tables by name, and notes for the reader."""

from __future__ import annotations

import hashlib
import html
import io
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from headway.errors import RunDirectoryError, StorageError
from headway.store.directory import RunDirectory, safe_name
from headway.store.files import require_regular, to_json, write_whole
from headway.text import count

_OWN_KEYS = ("study", "subject", "findings", "notes", "sources", "made", "files", "seal")


@dataclass(frozen=True)
class Finding:
    """One finding of a study: its numbers, and the sentences made from them.

    Code finds it by `section` and `name` and takes its numbers from `values`. It never searches the sentences.

    Attributes:
        section: the question that it answers.
        name: its name, unique within the section.
        answer: the first sentence, which answers the question by itself.
        more: further sentences with numbers and caveats, the most important number first.
        values: the numbers in the sentences.
        key: whether the report's summary shows it.
    """

    section: str
    name: str
    answer: str
    more: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    key: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", as_json(self.values))

    @classmethod
    def of(cls, section: str, name: str, text: Sequence[str | None], values: Mapping[str, Any], key: bool) -> Finding:
        """Make a finding of several sentences. The first one is the answer; None and empty ones are left out."""
        answer, *more = filter(None, text)
        return cls(section, name, answer, more, dict(values), key)

    @property
    def text(self) -> str:
        return " ".join([self.answer, *self.more])


@dataclass(frozen=True, repr=False)
class Result:
    """The result of a study: findings for the text, tables for the figures.

    Attributes:
        study: the study's name.
        subject: what was studied, such as a score. The files are `analysis/STUDY/SUBJECT.json` and
            `analysis/STUDY/SUBJECT.TABLE.parquet`.
        values: nested dicts and lists of numbers, strings, booleans, and None for a number that does not exist.
        tables: tidy frames by name, with all columns that figures need.
        notes: caveats about the data.
        found: the findings, in the order of the report.
        sources: for each table of the run directory that was studied, a hash of its content at that time.
        made: the options, code and versions it was computed with; see `headway.studies.reuse.making`.
    """

    study: str
    subject: str
    values: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    found: list[Finding] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", as_json(self.values))

    def __repr__(self) -> str:
        return f"<Result {self.key}: {count(len(self.found), 'finding')}, {count(len(self.tables), 'table')}>"

    def _repr_html_(self) -> str:
        """The key findings, for a notebook."""
        items = "".join(
            f"<li><b>{html.escape(finding.answer)}</b> {html.escape(' '.join(finding.more))}</li>"
            for finding in self.headline
        )
        return f"<p><b>{html.escape(self.key)}</b></p><ul>{items}</ul>"

    @property
    def key(self) -> str:
        """STUDY/SUBJECT, the path of the result in `analysis/`."""
        return f"{self.study}/{self.subject}"

    def findings(self, section: str) -> list[Finding]:
        """The findings of one section, in order."""
        return [finding for finding in self.found if finding.section == section]

    @property
    def headline(self) -> list[Finding]:
        """The key findings, in order."""
        return [finding for finding in self.found if finding.key]

    def find(self, section: str, name: str, *text: str | None, key: bool = True, **values: Any) -> None:
        """Add the finding `section`, `name` with its sentences and numbers. None and empty sentences are left out."""
        self.found.append(Finding.of(section, name, text, values, key))

    def leave_out(self, what: str, reason: str, tables: Collection[str] = ()) -> None:
        """Record in `left_out` that `what` could not be computed, why, and which tables are missing because of it."""
        self.values.setdefault("left_out", []).append({"what": what, "reason": reason, "tables": list(tables)})

    def save(self, rundir: RunDirectory) -> None:
        """Write the tables, then the JSON with their hashes and its own. Tables of an earlier result are removed.

        If the command is killed in between, `load` notices that tables and JSON do not match.

        Raises:
            StorageError: they cannot be written.
        """
        folder = _folder(rundir, self.study)
        safe_name(self.subject, "subject")
        encoded = {_table_path(folder, self.subject, name): _parquet(frame) for name, frame in self.tables.items()}
        files = {name: _hash(data) for name, data in zip(self.tables, encoded.values(), strict=True)}
        document = {
            "study": self.study,
            "subject": self.subject,
            "findings": [asdict(finding) for finding in self.found],
            "notes": self.notes,
            "sources": self.sources,
            "made": self.made,
            "files": files,
            **self.values,
        }
        for path, data in encoded.items():
            write_whole(path, data)
        write_whole(folder / f"{self.subject}.json", to_json({**document, "seal": _hash(to_json(document))}))
        kept = {path.name for path in encoded}
        for path in folder.glob(f"{self.subject}.*.parquet"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    @classmethod
    def load(cls, rundir: RunDirectory, study: str, subject: str) -> Result:
        """Load the result of `study` on `subject` from `rundir`.

        Raises:
            RunDirectoryError: the subject has not been analysed.
            StorageError: a file of the result is missing, or was not saved together with the others.
        """
        folder = _folder(rundir, study)
        path = folder / f"{safe_name(subject, 'subject')}.json"
        if not path.exists():
            raise RunDirectoryError(
                f"{rundir.path} holds no result of {study!r} on {subject!r}: run `headway analyze` on it first"
            )
        try:
            values = _sealed(path, study, subject)
            tables = {
                name: pl.read_parquet(io.BytesIO(_as_saved(_table_path(folder, subject, name), digest)))
                for name, digest in values["files"].items()
            }
            found = [Finding(**finding) for finding in values["findings"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError, pl.exceptions.PolarsError) as error:
            raise StorageError(
                f"the result of {study!r} on {subject!r} in {rundir.path} is not whole ({error}). "
                f"Run `headway analyze {rundir.path}` again"
            ) from error
        numbers = {key: value for key, value in values.items() if key not in _OWN_KEYS}
        return cls(study, subject, numbers, tables, values["notes"], found, values["sources"], values.get("made", {}))

    @staticmethod
    def saved(rundir: RunDirectory, study: str) -> list[str]:
        """The subjects of which `rundir` holds a result of `study`, by name."""
        return sorted(path.stem for path in _folder(rundir, study).glob("*.json"))

    def changed_since(self, rundir: RunDirectory) -> list[str]:
        """Names of the tables whose partitions have changed since they were studied."""
        return [table for table, then in self.sources.items() if rundir.contents(table) != then]


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sealed(path: Path, study: str, subject: str) -> dict[str, Any]:
    """Read the JSON at `path` and check the hash that it contains.

    Raises:
        ValueError: the file was edited, or it is the result of another study or subject.
    """
    require_regular(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    rest = {key: value for key, value in document.items() if key != "seal"}
    if document.get("seal") != _hash(to_json(rest)):
        raise ValueError(f"{path.name} was changed after it was saved")
    if (document["study"], document["subject"]) != (study, subject):
        raise ValueError(f"{path.name} holds the study {document['study']!r} on {document['subject']!r}")
    return document


def _as_saved(path: Path, digest: str) -> bytes:
    """Read the bytes of `path`.

    Raises:
        ValueError: they differ from those that were saved with the result.
    """
    require_regular(path)
    data = path.read_bytes()
    if _hash(data) != digest:
        raise ValueError(f"{path.name} is of another analysis, or was changed")
    return data


def _folder(rundir: RunDirectory, study: str) -> Path:
    return rundir.analysis / safe_name(study, "study")


def _table_path(folder: Path, subject: str, table: str) -> Path:
    return folder / f"{subject}.{safe_name(table, 'table name')}.parquet"


def as_json(value: Any) -> Any:
    """Convert `value` for JSON: NumPy's numbers to Python's, NaN and infinities to None."""
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [as_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

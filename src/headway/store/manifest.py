"""What a run directory says of itself in manifest.json: how each of its tables was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class TableRecord:
    """How one table was made, and from what.

    Attributes:
        identity: all that decides its numbers: suite, corpus, scores, seeds, versions of the definitions.
        checkpoints: the keys `RUN@STEP` that were asked for, sorted.
        asked: provenance, which does not decide numbers: the words of `--where`, the device.
        sources: each run's repository or folder.
        commits: each Hub checkpoint's commit, by key.
        begun, continued: when the first and the last command that computed a part of it started, in UTC as ISO 8601.
        versions: every set of package versions that the table was made with.
        used: what became of settings that checkpoints may not allow, such as the length of repeated texts: by name the
            value, or the value of each key where they differ.
    """

    identity: dict[str, Any]
    checkpoints: list[str]
    asked: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    begun: str = ""
    continued: str = ""
    versions: list[dict[str, str]] = field(default_factory=list)
    used: dict[str, Any] = field(default_factory=dict)

    @property
    def suite(self) -> str:
        """The suite that was measured; empty for a table that does not name one."""
        return str(self.identity.get("suite", ""))


@dataclass
class Manifest:
    """Attributes:
    tables: by name, in the order in which they were begun.
    headway: the version that wrote the manifest last; empty for one that was never written.
    """

    tables: dict[str, TableRecord] = field(default_factory=dict)
    headway: str = ""

    @classmethod
    def from_json(cls, value: Any) -> Manifest:
        """The manifest in a JSON value; keys that headway does not know are left out.

        Raises:
            ValueError: it is not as headway writes it, with the first thing that is wrong.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"it holds no JSON object but {_cut(value)}")
        tables = value.get("tables", {})
        if not isinstance(tables, Mapping):
            raise ValueError(f"its `tables` are no object but {_cut(tables)}")
        return cls({name: _record(name, entry) for name, entry in tables.items()}, str(value.get("headway", "")))

    def to_json(self) -> dict[str, Any]:
        return {"tables": {name: asdict(record) for name, record in self.tables.items()}, "headway": self.headway}


# The fields that hold an object, and those that hold a list, with what their values or elements are.
_OBJECTS = {"identity": object, "asked": object, "sources": str, "commits": str, "used": object}
_LISTS = {"checkpoints": str, "versions": dict}
_NEEDED = {"identity": "which says what it was made from", "checkpoints": "a list of names RUN@STEP"}


def _record(table: str, entry: Any) -> TableRecord:
    entry = entry if isinstance(entry, Mapping) else {}
    for name, meaning in _NEEDED.items():
        if not _fits(name, entry.get(name)):
            raise ValueError(f"the table {table!r} lacks its `{name}`, {meaning}")
    known = {one.name: entry[one.name] for one in fields(TableRecord) if one.name in entry}
    for name, value in known.items():
        if not _fits(name, value):
            raise ValueError(f"the table {table!r} has a {name!r} of another kind: {_cut(value)}")
    return TableRecord(**known)


def _fits(name: str, value: Any) -> bool:
    """Whether `value` is what the field `name` holds."""
    if name in _OBJECTS:
        return isinstance(value, dict) and all(isinstance(one, _OBJECTS[name]) for one in value.values())
    if name in _LISTS:
        return isinstance(value, list) and all(isinstance(one, _LISTS[name]) for one in value)
    return isinstance(value, str)


def _cut(value: Any, most: int = 40) -> str:
    words = json.dumps(value)
    return words if len(words) <= most else words[: most - 1] + "…"

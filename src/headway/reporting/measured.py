"""Describe what was measured, from the manifest of the run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.reporting.audited import Audited, audited
from headway.reporting.numbers import Cell, Listing
from headway.store.directory import RunDirectory
from headway.store.manifest import TableRecord
from headway.sweep import differing_settings
from headway.text import count, listed, plain


@dataclass(frozen=True)
class Measurement:
    """Attributes:
    suite: the name of what was measured.
    subtitle: one line under the report's title.
    sentences: what the reader should know first.
    facts: labels and values of the most important settings.
    records: everything that the manifest says about each table.
    failures: checkpoints that failed.
    audit: the findings of an audit of the suite, if there was one.
    outdated: studies whose tables have changed since they were analysed.
    """

    suite: str
    subtitle: str
    sentences: list[str]
    facts: list[tuple[str, str]]
    records: list[tuple[str, list[tuple[str, str]]]]
    failures: Listing
    audit: Audited
    outdated: list[str]


def measurement(directory: RunDirectory, outdated: Sequence[str] = ()) -> Measurement:
    """Read the manifest and the failures. `outdated` becomes a part of the result."""
    manifest = directory.manifest()
    tables = manifest.tables
    failed = [line for table in tables for line in directory.failures(table).values()]
    measured = dict.fromkeys(key for record in tables.values() for key in record.checkpoints)
    suites = sorted({record.suite for record in tables.values() if record.suite})
    when = _date(next((record.continued for record in tables.values() if record.continued), ""))
    name = listed(suites) or directory.path.name
    return Measurement(
        suite=name,
        subtitle=" · ".join(part for part in (f"Suite: {name}", f"run directory: {directory.path.name}", when) if part),
        sentences=[
            *_failure_sentence(failed),
            *(sentence for table in tables for sentence in differing_settings(directory, table)),
        ],
        facts=_facts(tables, manifest.headway),
        records=[(name, _record(record)) for name, record in tables.items()],
        failures=Listing(
            [Cell("Checkpoint"), Cell("Why")],
            [[Cell(str(line.get("checkpoint", ""))), Cell(str(line.get("error", "")))] for line in failed],
        ),
        audit=audited(directory, measured),
        outdated=list(outdated),
    )


_MOST_FILES = 6  # the most files that a fact lists; the record of the table has all


def _date(stamp: str) -> str:
    return f"measured {stamp[:10]}" if stamp else ""


def _failure_sentence(failed: list[dict[str, Any]]) -> list[str]:
    if not failed:
        return []
    return [
        f"{count(len(failed), 'checkpoint')} could not be done and {'is' if len(failed) == 1 else 'are'} not in it."
    ]


def _facts(tables: Mapping[str, TableRecord], version: str) -> list[tuple[str, str]]:
    """Corpora, scores, checkpoints and versions, each listed once although several tables may share them."""
    found: dict[tuple[str, str], None] = {}
    for name, record in tables.items():
        identity = record.identity
        corpus = identity.get("corpus")
        if isinstance(corpus, Mapping) and corpus.get("name"):
            found["corpus", plain(corpus)] = None
        if imported := identity.get("imported"):
            more = f" and {len(imported) - _MOST_FILES} more" if len(imported) > _MOST_FILES else ""
            found["imported", plain(imported[:_MOST_FILES]) + more] = None
        if identity.get("scores"):
            found["scores", ", ".join(map(str, identity["scores"]))] = None
        if record.checkpoints:
            found[f"table {name}", count(len(record.checkpoints), "checkpoint") + " asked for"] = None
    if version:
        found["headway", version] = None
    return list(found)


def _record(record: TableRecord) -> list[tuple[str, str]]:
    """The manifest's record of a table, flattened: first the settings that affect its numbers, then how it was run."""
    found = [*_flat("", record.identity), *_flat("used", record.used), *_flat("asked", record.asked)]
    found += [(name, when) for name, when in (("begun", record.begun), ("continued", record.continued)) if when]
    versions = (", ".join(f"{name} {of}" for name, of in one.items()) for one in record.versions)
    return [*found, *(("versions", words) for words in versions)]


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in _flat(f"{prefix} {key}".strip(), item)]
    return [(prefix.replace("_", " "), plain(value))] if value not in (None, "", []) else []

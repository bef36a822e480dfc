"""Describe what was measured, from the manifest of the run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from headway.reporting.audited import Audited, audited, joined
from headway.reporting.numbers import Cell, Listing
from headway.store.directory import RunDirectory
from headway.store.manifest import TableRecord
from headway.store.suite_folders import suites_of
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
    """Read the manifests and the failures of all suites. `outdated` becomes a part of the result."""
    every = suites_of(directory)
    parts = [_of_suite(one, f"{suite}: " if len(every) > 1 else "") for suite, one in every.items()]
    names = list(dict.fromkeys(name for part in parts for name in part.suites))
    name = listed(names) or directory.path.name
    when = next((part.when for part in parts if part.when), "")
    kind = "Suites" if len(names) > 1 else "Suite"
    audits = [part.audit for part in parts if part.audit.sentences]
    return Measurement(
        suite=name,
        subtitle=" · ".join(
            part for part in (f"{kind}: {name}", f"run directory: {directory.path.name}", when) if part
        ),
        sentences=[sentence for part in parts for sentence in part.sentences],
        facts=list(dict.fromkeys(fact for part in parts for fact in part.facts)),
        records=[record for part in parts for record in part.records],
        failures=Listing([Cell("Checkpoint"), Cell("Why")], [row for part in parts for row in part.failures]),
        audit=joined(audits) if audits else parts[0].audit,
        outdated=list(outdated),
    )


class _OfSuite(NamedTuple):
    """What `Measurement` says, of one suite."""

    suites: list[str]
    when: str
    sentences: list[str]
    facts: list[tuple[str, str]]
    records: list[tuple[str, list[tuple[str, str]]]]
    failures: list[list[Cell]]
    audit: Audited


def _of_suite(directory: RunDirectory, prefix: str) -> _OfSuite:
    """Read one suite's manifest and failures. Labels start with `prefix`, which names it beside others."""
    manifest = directory.manifest()
    tables = manifest.tables
    failed = [line for table in tables for line in directory.failures(table).values()]
    measured = dict.fromkeys(key for record in tables.values() for key in record.checkpoints)
    differing = (sentence for table in tables for sentence in differing_settings(directory, table))
    version = [("headway", manifest.headway)] if manifest.headway else []
    return _OfSuite(
        suites=sorted({record.suite for record in tables.values() if record.suite}),
        when=_date(next((record.continued for record in tables.values() if record.continued), "")),
        sentences=[prefix + sentence for sentence in [*_failure_sentence(failed), *differing]],
        facts=[*((prefix + label, value) for label, value in _facts(tables)), *version],
        records=[(prefix + name, _record(record)) for name, record in tables.items()],
        failures=[
            [Cell(prefix + str(line.get("checkpoint", ""))), Cell(str(line.get("error", "")))] for line in failed
        ],
        audit=audited(directory, measured),
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


def _facts(tables: Mapping[str, TableRecord]) -> list[tuple[str, str]]:
    """Corpora, scores and checkpoints, each listed once although several tables may share them."""
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

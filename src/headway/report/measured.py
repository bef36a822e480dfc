"""What was measured, in the words of the run directory's manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headway.report.numbers import Cell, count, listed
from headway.rundir import RunDirectory


@dataclass(frozen=True)
class Listing:
    headings: list[Cell]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Measurement:
    """Attributes:
    suite: the name of what was measured.
    subtitle: one line under the report's title.
    sentences: what the reader should know first.
    facts: label and value, table by table.
    failures: checkpoints that could not be done.
    """

    suite: str
    subtitle: str
    sentences: list[str]
    facts: list[tuple[str, str]]
    failures: Listing


def measurement(directory: RunDirectory) -> Measurement:
    """Reads the manifest and the failures; whatever an older or foreign manifest lacks is left out."""
    manifest = directory.manifest()
    tables: dict[str, Any] = manifest.get("tables", {})
    failed = [line for table in tables for line in directory.failures(table).values()]
    suites = sorted({_suite(entry) for entry in tables.values() if _suite(entry)})
    facts = [fact for name, entry in tables.items() for fact in _facts(name, entry)]
    if manifest.get("headway"):
        facts.append(("headway", str(manifest["headway"])))
    when = _date(next((entry.get("continued") for entry in tables.values() if entry.get("continued")), ""))
    name = listed(suites) or directory.path.name
    return Measurement(
        suite=name,
        subtitle=" · ".join(part for part in (f"Suite: {name}", f"run directory: {directory.path.name}", when) if part),
        sentences=_failure_sentence(failed),
        facts=facts,
        failures=Listing(
            [Cell("Checkpoint"), Cell("Why")],
            [[Cell(str(line.get("checkpoint", ""))), Cell(str(line.get("error", "")))] for line in failed],
        ),
    )


def _suite(entry: Mapping[str, Any]) -> str:
    return str(entry.get("identity", {}).get("suite", ""))


def _date(stamp: str) -> str:
    return f"measured {stamp[:10]}" if stamp else ""


def _failure_sentence(failed: list[dict[str, Any]]) -> list[str]:
    if not failed:
        return []
    return [
        f"{count(len(failed), 'checkpoint')} could not be done and {'is' if len(failed) == 1 else 'are'} not in it."
    ]


def _facts(table: str, entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Everything that the manifest says of a table, flattened: what decided the numbers first, then how it was run."""
    found = [(f"{table}: {label}", text) for label, text in _flat("", entry.get("identity", {}))]
    if entry.get("checkpoints"):
        found.append((f"{table}: checkpoints asked for", f"{len(entry['checkpoints']):,}"))
    found += [(f"{table}: {label}", text) for label, text in _flat("", entry.get("asked", {}))]
    versions = entry.get("versions", {})
    if versions:
        found.append((f"{table}: versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return found


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in _flat(f"{prefix} {key}".strip(), item)]
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return [(prefix.replace("_", " "), str(value))] if value not in (None, "") else []

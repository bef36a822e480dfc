"""The findings of an audit of the suite, with the meaning of each kind of finding."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.integrity.files import MEANING
from headway.reporting.numbers import Cell, Listing
from headway.store.directory import RunDirectory
from headway.text import count, listed

_MANY = 12
_HEADINGS = [Cell("Run"), Cell("What"), Cell("Finding")]
_FLAGS = (
    "A flag is a reason to look at a step or to leave it out: nothing was left out of the numbers here because of one. "
    "A note is as it should be, and only good to know."
)
_NO_FLAGS = "Nothing speaks against the suite, which is no proof that its weights are right."
_SHALLOW = (
    "The weights were not read: NaN, other shapes, and weights of another step or run that differ from it by a little are "
    "not seen that way (headway audit --deep reads them)."
)
_DEEP = (
    "Every value was tested for NaN; distances are those of samples of each matrix, which a few changed weights escape."
)


@dataclass(frozen=True)
class Audited:
    """An audit in a report.

    Attributes:
        sentences: what was audited, and the outcome; empty if there was no audit.
        findings: run, kind and message of each.
        meanings: for each kind of finding, what it means and does not mean.
    """

    sentences: list[str]
    findings: Listing
    meanings: list[tuple[str, str]]


def audited(directory: RunDirectory, measured: Collection[str]) -> Audited:
    """Read the findings that `headway audit SUITE --out DIR` wrote into the run directory.

    Args:
        measured: the checkpoints of the report, as RUN@STEP.
    """
    path = directory.path / "audit.json"
    if not path.exists():
        return Audited([], Listing(_HEADINGS, []), [])
    try:
        return _audited(json.loads(path.read_text(encoding="utf-8")), measured)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        damaged = "audit.json is damaged and is not shown: run headway audit again."
        return Audited([damaged], Listing(_HEADINGS, []), [])


def joined(audits: Sequence[Audited]) -> Audited:
    """The audits of several suites as one."""
    return Audited(
        list(dict.fromkeys(sentence for one in audits for sentence in one.sentences)),
        Listing(_HEADINGS, [row for one in audits for row in one.findings.rows]),
        list(dict.fromkeys(meaning for one in audits for meaning in one.meanings)),
    )


def _audited(found: Mapping[str, Any], measured: Collection[str]) -> Audited:
    findings = found["findings"]
    rows = [
        [Cell(str(one["run"])), Cell(_kind(one) + (" (note)" if one["note"] else "")), Cell(str(one["message"]))]
        for one in findings
    ]
    kinds = dict.fromkeys(str(one["kind"]) for one in findings)
    meanings = [(kind.replace("_", " "), MEANING[kind]) for kind in kinds if kind in MEANING]
    flagged = {f"{one['run']}@{step}" for one in findings if not one["note"] for step in one["steps"]}
    sentences = [
        _what_was_compared(found),
        *_measured_and_flagged([key for key in measured if key in flagged]),
        _FLAGS if flagged else _NO_FLAGS,
        _DEEP if found["deep"] else _SHALLOW,
    ]
    return Audited(sentences, Listing(_HEADINGS, rows), meanings)


def _kind(finding: Mapping[str, Any]) -> str:
    return str(finding["kind"]).replace("_", " ")


def _what_was_compared(found: Mapping[str, Any]) -> str:
    read = "the files’ hashes and sizes, and the weights," if found["deep"] else "the files’ hashes and sizes"
    which = f" ({found['where']})" if found.get("where") else ""
    n, references, flagged = found["n_checkpoints"], found.get("n_references", 0), found["n_flagged"]
    beside = f", and of {count(references, 'last step')} beyond them to compare with" if references else ""
    return (
        f"An audit of {found['suite']}{which} compared {read} of {count(n, 'checkpoint')}{beside}: "
        f"{flagged} of them {'is' if flagged == 1 else 'are'} flagged."
    )


def _measured_and_flagged(keys: list[str]) -> list[str]:
    if not keys:
        return []
    shown = listed(keys) if len(keys) <= _MANY else f"{', '.join(keys[:_MANY])} and {len(keys) - _MANY} more"
    return [f"Of the checkpoints that this report rests on, {len(keys)} {'is' if len(keys) == 1 else 'are'}: {shown}."]

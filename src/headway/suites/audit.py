"""Is the suite what it says it is? Public suites serve wrong or missing weights in places: find them, and warn of them.

found = audit(open_suite("pythia"), "size=2.8b")
found.findings, found.table
found.remember()                  # from now on `flags(checkpoint)` warns of the checkpoints that it concerns
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from headway.progress import Progress
from headway.suites.audit_files import Facts, Finding, find, stated_facts
from headway.suites.audit_weights import Tensors, weight_findings
from headway.suites.checkpoint import Checkpoint, HubSource
from headway.suites.suite import Suite
from headway.whole_files import to_json, write_whole

_SCHEMA = {
    "run": pl.String,
    "size": pl.String,
    "seed": pl.String,
    "step": pl.Int64,
    "revision": pl.String,
    "weights": pl.String,
    "format": pl.String,
    "bytes": pl.Int64,
    "findings": pl.String,
}


@dataclass(frozen=True)
class Audit:
    """What was found, and one row per checkpoint of what it was found from.

    Attributes:
        findings: by run; those that are no `note` are reasons to leave the steps out.
        table: run, size, seed, step, revision, weights (hash of the files; null where they are missing), format, bytes,
            findings (kinds, joined; null where there are none).
        places: each run's repository or folder.
        deep: whether the weights were read.
    """

    suite: str
    findings: tuple[Finding, ...]
    table: pl.DataFrame
    places: Mapping[str, str]
    deep: bool = False

    def to_json(self) -> dict[str, Any]:
        """The findings as JSON, for `audit.json` of a run directory."""
        return {
            "suite": self.suite,
            "deep": self.deep,
            "n_checkpoints": self.table.height,
            "n_flagged": self.table["findings"].count(),
            "findings": [asdict(finding) | {"steps": list(finding.steps)} for finding in self.findings],
        }

    def save(self, directory: Path) -> None:
        """Writes `audit.json` and `audit.parquet` into `directory`.

        Raises:
            StorageError: it cannot be written to.
        """
        import io

        buffer = io.BytesIO()
        self.table.write_parquet(buffer)
        write_whole(directory / "audit.parquet", buffer.getvalue())
        write_whole(directory / "audit.json", to_json(self.to_json()))

    def remember(self) -> None:
        """Keeps the findings in the user's cache folder, where `flags` looks; what an earlier audit found of the same
        steps goes.

        Raises:
            StorageError: the folder cannot be written to.
        """
        audited: dict[str, set[int]] = defaultdict(set)
        for run, step in self.table.select("run", "step").iter_rows():
            audited[run].add(step)
        for run, place in self.places.items():
            said = _remembered(place)
            kept = {step: words for step, words in said.items() if int(step) not in audited[run]}
            for finding in self.findings:
                if finding.run == run and not finding.note:
                    for step in finding.steps:
                        kept.setdefault(str(step), []).append(finding.message)
            write_whole(_memory(place), to_json({"place": place, "flags": kept}))


def audit(
    suite: Suite,
    where: str = "",
    *,
    tensors: Callable[[Path], Tensors] | None = None,
    keep: bool = True,
    progress: Progress | None = None,
) -> Audit:
    """Compares what is stated of the checkpoints' files: hashes, sizes, names. Nothing is downloaded for that.

    Args:
        where: which checkpoints; all of them if empty.
        tensors: opens a folder's weights (`headway.models.tensors.TensorFiles`); if given, the weights are read too:
            distances between steps, NaN, descent from step 0.
        keep: whether weights that are downloaded for it stay in the cache.

    Raises:
        SelectionError: the selection names something unknown.
        CheckpointError: the Hub is out of reach.
    """
    facts = stated_facts(suite, where, progress=progress)
    findings = find(facts)
    if tensors is not None:
        there = [fact.checkpoint for fact in facts if fact.weights]
        findings += weight_findings(there, tensors, keep=keep, progress=progress)
    places = {fact.checkpoint.run: _place(fact.checkpoint) for fact in facts}
    return Audit(suite.name, tuple(findings), _table(facts, findings), places, deep=tensors is not None)


def flags(checkpoint: Checkpoint) -> tuple[str, ...]:
    """What a remembered audit says against `checkpoint`; nothing if there was none."""
    return tuple(_remembered(_place(checkpoint)).get(str(checkpoint.step), ()))


def _table(facts: Sequence[Facts], findings: Sequence[Finding]) -> pl.DataFrame:
    kinds: dict[tuple[str, int], list[str]] = defaultdict(list)
    for finding in findings:
        if not finding.note:
            for step in finding.steps:
                kinds[finding.run, step].append(finding.kind)
    rows = [
        (c.run, c.size, c.seed, c.step, c.revision, fact.weights or None, fact.form or None, fact.n_bytes or None,
         ", ".join(dict.fromkeys(kinds[c.run, c.step])) or None)
        for fact in facts
        for c in [fact.checkpoint]
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def _place(checkpoint: Checkpoint) -> str:
    source = checkpoint.source
    return source.repo if isinstance(source, HubSource) else str(source.path.parent)


def _memory(place: str) -> Path:
    from platformdirs import user_cache_path

    folder = Path(os.environ.get("HEADWAY_CACHE") or user_cache_path("headway")) / "audits"
    return folder / f"{hashlib.sha256(place.encode()).hexdigest()[:24]}.json"


def _remembered(place: str) -> dict[str, list[str]]:
    try:
        return json.loads(_memory(place).read_text(encoding="utf-8"))["flags"]
    except (OSError, ValueError, KeyError):
        return {}  # none, or none that can be read: an audit is advice, and may be made again

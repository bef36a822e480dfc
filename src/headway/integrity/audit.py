"""Audit a suite. Public suites serve some wrong or missing weights: the audit finds them, and later commands warn.

found = audit(open_suite("pythia"), "size=2.8b")
found.findings, found.table
found.remember()                  # from now on `flags(checkpoint)` warns of the affected checkpoints
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from headway.integrity.files import Facts, Finding, find, stated_facts
from headway.integrity.known import Verdict, verdicts
from headway.integrity.losses import Curve, loss_findings
from headway.integrity.memory import cache_folder, place_of, remember
from headway.integrity.signatures import Signatures, Tensors
from headway.integrity.weights import weight_findings
from headway.progress import Progress
from headway.store.files import to_json, write_whole
from headway.suites.suite import Suite

_SCHEMA = {
    "run": pl.String,
    "size": pl.String,
    "seed": pl.String,
    "step": pl.Int64,
    "revision": pl.String,
    "reference": pl.Boolean,
    "weights": pl.String,
    "format": pl.String,
    "bytes": pl.Int64,
    "findings": pl.String,
}


@dataclass(frozen=True)
class Audit:
    """Findings of an audit, and the facts about each checkpoint.

    Attributes:
        where: the selection; all checkpoints if empty.
        findings: ordered by run. A finding that is no `note` is a reason to leave its steps out.
        table: run, size, seed, step, revision, reference (a last step that was not selected but compared with), weights
            (hash of the files; null if they are missing), format, bytes, findings (kinds, joined; null if there are
            none).
        places: repository or folder of each run.
        deep: whether the weights were read.
        verdicts: what the audit says of public reports about its runs.
    """

    suite: str
    findings: tuple[Finding, ...]
    table: pl.DataFrame
    places: Mapping[str, str]
    where: str = ""
    deep: bool = False
    verdicts: tuple[Verdict, ...] = ()

    @property
    def n_flagged(self) -> int:
        """Number of flagged checkpoints, including references."""
        return self.table["findings"].count()

    def to_json(self) -> dict[str, Any]:
        """The findings as JSON, for `audit.json` of a run directory."""
        n_references = int(self.table["reference"].sum())
        return {
            "suite": self.suite,
            "where": self.where,
            "deep": self.deep,
            "n_checkpoints": self.table.height - n_references,
            "n_references": n_references,
            "n_flagged": self.n_flagged,
            "findings": [asdict(finding) | {"steps": list(finding.steps)} for finding in self.findings],
            "reports": [
                {
                    "run": verdict.run,
                    "what": verdict.report.what,
                    "reported": verdict.report.reported,
                    "status": verdict.status,
                    "steps": list(verdict.steps),
                }
                for verdict in self.verdicts
            ],
        }

    def save(self, directory: Path) -> None:
        """Write `audit.json` and `audit.parquet` to `directory`.

        Raises:
            StorageError: the directory cannot be written to.
        """
        buffer = io.BytesIO()
        self.table.write_parquet(buffer)
        write_whole(directory / "audit.parquet", buffer.getvalue())
        write_whole(directory / "audit.json", to_json(self.to_json()))

    def remember(self) -> None:
        """Save the findings in the user's cache folder, where `memory.flags` finds them.

        Raises:
            StorageError: the folder cannot be written to.
        """
        weights: dict[str, dict[int, str]] = defaultdict(dict)
        for run, step, identity in self.table.select("run", "step", "weights").iter_rows():
            weights[run][step] = identity or ""
        messages: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        for finding in self.findings:
            if not finding.note:
                for step in finding.steps:
                    messages[finding.run][step].append(finding.message)
        withdrawn: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
        for verdict in self.verdicts:
            if verdict.steps or verdict.cleared:  # an audit that did not look takes nothing back
                withdrawn[verdict.run][verdict.report.name] = verdict.cleared
        for run, place in self.places.items():
            whole = not self.where.strip()
            remember(place, messages[run], weights[run], deep=self.deep, whole=whole, withdrawn=withdrawn[run])


def audit(
    suite: Suite,
    where: str = "",
    *,
    tensors: Callable[[Path], Tensors] | None = None,
    keep: bool = True,
    losses: Mapping[str, Curve] | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Compare the stated hashes, sizes and names of the checkpoints' files. Nothing is downloaded for that.

    The last step of each run is always compared, even if it is not selected, because wrong weights are mostly late ones.

    Args:
        where: the selection; all checkpoints if empty.
        tensors: opens a folder's weights (`headway.models.tensors.TensorFiles`). If given, the weights are read too, to
            compare distances between steps, NaN, shapes and the similarity to step 0. A small signature of each
            checkpoint is saved in the user's cache folder, so that an interrupted audit can continue.
        keep: whether downloaded weights stay in the Hub's cache.
        losses: steps with their losses on one text, by run, as they were measured. Those of audited steps are compared
            with their neighbours.

    Raises:
        SelectionError: the selection names something unknown.
        CheckpointError: the Hub cannot be reached.
        StorageError: the disk is full.
    """
    facts = stated_facts(suite, where, progress=progress)
    findings = find(facts)
    if tensors is not None:
        signatures = Signatures(cache_folder() / "signatures", tensors, keep_files=keep)
        findings += weight_findings(facts, signatures, progress=progress)
    audited = {(fact.checkpoint.run, fact.checkpoint.step) for fact in facts}
    for run, curve in (losses or {}).items():
        findings += [one for one in loss_findings(run, curve) if (run, one.steps[0]) in audited]
    places = {fact.checkpoint.run: place_of(fact.checkpoint) for fact in facts}
    order = {run: i for i, run in enumerate(places)}
    findings.sort(key=lambda finding: order[finding.run])
    deep = tensors is not None
    said = verdicts(facts, findings, deep, lambda run: suite.checkpoints(_of_run(suite, run)))
    return Audit(suite.name, tuple(findings), _table(facts, findings), places, where, deep, tuple(said))


def _of_run(suite: Suite, run: str) -> str:
    """The selection of all steps of `run`, or of all runs if it is a later stage, which has no name of its own."""
    return f"run={run}" if any(one.name == run for one in suite.runs) else ""


def _table(facts: Sequence[Facts], findings: Sequence[Finding]) -> pl.DataFrame:
    kinds: dict[tuple[str, int], list[str]] = defaultdict(list)
    for finding in findings:
        if not finding.note:
            for step in finding.steps:
                kinds[finding.run, step].append(finding.kind)
    rows = [
        (c.run, c.size, c.seed, c.step, c.revision, fact.reference, fact.weights or None, fact.form or None,
         fact.n_bytes or None, ", ".join(dict.fromkeys(kinds[c.run, c.step])) or None)
        for fact in facts
        for c in [fact.checkpoint]
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")

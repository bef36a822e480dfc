"""What public reports say is wrong with checkpoints of public suites, and whether an audit finds it.

The reports stand in `known.toml`. An audit confirms a report, or withdraws it: then the files have been repaired.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from headway.integrity.files import Facts, Finding
from headway.integrity.memory import cleared, place_of
from headway.suites.checkpoint import Checkpoint, HubSource

CONFIRMED, WITHDRAWN, UNCHECKED = "confirmed", "withdrawn", "unchecked"


@dataclass(frozen=True)
class Report:
    """A public report of wrong checkpoints.

    Attributes:
        suites: names of the suites that hold them.
        repository: the run's repository; `*` stands for any letters.
        steps: first and last step of each range.
        kinds: kinds of findings that confirm it, as in `files.MEANING`.
        what: what is said, in words.
        reported: the address of the report.
        file: the file that is wrong; empty if all are.
        deep: whether only an audit that reads the weights can find it.
    """

    suites: tuple[str, ...]
    repository: str
    steps: tuple[tuple[int, int], ...]
    kinds: tuple[str, ...]
    what: str
    reported: str
    file: str = ""
    deep: bool = False

    @property
    def name(self) -> str:
        """What tells this report from others."""
        return f"{self.repository} {self.steps} {self.reported}"

    def __str__(self) -> str:
        of = self.repository.split("/")[1] + (f", {self.file}" if self.file else "")
        return f"{of}: {self.what} ({self.reported})"

    def concerns(self, checkpoint: Checkpoint) -> bool:
        """Whether the report speaks of `checkpoint`."""
        source = checkpoint.source
        return (
            isinstance(source, HubSource)
            and fnmatchcase(source.repo, self.repository)
            and any(low <= checkpoint.step <= high for low, high in self.steps)
        )


@dataclass(frozen=True)
class Verdict:
    """What an audit says of a report about one run.

    Attributes:
        status: `CONFIRMED`; `WITHDRAWN` if the audit looked at all of its steps and found nothing; else `UNCHECKED`.
        steps: the steps at which the audit found what is reported.
        cleared: the steps at which it did not, if it looked at all.
    """

    report: Report
    run: str
    status: str
    steps: tuple[int, ...] = ()
    cleared: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.run}: {self.report.what} ({self.report.reported})"


@cache
def reports() -> tuple[Report, ...]:
    """All reports, in the order of the file."""
    text = (Path(__file__).parent / "known.toml").read_text(encoding="utf-8")
    return tuple(_report(values) for values in tomllib.loads(text)["report"])


def _report(values: dict[str, Any]) -> Report:
    texts = {name: tuple(values[name]) for name in ("suites", "kinds")}
    steps = tuple(_range(step) for step in values["steps"])
    return Report(**{**values, **texts, "steps": steps})


def _range(step: int | str) -> tuple[int, int]:
    low, _, high = str(step).partition("..")
    return int(low), int(high or low)


def of_suite(suite: str) -> tuple[Report, ...]:
    """The reports about the suite of this name."""
    return tuple(report for report in reports() if suite in report.suites)


def about(checkpoint: Checkpoint) -> tuple[Report, ...]:
    """The reports that speak of `checkpoint`."""
    return tuple(report for report in reports() if report.concerns(checkpoint))


def standing(checkpoint: Checkpoint) -> tuple[Report, ...]:
    """The reports that speak of `checkpoint` and that no audit on this machine has withdrawn."""
    found = about(checkpoint)
    withdrawn = cleared(place_of(checkpoint)) if found else {}
    return tuple(report for report in found if checkpoint.step not in withdrawn.get(report.name, ()))


def verdicts(
    facts: Sequence[Facts], findings: Iterable[Finding], deep: bool, steps: Callable[[str], Iterable[Checkpoint]]
) -> list[Verdict]:
    """Say of each report about an audited run whether the audit found it.

    Args:
        deep: whether the weights were read.
        steps: all checkpoints of a run, of which the audit may have looked at some.
    """
    by_run: dict[str, list[Facts]] = {}
    for fact in facts:
        by_run.setdefault(fact.checkpoint.run, []).append(fact)
    found: dict[str, list[Finding]] = {run: [] for run in by_run}
    for one in findings:
        if not one.note and one.run in found:
            found[one.run].append(one)
    said = []
    for run, own in by_run.items():
        for report in dict.fromkeys(report for fact in own for report in about(fact.checkpoint)):
            whole = {one.step for one in steps(run) if report.concerns(one)}
            said.append(
                _verdict(report, [one for one in own if report.concerns(one.checkpoint)], found[run], whole, deep)
            )
    return said


def _verdict(
    report: Report, audited: Sequence[Facts], findings: Sequence[Finding], whole: Collection[int], deep: bool
) -> Verdict:
    run, steps = audited[0].checkpoint.run, {fact.checkpoint.step for fact in audited}
    found = _equal(audited) if "equal_weights" in report.kinds else set()
    # Findings of equal weights may be about a step and another one that the report does not name.
    kinds = [kind for kind in report.kinds if kind != "equal_weights" or report.deep]
    found |= {step for one in findings if one.kind in kinds for step in one.steps if step in steps}
    unread = any(one.kind == "unreadable" and steps & set(one.steps) for one in findings)
    looked = steps >= set(whole) and not unread and (deep or not report.deep)
    status = CONFIRMED if found else WITHDRAWN if looked else UNCHECKED
    return Verdict(report, run, status, tuple(sorted(found)), tuple(sorted(steps - found)) if looked else ())


def _equal(facts: Sequence[Facts]) -> set[int]:
    """Steps whose weights another of these steps has, too. Steps 0 and 1 may have the same ones."""
    steps: dict[str, set[int]] = {}
    for fact in facts:
        if fact.weights:
            steps.setdefault(fact.weights, set()).add(fact.checkpoint.step)
    return {step for group in steps.values() if len(group) > 1 and group != {0, 1} for step in group}

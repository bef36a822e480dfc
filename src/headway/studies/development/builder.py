"""A result in the making. Every part of the study adds to it, or says why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import polars as pl

from headway.errors import StatisticsError
from headway.studies.development.heads import Heads
from headway.studies.result import Finding, Result

T = TypeVar("T")
NEEDS_BOOTSTRAPS = "it resamples or shuffles: headway analyze makes it with --bootstraps above 0"

# The questions that findings answer, in the order of the report.
SECTIONS = (
    "final",
    "growth",
    "onset",
    "size",
    "consistency",
    "onset_intervals",
    "position",
    "matching",
    "identity",
    "seeds",
    "extrapolation",
    "duplicates",
)


@dataclass
class ResultBuilder:
    """What the parts of the study have found so far.

    Attributes:
        heads: the data.
        bootstraps: how many resamples the resampling parts draw; 0 leaves them out.
        seed: of the random numbers.
    """

    heads: Heads
    bootstraps: int
    seed: int
    values: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    found: list[Finding] = field(default_factory=list)

    def put(self, path: str, value: Any) -> None:
        """Stores `value` under a dotted path, such as `lmm.onset`."""
        *folders, name = path.split(".")
        place = self.values
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = value

    def find(self, section: str, name: str, *text: str | None, key: bool = False, **values: Any) -> None:
        """Adds the finding `section`, `name`: its sentences, those left out that are None or empty, and its numbers."""
        self.found.append(Finding.of(section, name, text, values, key))

    def diagnose(self, path: str, fit: Any, **series: Any) -> None:
        """Adds what the diagnostic plots of `fit` draw to the table `diagnostics`, under its path."""
        from headway import stats

        found = stats.diagnostics(fit, **series).insert_column(0, pl.lit(path).alias("model"))
        before = [self.tables["diagnostics"]] if "diagnostics" in self.tables else []
        self.tables["diagnostics"] = pl.concat([*before, found])

    def leave_out(self, path: str, reason: str, tables: Collection[str] = ()) -> None:
        """Stores None under `path`, and the reason; `tables` are absent for it, too."""
        self.put(path, None)
        self.say_left_out(path, reason, tables)

    def say_left_out(self, what: str, reason: str, tables: Collection[str] = ()) -> None:
        """Adds a line to `left_out`."""
        self.values.setdefault("left_out", []).append({"what": what, "reason": reason, "tables": list(tables)})

    def attempt(self, path: str, make: Callable[[], T], tables: Collection[str] = ()) -> T | None:
        """What `make` returns, or None where its statistic does not exist; the reason is then kept under `path`."""
        try:
            return make()
        except StatisticsError as error:
            self.leave_out(path, str(error), tables)
            return None

    def result(self) -> Result:
        score = self.heads.score.name
        return Result("development", score, self.values, self.tables, self.notes, in_order(self.found))


def in_order(found: Sequence[Finding]) -> list[Finding]:
    """Findings in the order of the report."""
    order = {section: place for place, section in enumerate(SECTIONS)}
    return sorted(found, key=lambda finding: order[finding.section])

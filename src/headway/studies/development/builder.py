"""A result in the making: every part of the study adds to it, and what cannot be said is left out with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import polars as pl

from headway.errors import StatisticsError
from headway.studies.development.heads import Heads
from headway.studies.result import Result

T = TypeVar("T")
NEEDS_BOOTSTRAPS = "it resamples or shuffles: headway analyze makes it with --bootstraps above 0"


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

    def put(self, path: str, value: Any) -> None:
        """Stores `value` under a dotted path, such as `lmm.onset`."""
        *folders, name = path.split(".")
        place = self.values
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = value

    def leave_out(self, path: str, reason: str) -> None:
        """Stores None under `path`, and why."""
        self.put(path, None)
        self.say_left_out(path, reason)

    def say_left_out(self, what: str, reason: str) -> None:
        """Adds a line to `left_out`."""
        self.values.setdefault("left_out", []).append({"what": what, "reason": reason})

    def attempt(self, path: str, make: Callable[[], T]) -> T | None:
        """What `make` returns, or None where its statistic does not exist; the reason is then kept under `path`."""
        try:
            return make()
        except StatisticsError as error:
            self.leave_out(path, str(error))
            return None

    def result(self) -> Result:
        return Result("development", self.values, self.tables, self.notes)


def listed(items: list[str]) -> str:
    """Words joined as in prose: a, b and c."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))

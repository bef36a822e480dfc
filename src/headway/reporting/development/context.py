"""What the sections of this chapter share: the result, the tables that charts draw, words for what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from headway.reporting.development.frames import prepared
from headway.reporting.numbers import ends
from headway.reporting.parts import Figure, Item, Missing, Model, Section
from headway.studies import Result
from headway.text import listed

# What the study names where it gives the reason why a table is not there.
_MADE_WITH = {
    "emergence_curves": "emergence",
    "mds": "tables.mds_separation",
    "mds_centroids": "tables.mds_separation",
    "correlation_means": "ols.trajectory_correlation",
    "seed_power": "seeds",
}


@dataclass(frozen=True)
class Context:
    """The study's result, made ready to be shown."""

    result: Result

    @property
    def values(self) -> dict[str, Any]:
        return self.result.values

    @cached_property
    def tables(self) -> dict[str, pl.DataFrame]:
        """What charts draw: the study's tables with the columns that are shown."""
        return prepared(self.result.tables)

    @cached_property
    def sizes(self) -> list[str]:
        """The sizes' names, smallest first."""
        return self.tables["runs"]["size"].unique(maintain_order=True).to_list()

    @cached_property
    def seeds(self) -> list[str]:
        return self.tables["runs"]["seed"].unique(maintain_order=True).to_list()

    @property
    def score(self) -> str:
        """The score's title, as axes bear it."""
        return str(self.values["score"]["title"])

    @property
    def axis(self) -> str:
        """Title and unit, for an axis."""
        unit = self.values["score"].get("unit")
        return self.score if not unit or unit in self.score.lower() else f"{self.score} ({unit})"

    @property
    def short_axis(self) -> str:
        """The unit alone, for small panels."""
        return str(self.values["score"].get("unit") or "value").capitalize()

    def highest(self, table: str, column: str) -> float:
        """The largest value of a column, whatever its sign: where an axis ends."""
        return (ends(self.tables[table][column].abs())[1] if self.has(table) else 0.0) or 1.0

    def value(self, *path: str) -> Any:
        """The value under `path`, or None where there is none."""
        place: Any = self.values
        for key in path:
            place = place.get(key) if isinstance(place, dict) else None
        return place

    def has(self, *tables: str) -> bool:
        return all(self.tables.get(table, pl.DataFrame()).height for table in tables)

    def reason(self, *names: str, part: str = "") -> str:
        """Why `names` (tables, or paths of values), or else all of `part` beyond the study, are not there, in the
        study's words where it gave some."""
        reasons = {
            left["what"].removeprefix("beyond.").replace(".", "_"): str(left["reason"])
            for left in reversed(self.values.get("left_out") or [])
        }
        for name in (*names, *(_MADE_WITH[name] for name in names if name in _MADE_WITH), part):
            for what in (name.replace(".", "_"), name.rpartition(".")[2]):
                if what in reasons:
                    return reasons[what]
        return f"the results hold no {listed(list(names))}; headway analyze makes it where the data allow."

    def section(
        self, name: str, title: str, lead: Sequence[str | None], items: Iterable[Item], *, part: str = ""
    ) -> Section:
        """A section in which a figure without its tables gives way to the reason. `part`: of what is beyond the study."""
        return Section(name, title, [text for text in lead if text], [self._or_missing(item, part) for item in items])

    def _or_missing(self, item: Item, part: str) -> Item:
        if isinstance(item, Figure) and not self.has(*item.tables):
            absent = (name for name in item.tables if not self.has(name))
            return Missing(item.title, self.reason(*absent, part=part))
        return item

    def model(self, path: str, title: str, sentence: str, term: str = "") -> Model | Missing:
        """A fitted model by its path, such as `lmm.onset`.

        Args:
            path: where its values are.
            title: what it models.
            sentence: what the model is, in plain words; an estimate with its test is told after it.
            term: how the term begins whose estimate that is; the last one by default, which most of the study's
                models ask about.
        """
        values = self.value(*path.split("."))
        if not isinstance(values, dict) or not values.get("summary"):
            return Missing(title, self.reason(path))
        name = path.replace(".", "-").replace("_", "-")
        changed = values.get("published_formula")
        also = f" The study’s formula, {changed}, asks for more than these data hold." if changed else ""
        return Model(name, title, sentence + _effect(values, term) + also, str(values["summary"]).strip("\n"))

    def finding(self, section: str) -> str | None:
        return self.value("findings", section)

    def beyond(self, part: str) -> list[str | None]:
        """What a part beyond the study says, and what it does not."""
        return [self.value("beyond", part, "says"), self.value("beyond", part, "does_not_say")]


def _effect(values: dict[str, Any], asked: str) -> str:
    """A sentence on the estimate and test of the last term that begins with `asked`, or on the smooth's."""
    terms = values.get("fixed") or values.get("coefficients")
    if terms:
        term = ([name for name in terms if name.startswith(asked)] or list(terms))[-1]
        fit = terms[term]
        df = fit.get("df", values.get("df_resid"))
        text = (
            f" Its estimate for {term} is {_short(fit.get('estimate'))} (standard error "
            f"{_short(fit.get('std_error'))}, "
            f"t({_short(df)}) = {_short(fit.get('t'))}, {probability(fit.get('p'))})."
        )
        return text + (" A random variance is zero: the fit is singular." if values.get("singular") else "")
    smooths = values.get("smooth") or {}
    return "".join(
        f" Its {term} takes {_short(fit.get('edf'))} effective degrees of freedom "
        f"(F = {_short(fit.get('F'))}, {probability(fit.get('p'))})."
        for term, fit in smooths.items()
    )


def _short(value: Any) -> str:
    if value is None:
        return "–"
    return (f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}").replace("-", "−")


def probability(p: float | None) -> str:
    if p is None:
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"

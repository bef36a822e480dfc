"""Shared by the sections of a chapter: the result, the tables that charts draw, and the reasons for missing figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import polars as pl

from headway.reporting.numbers import ends
from headway.reporting.parts import Control, Figure, Highlight, Item, Layout, Missing, Model, Section
from headway.studies import Finding, Result
from headway.studies.prose import p_text
from headway.text import listed


class View(NamedTuple):
    """A table made for a chart from tables of the study, such as with renamed columns or with tables joined end to end.

    Attributes:
        of: the study's tables that it is made of. If one of them is missing, the view is missing for the same reason.
        make: returns the frame, given the study's tables. It computes nothing but positions on an axis.
    """

    of: tuple[str, ...]
    make: Callable[[Mapping[str, pl.DataFrame]], pl.DataFrame]


class Tables(Mapping[str, pl.DataFrame]):
    """The study's tables that have rows, and the views of them. A view replaces the table of the same name."""

    def __init__(self, tables: Mapping[str, pl.DataFrame], views: Mapping[str, View]) -> None:
        self._tables = {name: frame for name, frame in tables.items() if frame.height}
        self._views = views
        self._made: dict[str, pl.DataFrame] = {}

    def __getitem__(self, name: str) -> pl.DataFrame:
        if name not in self._made:
            view = self._views.get(name)
            self._made[name] = self._tables[name] if view is None else self._view(view)
        return self._made[name]

    def _view(self, view: View) -> pl.DataFrame:
        if not all(table in self._tables for table in view.of):
            return pl.DataFrame()
        return view.make(self._tables)

    def __contains__(self, name: object) -> bool:
        return (name in self._views or name in self._tables) and self[str(name)].height > 0

    def __iter__(self) -> Iterator[str]:
        return (name for name in dict.fromkeys([*self._tables, *self._views]) if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def made_of(self, name: str) -> tuple[str, ...]:
        """The study's tables that the table or view `name` is made of."""
        return self._views[name].of if name in self._views else (name,)


class Context:
    """A study's result, with helpers to show it."""

    def __init__(self, result: Result, views: Mapping[str, View]) -> None:
        self.result = result
        self.tables = Tables(result.tables, views)

    @property
    def values(self) -> dict[str, Any]:
        return self.result.values

    @cached_property
    def sizes(self) -> list[str]:
        """Names of the sizes, smallest first."""
        return self.levels("runs", "size")

    @cached_property
    def seeds(self) -> list[str]:
        return self.levels("runs", "seed")

    @property
    def score(self) -> str:
        """Title of the score, for axes."""
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

    @property
    def size_panels(self) -> Layout:
        """Small multiples: one panel for each size."""
        return Layout(panels=len(self.sizes), panel_width=230, max_columns=2)

    def levels(self, table: str, column: str, order: Sequence[str] = ()) -> list[Any]:
        """Distinct values of a column: numbers ascending, names in order of appearance or in `order`."""
        values = self.tables[table][column].unique(maintain_order=True)
        if order:
            return [name for name in order if name in set(values)]
        return values.sort().to_list() if values.dtype.is_numeric() else values.to_list()

    def control(
        self,
        table: str,
        column: str,
        label: str,
        *,
        order: Sequence[str] = (),
        last: bool = False,
        slider: bool = False,
    ) -> Control:
        """A control that selects one value of `column`. The default is the first value, or the last."""
        return Control(column, label, self.levels(table, column, order)[-1 if last else 0], slider)

    def most_rows(self, table: str, column: str, controls: Sequence[Control]) -> int:
        """The largest number of values of `column` that one choice of the controls shows. The chart needs room for them."""
        chosen = pl.col(column).n_unique().over([control.column for control in controls])
        return int(ends(self.tables[table].select(chosen).to_series())[1])

    def highest(self, table: str, column: str) -> float:
        """The largest absolute value of a column, at which an axis ends."""
        return (ends(self.tables[table][column].abs())[1] if self.has(table) else 0.0) or 1.0

    def value(self, *path: str) -> Any:
        """The value under `path`, or None if there is none."""
        place: Any = self.values
        for key in path:
            place = place.get(key) if isinstance(place, dict) else None
        return place

    def has(self, *tables: str) -> bool:
        return all(table in self.tables for table in tables)

    def reason(self, *names: str) -> str:
        """The reason why `names` (tables, or paths of values) are missing: the one that the study gave, if any."""
        wanted = {of for name in names for of in (name, *self.tables.made_of(name))}
        for left in self.values.get("left_out") or []:
            if left["what"] in wanted or wanted & set(left.get("tables", ())):
                return str(left["reason"])
        return f"the results hold no {listed(list(names))}; headway analyze makes it where the data allow."

    def missing(self, title: str, *tables: str) -> Missing | None:
        """The note that replaces the figure `title` if one of `tables` is missing."""
        absent = [name for name in tables if not self.has(name)]
        return Missing(title, self.reason(*absent)) if absent else None

    def section(
        self,
        name: str,
        title: str,
        items: Iterable[Item],
        *,
        about: str,
        lead: Sequence[str] = (),
        needs: tuple[str, str] | None = None,
    ) -> Section:
        """A section that starts with the study's findings. If a figure's tables are missing, the reason is shown instead.

        Args:
            name: the section's address in the page.
            title: the question that it answers.
            items: its figures, models and tables.
            about: the section of the study's findings that are shown.
            lead: a sentence after the findings that the reader needs to understand them.
            needs: the title of the items and the table that all of them need. Without it, the reason stands in their place.
        """
        if needs and (missing := self.missing(*needs)):
            items = [missing]
        found = [finding.text for finding in self.result.findings(about)]
        return Section(name, title, [*found, *lead], [self._or_missing(item) for item in items])

    def _or_missing(self, item: Item) -> Item:
        missing = self.missing(item.title, *item.tables) if isinstance(item, Figure) else None
        return missing or item

    def model(self, path: str, title: str, sentence: str, term: str = "") -> Model | Missing:
        """Show a fitted model by its path, such as `lmm.onset`.

        Args:
            path: path of the model's values in the result.
            title: what is modelled.
            sentence: describes the model in plain words. The estimate and its test follow it.
            term: the start of the name of the term whose estimate is shown. The default is the last term, which most
                of the study's models ask about.
        """
        values = self.value(*path.split("."))
        if not isinstance(values, dict) or not values.get("summary"):
            return Missing(title, self.reason(path))
        name = path.replace(".", "-").replace("_", "-")
        changed = values.get("published_formula")
        also = f" The published formula, {changed}, has terms that these data cannot estimate." if changed else ""
        return Model(name, title, sentence + _effect(values, term) + also, str(values["summary"]).strip("\n"))

    def highlights(
        self,
        shown_by: Mapping[tuple[str, str], str],
        sections: Sequence[Section],
        at: Callable[[Finding], Mapping[str, str]] = lambda finding: {},
    ) -> list[Highlight]:
        """The key findings with their figures.

        Args:
            shown_by: the name of a figure by the finding's section and name.
            at: which rows of its figure a finding is about, as in `Highlight`.
        """
        there = {figure.name for section in sections for figure in section.figures}

        def highlight(finding: Finding) -> Highlight:
            name = shown_by.get((finding.section, finding.name), "")
            shown = name in there
            more = next(iter(finding.more), "")
            return Highlight(finding.answer, more, name if shown else "", at(finding) if shown else {})

        return [highlight(finding) for finding in self.result.headline]


def _effect(values: dict[str, Any], asked: str) -> str:
    """Describe the estimate and test of the last term that starts with `asked`, or those of the smooth."""
    terms = values.get("fixed") or values.get("coefficients")
    if terms:
        term = ([name for name in terms if name.startswith(asked)] or list(terms))[-1]
        fit = terms[term]
        df = fit.get("df", values.get("df_resid"))
        text = (
            f" The estimate for {term} is {_short(fit.get('estimate'))} (SE {_short(fit.get('std_error'))}, "
            f"t({_short(df)}) = {_short(fit.get('t'))}, {p_text(fit.get('p'))})."
        )
        return text + (" A random variance is zero: the fit is singular." if values.get("singular") else "")
    smooths = values.get("smooth") or {}
    return "".join(
        f" Its {term} takes {_short(fit.get('edf'))} effective degrees of freedom "
        f"(F = {_short(fit.get('F'))}, {p_text(fit.get('p'))})."
        for term, fit in smooths.items()
    )


def _short(value: Any) -> str:
    if value is None:
        return "–"
    return (f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}").replace("-", "−")

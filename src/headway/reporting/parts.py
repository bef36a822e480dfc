"""The parts of a report: chapters (one per result), sections, figures, models, tables, and notes on missing parts.

A chart refers to its tables by name (`alt.NamedData("trajectories")`). All charts of a chapter draw from the same tables,
which the page contains once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

Chart = Any  # an altair chart; the type would import altair wherever a report is named


@dataclass(frozen=True)
class Control:
    """A menu or slider. Rows whose `column` has the selected value are drawn.

    Exported figures show `default`. A slider suits ordered values that are read one after the other.
    """

    column: str
    label: str
    default: Any
    slider: bool = False


@dataclass(frozen=True)
class Layout:
    """How a chart fills its width: small multiples in as many columns of `panel_width` pixels as fit.

    With `own_axes` each panel has its own axis and needs room for it. With `square` a chart is as high as it is wide.
    """

    panels: int = 1
    panel_width: int = 210
    max_columns: int = 4
    own_axes: bool = False
    square: bool = False


@dataclass(frozen=True)
class Figure:
    """A chart with its caption.

    Attributes:
        name: part of its address in the page and of its file names. It is unique within a report.
        title: what is drawn.
        sentence: a caption that says what the reader sees.
        alt: a description for readers who cannot see the figure.
        chart: built on named tables of the chapter.
        tables: the names of the tables that it draws.
        controls: menus and sliders. Each narrows the choices of the next.
        legend: whether a legend of the sizes' colours stands above the figure.
        top: the column whose largest value ends the colour scale, whatever the controls select.
        small: the chart for the summary, with one panel and no legend. The default is `chart`.
        folded: whether the page shows only the title until it is opened. A folded figure is not exported.
    """

    name: str
    title: str
    sentence: str
    alt: str
    chart: Chart
    tables: tuple[str, ...]
    controls: tuple[Control, ...] = ()
    layout: Layout = Layout()
    legend: bool = False
    top: str = ""
    small: Chart = None
    folded: bool = False

    @cached_property
    def specification(self) -> dict[str, Any]:
        """The chart's Vega-Lite. It is shared, so nobody may change it: Altair takes long to make it."""
        made: dict[str, Any] = self.chart.to_dict(validate=False)
        return made

    @cached_property
    def small_specification(self) -> dict[str, Any]:
        """The Vega-Lite of the chart in the summary, before it is made plain. Nobody may change it either."""
        made: dict[str, Any] = self.specification if self.small is None else self.small.to_dict(validate=False)
        return made


@dataclass(frozen=True)
class Model:
    """A fitted model: a plain sentence, and its summary as R prints it."""

    name: str
    title: str
    sentence: str
    text: str


@dataclass(frozen=True)
class Table:
    """A table of numbers: the columns that have a heading. Long tables are folded.

    `links` names, for a column whose cells are links, the column of their addresses in the page. One that
    is not on the page is no link.
    """

    name: str
    title: str
    frame: pl.DataFrame
    headings: Mapping[str, str]
    sentence: str = ""
    folded: bool = False
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Missing:
    """A note on a missing figure, with the reason."""

    title: str
    reason: str


Item = Figure | Model | Table | Missing


@dataclass(frozen=True)
class Section:
    """One question: its answer in a sentence or two, then the figures that show it."""

    name: str
    title: str
    lead: Sequence[str]
    items: Sequence[Item]

    @property
    def figures(self) -> list[Figure]:
        return [item for item in self.items if isinstance(item, Figure)]


@dataclass(frozen=True)
class Highlight:
    """A key finding in the summary: its answer, the most important number, and the name of its figure, if it has one.

    Attributes:
        at: the values of the figure's columns that the finding is about; only their rows are drawn beside it.
    """

    answer: str
    more: str = ""
    figure: str = ""
    at: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Term:
    """A word that the chapter uses, with its meaning and, for a score, its formula."""

    word: str
    meaning: str
    formula: str = ""


@dataclass(frozen=True)
class Chapter:
    """The part of the report that shows one result.

    Attributes:
        study: the study's name.
        subject: what was studied. Addresses in the page and names of figures' files start with study and subject.
        title: the chapter's question.
        summary: the key findings.
        facts: labels and values that say what was analysed.
        notes: caveats about the data.
        sections: one for each question.
        terms: definitions.
        methods: paragraphs on how the numbers were computed.
        limits: paragraphs on what the numbers do not say.
        tables: the tables that charts draw, by name.
        sizes: names of the sizes, smallest first. Each has one colour throughout.
        seeds: names of the seeds.
        colours: how many ordered colours charts need, if that is more than there are sizes.
    """

    study: str
    subject: str
    title: str
    summary: Sequence[Highlight]
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    sections: Sequence[Section]
    terms: Sequence[Term]
    methods: Sequence[str]
    limits: Sequence[str]
    tables: Mapping[str, pl.DataFrame]
    sizes: Sequence[str] = ()
    seeds: Sequence[str] = ()
    left_out: Sequence[tuple[str, str]] = field(default_factory=tuple)
    colours: int = 0

    @property
    def n_colours(self) -> int:
        """How many ordered colours the theme has."""
        return max(len(self.sizes), self.colours)

    @property
    def id(self) -> str:
        return f"{self.study}-{self.subject}"

    @property
    def figures(self) -> list[Figure]:
        return [figure for section in self.sections for figure in section.figures]

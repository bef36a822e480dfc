"""What a report is made of: chapters (one a result) of sections of figures, models, tables and gaps.

A figure's chart names its tables (`alt.NamedData("trajectories")`) and does not hold them: all charts of a chapter draw
from the same tables, which the page carries once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

Chart = Any  # an altair chart; the type would import altair wherever a report is named


@dataclass(frozen=True)
class Control:
    """Something that the reader picks: rows whose `column` has the picked value are drawn.

    `default` is what static figures show. A slider suits ordered values of which one wants the next.
    """

    column: str
    label: str
    default: Any
    slider: bool = False


@dataclass(frozen=True)
class Layout:
    """How a chart takes the width it is given: small multiples in as many columns as have `panel_width` pixels each.

    `own_axes`: each panel has an axis of its own and needs room for it. `square`: as high as it is wide.
    """

    panels: int = 1
    panel_width: int = 210
    max_columns: int = 4
    own_axes: bool = False
    square: bool = False


@dataclass(frozen=True)
class Figure:
    """A chart with its one sentence.

    Attributes:
        name: part of its address in the page and of its file names; unique within a report.
        title: what is drawn.
        sentence: what the reader sees in it, in one plain sentence.
        alt: what is drawn, for those who cannot see it.
        chart: built on named tables of the chapter.
        tables: the names of the tables that it draws.
        controls: choices of the reader; each narrows the choices of the next.
        legend: whether the colours of the sizes are to be explained above it.
        top: with controls: the column whose largest value, whatever the slider says, ends the chart's colour scale.
        small: what stands for it beside a line of the summary: one panel, no legend; the chart itself where there is none.
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


@dataclass(frozen=True)
class Model:
    """A fitted model: a plain sentence, and beneath it the text that readers of R know."""

    name: str
    title: str
    sentence: str
    text: str


@dataclass(frozen=True)
class Table:
    """A table of numbers: the columns that have a heading. A long one is folded away."""

    name: str
    title: str
    frame: pl.DataFrame
    headings: Mapping[str, str]
    sentence: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Missing:
    """Something that would be here, and why it is not."""

    title: str
    reason: str


Item = Figure | Model | Table | Missing


@dataclass(frozen=True)
class Section:
    """One question: its answer in a sentence or two, then what shows it."""

    name: str
    title: str
    lead: Sequence[str]
    items: Sequence[Item]

    @property
    def figures(self) -> list[Figure]:
        return [item for item in self.items if isinstance(item, Figure)]


@dataclass(frozen=True)
class Highlight:
    """A key finding in the summary: its answer, the most important number, and the name of its figure, if it has one."""

    answer: str
    more: str = ""
    figure: str = ""


@dataclass(frozen=True)
class Term:
    """A word that the chapter uses, and what it means; `formula` is set as mathematics."""

    word: str
    meaning: str
    formula: str = ""


@dataclass(frozen=True)
class Chapter:
    """A result's part of the report.

    Attributes:
        study: the study's name.
        subject: what was studied; both make the prefix of addresses in the page and of figures' files.
        title: what it asks.
        summary: the key findings.
        facts: what was analysed: label and value.
        notes: what to know about the data before believing the numbers.
        sections: one a question.
        terms: definitions.
        methods: paragraphs on how the numbers were made.
        limits: paragraphs on what they do not say.
        tables: what the charts draw, by name.
        sizes: the names of the sizes, smallest first: they have one colour each throughout.
        seeds: the names of the seeds.
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

    @property
    def id(self) -> str:
        return f"{self.study}-{self.subject}"

    @property
    def figures(self) -> list[Figure]:
        return [figure for section in self.sections for figure in section.figures]

"""What the sections of this chapter share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from headway.reporting.parts import Control, Item, Section
from headway.reporting.weight_clusters.frames import KINDS, prepared
from headway.studies import Result


@dataclass(frozen=True)
class Context:
    """The study's result, made ready to be shown."""

    result: Result

    @cached_property
    def tables(self) -> dict[str, pl.DataFrame]:
        return prepared(self.result.tables)

    def has(self, *tables: str) -> bool:
        return all(table in self.tables for table in tables)

    def kinds(self, table: str) -> list[str]:
        """The kinds of weights in a table, in the order of the algebra."""
        there = set(self.tables[table]["kind"])
        return [kind for kind in KINDS if kind in there]

    def control(self, table: str, column: str, label: str, *, last: bool = False, slider: bool = False) -> Control:
        """A choice of the values of `column`, beginning at the first, or the last."""
        values = self.tables[table][column].unique(maintain_order=True)
        ordered = self.kinds(table) if column == "kind" else values.sort() if values.dtype.is_numeric() else values
        return Control(column, label, ordered[-1 if last else 0], slider)

    def height(self, table: str, *controls: Control) -> int:
        """Pixels for the rows that one choice of the reader's shows, at most."""
        chosen = self.tables[table].group_by([control.column for control in controls]).agg(pl.col("label").n_unique())
        return 22 * int(chosen["label"].max()) + 6  # type: ignore[arg-type]

    def section(self, name: str, title: str, lead: Sequence[str], items: Iterable[Item]) -> Section:
        return Section(f"clusters-{name}", title, list(lead), list(items))

    def finding(self, word: str) -> list[str]:
        """The study's sentences that contain `word`."""
        return [text for text in self.result.values.get("findings") or [] if word in text]


NO_CLUSTERS = "No clusters were computed here: `headway cluster SUITE --out DIR` makes them."
NO_NULLS = "No nulls were drawn, and without them a silhouette cannot be told from that of noise: see `--nulls`."

"""Format numbers and tables as text."""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl

from headway.reporting.parts import Table


class Cell(NamedTuple):
    text: str
    number: bool = False
    link: str = ""


class Listing(NamedTuple):
    """A table whose cells are text."""

    headings: list[Cell]
    rows: list[list[Cell]]


def number(value: Any) -> str:
    """Format a number: whole numbers in full with commas, others to four significant digits, None as a dash."""
    if value is None or value != value:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        text = f"{int(value):,}"
    else:
        text = f"{value:.4g}" if 1e-4 <= abs(value) < 1e6 else f"{value:.3e}"
    return f"−{text[1:]}" if text.startswith("-") else text


def headings(table: Table) -> list[Cell]:
    return [Cell(text, table.frame[name].dtype.is_numeric()) for name, text in table.headings.items()]


def cells(table: Table) -> list[list[Cell]]:
    """Cells of the columns that have a heading, row by row."""
    return [
        [
            Cell(
                number(row[name]),
                table.frame[name].dtype.is_numeric(),
                row[table.links[name]] if name in table.links else "",
            )
            for name in table.headings
        ]
        for row in table.frame.iter_rows(named=True)
    ]


def ends(column: pl.Series) -> tuple[float, float]:
    """The smallest and the largest number of a column; (0, 0) if it is empty."""
    low, high = column.min(), column.max()
    return (float(low), float(high)) if isinstance(low, int | float) and isinstance(high, int | float) else (0.0, 0.0)

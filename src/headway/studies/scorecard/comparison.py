"""Two scorecards side by side: the same claims in two run directories, and the difference on every axis."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

import polars as pl

from headway.errors import StatisticsError
from headway.studies.result import Result
from headway.studies.scorecard import scale
from headway.studies.scorecard.words import card
from headway.text import count, listed

_KEYS = ("subject", "axis", "measure", "over")
DIFFERENCES_SCHEMA = {
    **dict.fromkeys(_KEYS, pl.String()),
    **dict.fromkeys(("value", "other_value", "difference", "lower", "upper"), pl.Float64()),
    **dict.fromkeys(("n_units", "other_n_units"), pl.Int64()),
}


def compare(own: Result, other: Result, directory: str, against: str) -> Result:
    """Make one result of two scorecards.

    Args:
        own, other: of `study`.
        directory, against: where they are of. Their last parts that differ name them.

    Raises:
        StatisticsError: they have no claim in common.
    """
    names = _names(directory, against)
    axes, beside = own.tables["axes"], other.tables["axes"]
    shared = [subject for subject in own.values["roles"] if subject in other.values["roles"]]
    if not shared:
        raise StatisticsError(
            f"the two run directories have no role in common: {directory} has {listed(list(own.values['roles']))}, "
            f"{against} has {listed(list(other.values['roles']))}"
        )
    rows = [_row(one, two) for one, two in zip(*_aligned(axes, beside), strict=True)]
    subject = re.sub(r"[^\w.-]+", "-", f"{own.subject}-against-{names[1]}")
    values = own.values | {"directories": list(names), "against": card(other)}
    result = Result(own.study, subject, values, dict(own.tables), list(own.notes), list(own.found))
    result.tables["axes"] = axes.with_columns(directory=pl.lit(names[0]))
    result.tables["against"] = beside.with_columns(directory=pl.lit(names[1]))
    result.tables["differences"] = pl.DataFrame(rows, schema=DIFFERENCES_SCHEMA)
    common = set(own.tables["runs"]["run"]) & set(other.tables["runs"]["run"])
    if common:
        result.notes.append(
            f"{count(len(common), 'run is', 'runs are')} in both directories. The intervals of differences take runs as independent, "
            "so that they are too wide where the same runs agree."
        )
    _say(result, names)
    return result


def _names(directory: str, against: str) -> tuple[str, str]:
    one, other = (PurePath(path.rstrip("/")).parts or (path,) for path in (directory, against))
    for depth in range(1, max(len(one), len(other)) + 1):
        if one[-depth:] != other[-depth:]:
            return "/".join(one[-depth:]).lstrip("/"), "/".join(other[-depth:]).lstrip("/")
    return directory, f"{against} (again)"


def _aligned(axes: pl.DataFrame, beside: pl.DataFrame) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of the lines that both answer, in the order of the first."""
    found = {tuple(row[key] for key in _KEYS): row for row in beside.filter("answered").iter_rows(named=True)}
    both = [row for row in axes.filter("answered").iter_rows(named=True) if tuple(row[key] for key in _KEYS) in found]
    return both, [found[tuple(row[key] for key in _KEYS)] for row in both]


def _row(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    found = scale.difference(*((row["value"], row["lower"], row["upper"]) for row in (one, two)))
    row = {key: one[key] for key in _KEYS} | {"value": one["value"], "other_value": two["value"]}
    row |= {"difference": found.value, "lower": found.lower, "upper": found.upper}
    return row | {"n_units": one["n_units"], "other_n_units": two["n_units"]}


def _say(result: Result, names: tuple[str, str]) -> None:
    table = result.tables["differences"]
    told = table.drop_nulls("lower")
    clear = told.filter((pl.col("lower") > 0) | (pl.col("upper") < 0))
    result.find(
        "difference",
        "clear",
        f"{names[1]} and {names[0]} differ clearly on {count(clear.height, 'line')} of {told.height}."
        if clear.height
        else f"{names[1]} and {names[0]} differ clearly on no line of {told.height}.",
        *(
            f"{row['subject'].capitalize()}, {row['measure']} ({row['axis']}): {row['difference']:+.2f}, 95% {row['lower']:+.2f} to {row['upper']:+.2f}."
            for row in clear.iter_rows(named=True)
        ),
        "Intervals are not corrected for the number of lines." if told.height > 1 else None,
        key=True,
        n_clear=clear.height,
        n_lines=told.height,
    )

"""Sentences on a scorecard: each claim on five axes, what cannot be answered, and how many runs would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from headway.studies.prose import capital, digits
from headway.studies.result import Result
from headway.studies.scorecard.measures import AXES
from headway.text import count, listed

_UNIT = {"runs": "run", "sizes": "size"}


def findings(result: Result) -> None:
    """Add a finding for each claim and axis, and one on each claim as a whole."""
    for subject in result.values["roles"]:
        own = result.tables["axes"].filter(subject=subject)
        _whole(result, subject, own)
        for axis in AXES:
            _axis(result, subject, axis, own.filter(axis=axis))


def _whole(result: Result, subject: str, own: pl.DataFrame) -> None:
    heads = [found for axis in AXES if (found := headline(own.filter(axis=axis)))]
    silent = [axis for axis in AXES if not own.filter(pl.col("axis") == axis, "answered").height]
    beyond = [row["axis"] for row in heads if row["lower"] is not None and row["lower"] > 0]
    beside = [row["axis"] for row in heads if row["axis"] not in beyond]
    claims = f"claims about {subject} heads"
    if beyond:
        answer = f"{capital(claims)} generalize beyond chance on the {_axes(beyond)}."
    else:
        answer = f"On no axis do {claims} generalize clearly beyond chance."
    result.find(
        "whole",
        subject,
        answer,
        f"On the {_axes(beside)} chance may be enough." if beside and beyond else None,
        f"These data cannot answer the {_axes(silent)}." if silent else None,
        key=True,
        values={row["axis"]: row["value"] for row in heads},
        unanswered=silent,
    )


def _axes(names: list[str]) -> str:
    return f"{listed(names)} {'axis' if len(names) == 1 else 'axes'}"


def headline(own: pl.DataFrame) -> Mapping[str, Any] | None:
    """The line that stands for an axis; None if it is not answered."""
    there = own.filter("headline")
    return there.row(0, named=True) if there.height else None


def _axis(result: Result, subject: str, axis: str, own: pl.DataFrame) -> None:
    row = headline(own)
    others = own.filter("answered", ~pl.col("headline"))
    if row is None:
        first = own.row(0, named=True)
        result.find(
            axis,
            subject,
            f"{capital(subject)}: unanswered, because {first['reason']}.",
            f"To answer it: {first['needs']}." if first["needs"] else None,
            key=False,
            value=None,
        )
        return
    result.find(
        axis,
        subject,
        f"{capital(subject)}: {_number(row)} ({_named(row)}).",
        _by_chance(row),
        *(f"{capital(_named(other))}: {_number(other)}." for other in others.iter_rows(named=True)),
        _more(row),
        key=False,
        value=row["value"],
        lower=row["lower"],
        upper=row["upper"],
        n_units=row["n_units"],
    )


def _named(row: Mapping[str, Any]) -> str:
    over = {"runs": "", "seeds": " over seeds", "sizes": " over sizes"}[row["over"]]
    return f"{row['measure']}{over}, {count(row['n_units'], _UNIT[row['units']])}"


def _number(row: Mapping[str, Any]) -> str:
    if row["lower"] is None:
        return f"{row['value']:.2f}, without an interval"
    return f"{row['value']:.2f}, 95% {row['lower']:.2f} to {row['upper']:.2f}"


def _by_chance(row: Mapping[str, Any]) -> str:
    drawn = f" ({count(row['n_draws'], 'draw')})" if row["n_draws"] else ""
    beside = (
        f", beside at least {count(row['n_controls'], 'control')}"
        if row["n_controls"] and row["measure"] != "criterion"
        else ""
    )
    return f"{capital(row['what'].partition(' (')[0])}: {_three(row['observed'])}, by chance {_three(row['chance'])}{drawn}{beside}."


def _three(value: float) -> str:
    """The number with three digits; one that is nearly 0 is 0."""
    return digits(value) if abs(value) >= 0.005 else "0"


def _more(row: Mapping[str, Any]) -> str | None:
    """The units that an interval of ± 0.2 needs."""
    unit = _UNIT[row["units"]]
    if row["half_width"] is None:
        return f"An interval needs three {unit}s{' of a size' if row['over'] == 'seeds' else ''} at least."
    if row["half_width"] <= 0.2:
        return None
    wanted = row["units_for_02"]
    if wanted is None:
        return f"An interval of ± 0.2 would need more than 1,000 {unit}s."
    return f"An interval of ± 0.2 would need {count(wanted, unit)}, {wanted - row['n_units']:,} more."

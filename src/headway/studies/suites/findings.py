"""Sentences on how suites differ in the onset of roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from headway.studies.prose import LEVEL, capital, digits, p_text
from headway.studies.result import Result
from headway.text import count, listed

_UNITS = {"tokens": "tokens", "step": "steps"}
_SHORT = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def findings(result: Result) -> None:
    """Add the findings. Tokens come first, since steps of suites with different batches are not comparable."""
    ratios, onsets = result.tables["ratios"], result.tables["onsets"]
    for role in result.values["roles"]:
        of_role = ratios.filter(pl.col("role") == role)
        for row in _by_tokens_or_steps(of_role):
            _compared(result, row)
        _typical(result, onsets.filter(pl.col("role") == role), role)
    result.find(
        "compared",
        "caveat",
        "A difference between suites has no single cause.",
        "They differ in data, architecture, batches and tokenizers at once.",
        "Tokens of different tokenizers are not the same amount of text.",
        key=False,
    )


def _by_tokens_or_steps(ratios: pl.DataFrame) -> list[dict[str, Any]]:
    """The comparison of each pair by tokens, or by steps where tokens give none. The table has both."""
    pairs = ratios.partition_by("first", "second", maintain_order=True)
    return [pair.sort(pl.col("ratio").is_null(), pl.col("unit") == "step").row(0, named=True) for pair in pairs]


def _compared(result: Result, row: Mapping[str, Any]) -> None:
    if row["ratio"] is None:
        result.notes.append(
            f"{capital(row['role'])} heads of {row['first']} and {row['second']} are not compared by {_UNITS[row['unit']]}: "
            f"{row['why_not']}."
        )
        return
    result.find(
        "compared",
        f"{row['role']}, {row['first']}, {row['second']}, {row['unit']}",
        _answer(row),
        f"The factor is {_factor(row['ratio'])} (95% interval {_factor(row['lower'])} to {_factor(row['upper'])}, "
        f"{p_text(row['p_holm'])} after Holm’s correction).",
        f"It comes from {count(row['n_first'], 'run')} of {row['first']} and {row['n_second']} of {row['second']}.",
        f"Runs are compared within the sizes that both have: {row['sizes']}."
        if row["sizes"]
        else "The suites have no size in common, so that sizes may explain it.",
        "The suites may differ in the size of batches, so that steps are not comparable."
        if row["unit"] == "step"
        else None,
        key=row["unit"] == "tokens" and row["p_holm"] is not None and row["p_holm"] <= LEVEL,
        **row,
    )


def _answer(row: Mapping[str, Any]) -> str:
    what = f"{capital(row['role'])} heads"
    if row["p_holm"] is None or row["p_holm"] > LEVEL:
        return f"{what} arise in {row['second']} at no clearly different number of {_UNITS[row['unit']]} than in {row['first']}."
    later = "more" if row["ratio"] > 1 else "fewer"
    return f"{what} arise after {later} {_UNITS[row['unit']]} in {row['second']} than in {row['first']}."


def _factor(value: float | None) -> str:
    if value is None or value == float("inf"):
        return "without an end"
    return digits(value)


def _typical(result: Result, onsets: pl.DataFrame, role: str) -> None:
    unit = (
        "tokens"
        if onsets.filter(pl.col("unit") == "tokens")["suite"].n_unique() == len(result.values["suites"])
        else "step"
    )
    rows = onsets.filter(pl.col("unit") == unit).to_dicts()
    result.find(
        "onset",
        role,
        f"{capital(role)} heads arise and stay in {listed([_reached(row) for row in rows])}.",
        *(words for row in rows if (words := _median_words(row))),
        key=False,
        suites=rows,
    )


def _reached(row: Mapping[str, Any]) -> str:
    return f"{row['n_reached'] or 'none'} of {count(row['n'], 'run')} of {row['suite']}"


def _median_words(row: Mapping[str, Any]) -> str | None:
    if row["lower"] is None:
        return None
    low, high = (_amount(row[end], row["unit"]) for end in ("lower", "upper"))
    if row["median"] is None:
        when = f"at {low}" if low == high else f"between {low} and {high}"
        return (
            f"The checkpoints of {row['suite']} cannot tell its runs apart: all may have the onset at one time, {when}."
        )
    return f"The median of {row['suite']} is {_amount(row['median'], row['unit'])} (95% interval {low} to {high})."


def _amount(value: float, unit: str) -> str:
    """Tokens such as `2.1B tokens`; steps as whole numbers."""
    if unit == "step":
        return f"step {value - 1:,.0f}"
    return f"{_tokens(value)} tokens"


def _tokens(value: float) -> str:
    for size, name in _SHORT:
        if value >= size:
            return f"{value / size:.3g}{name}"
    return f"{value:.0f}"

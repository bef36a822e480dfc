"""Sentences on configuration: whether weights tell a role in unseen runs, what sets it apart, and whether heads match over runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from headway.studies.configuration.likeness import ACROSS
from headway.studies.configuration.matching import BOTH
from headway.studies.prose import LEVEL, digits, p_text, percent
from headway.studies.result import Result
from headway.text import count, listed

_MOST_NAMED = 3
_SOUGHT = {"attention": "attention", "outputs": "outputs", BOTH: "attention and outputs"}


def findings(result: Result) -> None:
    """Add the findings, one of each question."""
    if _has(result, "classification"):
        _classification(result)
    if _has(result, "alike"):
        _alike(result)
    if _has(result, "matched_roles"):
        _matched(result)
    if _has(result, "matching_steps"):
        _similarity(result)
    if _has(result, "differences"):
        _differences(result)


def _has(result: Result, table: str) -> bool:
    return table in result.tables and result.tables[table].height > 0


def _size(row: Mapping[str, Any]) -> str:
    return f"{row['size']}" if row["size"] else "all sizes together"


def _classification(result: Result) -> None:
    table = result.tables["classification"]
    told = table.filter(pl.col("p_holm") <= LEVEL)
    best = told.sort("p_holm", "balanced_accuracy", descending=[False, True])
    said = [
        f"{row['role'].capitalize()} heads ({_size(row)}): {percent(row['balanced_accuracy'])}, by chance {percent(row['chance'])} "
        f"({p_text(row['p_holm'])}; {count(row['n_holders'], 'head')} beside {row['n_others']:,} in {count(row['n_runs'], 'run')})."
        for row in best.head(_MOST_NAMED).iter_rows(named=True)
    ]
    answer = (
        f"Weight features tell a role in runs of unseen seeds in {told.height} of {count(table.height, 'test')}."
        if told.height
        else f"In none of {count(table.height, 'test')} do weight features tell a role in runs of unseen seeds better than chance."
    )
    result.find(
        "weights",
        "classification",
        answer,
        *said,
        f"Labels are exchanged {int(table['draws'].to_numpy().max()):,} times within layers.",
        None if told.height else _power(table),
        n_told=told.height,
        n_tests=table.height,
    )


def _power(table: pl.DataFrame) -> str:
    """What could have been told: the upper end of chance is the accuracy that had to be passed, before correction."""
    widest = float(table["upper"].to_numpy().max())
    fewest = int(table["n_holders"].to_numpy().min())
    return f"Chance alone reaches up to {percent(widest)} with as few as {count(fewest, 'head')} of a role: more seeds would narrow this."


def _alike(result: Result) -> None:
    table = result.tables["alike"]
    closer = table.filter(pl.col("p_holm") <= LEVEL)
    across = closer.filter(pairs=ACROSS).sort("p_holm", "distance")
    said = [
        f"{row['role'].capitalize()} heads ({row['size']}) are {digits(row['distance'])} apart across runs; by chance "
        f"{digits(row['expected'])} ({p_text(row['p_holm'])})."
        for row in across.head(_MOST_NAMED).iter_rows(named=True)
    ]
    n_across = table.filter(pairs=ACROSS).height
    result.find(
        "weights",
        "alike",
        f"Heads of a role have more alike weights across runs than other heads of their layers for {across.height} of "
        f"{count(n_across, 'role and size', 'roles and sizes')}.",
        *said,
        f"Within runs they do for {closer.height - across.height} of {table.height - n_across}.",
        key=False,
        n_closer=across.height,
        n_tests=table.height,
    )


def _differences(result: Result) -> None:
    """For each role, the features in which its heads differ clearly from others."""
    clear = result.tables["differences"].filter(pl.col("p_holm") <= LEVEL)
    for (role,), own in clear.group_by("role", maintain_order=True):
        named = own.sort(pl.col("difference").abs(), descending=True).head(_MOST_NAMED)
        parts = [
            f"{row['feature']} ({digits(row['difference'])}, {row['size']})" for row in named.iter_rows(named=True)
        ]
        result.find(
            "features",
            str(role),
            f"{str(role).capitalize()} heads differ from other heads of their layers most in {listed(parts)}.",
            "The numbers are differences in standard deviations of heads within layers, and the sizes.",
            key=False,
        )
    if clear.is_empty():
        n = result.tables["differences"].height
        result.find(
            "features",
            "none",
            f"No single feature sets the heads of a role apart ({count(n, 'test')}, Holm).",
            key=False,
        )


def _matched(result: Result) -> None:
    table = result.tables["matched_roles"].filter(by=BOTH).drop_nulls("p")
    if table.is_empty():
        return
    more = table.filter(pl.col("p_holm") <= LEVEL, pl.col("share") > pl.col("expected"))
    said = [
        f"{row['role'].capitalize()} heads ({row['size']}): {row['n']:,} of {row['n_possible']:,} possible pairs, by chance "
        f"{percent(row['expected'])} ({p_text(row['p_holm'])})."
        for row in more.sort("p_holm", "share", descending=[False, True]).head(_MOST_NAMED).iter_rows(named=True)
    ]
    result.find(
        "matches",
        "roles",
        f"Matched over runs, heads meet heads of the same role more often than their layers explain for {more.height} of "
        f"{count(table.height, 'role and size', 'roles and sizes')}.",
        *said,
        "They are matched by attention and outputs.",
        n_more=more.height,
        n_tests=table.height,
    )


def _similarity(result: Result) -> None:
    table = result.tables["matching_steps"]
    for by, words in _SOUGHT.items():
        own = table.filter(by=by).sort("step")
        ends = [own.filter(step=step) for step in (own["step"][0], own["step"][-1])]
        first, last = (float(end["similarity"].to_numpy().mean()) for end in ends)
        untrained = int(own["step"][0]) == 0 and len(own["step"].unique()) > 1
        result.find(
            "matches",
            by,
            f"At the last step, heads matched by {words} have a similarity of {digits(last)} on average"
            + (f", untrained ones of {digits(first)}." if untrained else "."),
            f"{percent(float(ends[1]['same_layer'].to_numpy().mean()))} lie in the same layer; random partners would in "
            f"{percent(float(ends[1]['same_layer_chance'].to_numpy().mean()))}.",
            "Matching takes the best partners, so that unrelated heads have a similarity above 0, too."
            if by == BOTH
            else None,
            key=False,
        )

"""Sentences on roles: which comes first, when they arise, how many heads hold them, whether these stay or change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from headway.studies.prose import LEVEL, capital, digits, from_to, p_text, percent
from headway.studies.result import Result
from headway.studies.roles.heads import NONE
from headway.studies.roles.onsets import in_half
from headway.text import count, listed

_MOST_NAMED = 3


def findings(result: Result) -> None:
    """Add the findings. A role is named by its name; numbers come first, what they do not say last."""
    _sequence(result)
    _order(result)
    _onsets(result)
    _number(result)
    _stay(result)
    _several(result)
    _changes(result)
    _levels(result)


def _sequence(result: Result) -> None:
    onsets = result.tables["firsts"]
    steps = in_half(onsets)
    if len(steps) < 2:
        return
    fewer = [role for role in onsets["role"].unique(maintain_order=True) if role not in steps]
    result.find(
        "order",
        "sequence",
        f"In at least half of the {count(onsets['run'].n_unique(), 'run')}, {arisen(steps)}.",
        f"In fewer runs there are {listed(fewer)} heads." if fewer else None,
        "A role has arisen once some head passes its level at every later checkpoint.",
        steps=steps,
    )


def arisen(steps: Mapping[str, int]) -> str:
    """Roles with their steps, such as `induction heads have arisen by step 224`."""
    said = [f"{role} heads by step {step:,}" for role, step in steps.items()]
    return listed(said).replace(" heads by", " heads have arisen by", 1)


def _order(result: Result) -> None:
    table = result.tables["order"]
    overall = table.filter(pl.col("size").is_null(), pl.col("n_first") + pl.col("n_second") + pl.col("n_tie") > 0)
    for row in overall.sort("p_holm", nulls_last=True, maintain_order=True).iter_rows(named=True):
        result.find(
            "order",
            f"{row['first']}, {row['second']}",
            *_order_words(row),
            _by_size(table, row),
            _by_level(result, row),
            key=row["p_holm"] is not None and row["p_holm"] <= LEVEL,
            **row,
        )
    result.find(
        "order",
        "caveat",
        "A role that comes first in every run need not be what the other one needs.",
        "Runs of one size share their data and its order, so they are not independent in all respects.",
        "An order between two neighbouring checkpoints cannot be seen: such runs are ties.",
        key=False,
    )


def _order_words(row: Mapping[str, Any]) -> tuple[str | None, ...]:
    forward = row["n_first"] >= row["n_second"]
    early, late = (row["first"], row["second"]) if forward else (row["second"], row["first"])
    n_early = max(row["n_first"], row["n_second"])
    early_complete = "n_first_complete" if forward else "n_second_complete"
    n_late, known = row["n_first"] + row["n_second"] - n_early, row["n"] - row["n_unknown"]
    if row["n_first"] == row["n_second"]:
        answer = f"Neither {early} nor {late} heads come first in most runs ({n_early} each way of {known})."
    else:
        answer = f"{early.capitalize()} heads arise before {late} heads in {n_early} of {count(known, 'run')}"
        answer += f" ({p_text(row['p_holm'])})."
    low, high = row["lag_lower"], row["lag_upper"]
    if not forward:
        low, high = (None if end is None else -end for end in (high, low))
    return (
        answer,
        f"The other way round it is so in {n_late or 'none'}." if n_early > n_late else None,
        f"In {row['n_tie']} the checkpoints are too far apart to tell." if row["n_tie"] else None,
        f"In {row['n_unknown']} neither arises while both were measured." if row["n_unknown"] else None,
        f"Both were measured to the end in {row['n_complete']}; {row[early_complete]} of these have this order."
        if row["n_complete"] < row["n"]
        else None,
        _lag_words(low, high),
    )


def _lag_words(low: float | None, high: float | None) -> str | None:
    """The bounds of the mean lag, in decades of steps, as factors."""
    if low is None:
        return None
    if high is None:
        return f"On average the later role comes at {digits(10**low)} times the step of the earlier one, or later."
    return f"On average the later role comes at between {digits(10**low)} and {digits(10**high)} times the step of the earlier one."


def _by_size(table: pl.DataFrame, row: Mapping[str, Any]) -> str | None:
    same = (pl.col("first") == row["first"]) & (pl.col("second") == row["second"])
    sizes = table.filter(same, pl.col("size").is_not_null())
    if sizes.height < 2:
        return None
    name = "n_first" if row["n_first"] >= row["n_second"] else "n_second"
    said = [f"{size} {n} of {of}" for size, n, of in sizes.select("size", name, "n").rows()]
    return f"By size: {', '.join(said)}."


def _by_level(result: Result, row: Mapping[str, Any]) -> str | None:
    """Whether the order holds at other levels."""
    table = result.tables["order_by_level"]
    own = table.filter(pl.col("first") == row["first"], pl.col("second") == row["second"])
    if own.height < 2:
        return None
    multiples = listed([f"{multiple:g}" for multiple in own["multiple"]])
    split = listed([f"{first}–{second}" for first, second in own.select("n_first", "n_second").rows()])
    return f"At levels of {multiples} times the untrained spread, the runs split {split}."


def _onsets(result: Result) -> None:
    onsets = result.tables["firsts"]
    for role, of in _by(onsets, "role"):
        known = of.filter(pl.col("upper").is_not_null())
        sizes = [
            f"{size} {_steps(own['lower'], own['upper'])} ({own.filter(pl.col('upper').is_not_null()).height} of {own.height})"
            for size, own in _by(of, "size")
        ]
        result.find(
            "onset",
            role,
            f"{role.capitalize()} heads arise and stay in {known.height} of {count(of.height, 'run')}.",
            f"Between these steps the onset lies: {'; '.join(sizes)}." if known.height else None,
            key=False,
            n=of.height,
            n_reached=known.height,
        )


def _steps(lower: pl.Series, upper: pl.Series) -> str:
    """The range over runs of the steps between which an onset lies, such as `128–512`."""
    if upper.null_count() == len(upper):
        return f"later than {max(lower.to_list()):,}"
    return f"{min(lower.fill_null(0).to_list()):,}–{max(upper.drop_nulls().to_list()):,}"


def _number(result: Result) -> None:
    table = result.tables["holders"]
    last = table.filter(pl.col("step") == pl.col("step").max().over("size"))
    said: list[str] = []
    numbers: dict[str, Any] = {}
    for role, of in _by(last, "role"):
        means = of.group_by("size", maintain_order=True).agg(pl.col("share").mean(), pl.col("n_heads").mean())
        numbers[role] = means.to_dicts()
        said.append(f"{from_to(means.select('size', 'share').rows(), percent)} of heads pass the level of {role} heads")
    if said:
        result.find(
            "number",
            "last",
            f"At the last step, {said[0]}, averaged over runs.",
            *(f"{capital(words)}." for words in said[1:]),
            "The level is low: it says that a head differs from untrained ones, not that it does little else.",
            roles=numbers,
        )


def _stay(result: Result) -> None:
    table = result.tables["stays"]
    said: list[str] = []
    numbers: dict[str, Any] = {}
    for role, of in _by(table, "role"):
        before, kept = int(of["n_before"].sum()), int(of["n_kept"].sum())
        numbers[role] = {"n_before": before, "n_kept": kept}
        if before:
            said.append(f"{role} heads {percent(kept / before)} of {before:,}")
    if said:
        result.find(
            "stay",
            "kept",
            f"Of heads that held a role before, these still hold it at the last measured step: {said[0]}.",
            f"For others: {', '.join(said[1:])}." if said[1:] else None,
            key=False,
            roles=numbers,
        )


def _several(result: Result) -> None:
    table = result.tables["several"].drop_nulls("p_holm")
    clear = table.filter(pl.col("p_holm") <= LEVEL)
    if not len(table):
        return
    said = [_pair_words(row) for row in clear.sort("p_holm", maintain_order=True).iter_rows(named=True)]
    result.find(
        "several",
        "pairs",
        *(said[:_MOST_NAMED] or ["No two roles fall on the same heads more or less often than chance gives."]),
        "By chance roles are dealt to the heads of each layer independently.",
        key=bool(said),
        pairs=table.to_dicts(),
    )


def _pair_words(row: Mapping[str, Any]) -> str:
    how = "more" if row["n"] > row["expected"] else "less"
    return (
        f"{row['one'].capitalize()} and {row['other']} heads are the same heads {how} often than chance gives: {row['n']:,}, "
        f"by chance {digits(row['expected'])} ({p_text(row['p_holm'])})."
    )


def _changes(result: Result) -> None:
    table = result.tables["changes"]
    moved = table.filter(pl.col("before") != pl.col("after"), pl.col("after") != NONE, pl.col("n") > 0)
    total = int(table["n"].sum())
    if not total:
        return
    n_moved, lost = int(moved["n"].sum()), int(table.filter(pl.col("after") == NONE)["n"].sum())
    most = moved.sort("n", descending=True).head(_MOST_NAMED)
    named = [f"{row['before']} to {row['after']} ({row['n']:,})" for row in most.iter_rows(named=True)]
    above = moved.filter(pl.col("p_holm") <= LEVEL, pl.col("n") > pl.col("expected"))
    often = [f"{row['before']} to {row['after']}" for row in above.iter_rows(named=True)]
    result.find(
        "changes",
        "heads",
        f"Of {total:,} heads with a role before the last step, {percent(n_moved / total)} change to another role and "
        f"{percent(lost / total)} lose theirs.",
        f"The most frequent changes are {listed(named)}." if named else None,
        f"More often than chance: {listed(often)}." if often else None,
        "A head's role is the one whose level it exceeds most. Roles at two steps are compared, not the path between.",
        key=False,
        n=total,
        n_moved=n_moved,
        n_lost=lost,
    )


def _levels(result: Result) -> None:
    table = result.tables["levels"]
    for row in table.filter(pl.col("level").is_null()).iter_rows(named=True):
        why = (
            "no head was measured at step 0, and no level was given"
            if not row["n_untrained"]
            else "untrained heads already reach what the score can be"
        )
        result.notes.append(f"The role {row['role']} is left out: {why}.")
    passing = table.drop_nulls("untrained_share").filter(pl.col("untrained_share") > 0)
    for row in passing.iter_rows(named=True):
        result.notes.append(
            f"{percent(row['untrained_share'])} of untrained heads pass the given level of {row['role']}, {row['level']:.3g}."
        )


def _by(frame: pl.DataFrame, column: str) -> list[tuple[str, pl.DataFrame]]:
    return [(str(of[column][0]), of) for of in frame.partition_by(column, maintain_order=True)]

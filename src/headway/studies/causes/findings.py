"""Sentences of the study: what each factor does, which data a transition needs, and what these runs could have told."""

from __future__ import annotations

import re
from typing import Any

import polars as pl

from headway.studies.causes.trajectories import Laboratory, Outcome
from headway.studies.prose import LEVEL, capital, digits, p_text
from headway.studies.result import Result
from headway.text import count, listed

NONE = "none"
_WINDOW = re.compile(r"(\d+)-(\d+)")

Row = dict[str, Any]


def say(result: Result, lab: Laboratory) -> None:
    """Add all findings."""
    for outcome in lab.outcomes:
        for factor in lab.factors:
            _say_onset(result, outcome, factor)
            _say_value(result, outcome, factor)
    for outcome in lab.outcomes:
        for factor, levels in lab.factors.items():
            if NONE in levels and any(_WINDOW.fullmatch(level) for level in levels):
                _say_windows(result, outcome, factor, levels)
    _say_interactions(result, lab)
    _say_power(result, lab)


def rows_of(result: Result, what: str, outcome: str, factor: str) -> list[Row]:
    """The comparisons of one factor's levels."""
    if "effects" not in result.tables:
        return []
    own = (pl.col("what") == what) & (pl.col("outcome") == outcome) & (pl.col("factor") == factor)
    return result.tables["effects"].filter(own).to_dicts()


def _clear(row: Row) -> bool:
    return row["p_corrected"] is not None and bool(row["p_corrected"] <= LEVEL)


def _name(factor: str) -> str:
    return factor.replace("_", " ")


def _say_onset(result: Result, outcome: Outcome, factor: str) -> None:
    """By what factor the onset differs between levels, the clearest comparison first."""
    rows = [row for row in rows_of(result, "onset", outcome.name, factor) if row["p"] is not None]
    if not rows:
        return
    clear = sorted((row for row in rows if _clear(row)), key=lambda row: float(row["p"]))
    result.find(
        "onset",
        f"{outcome.name}_{factor}",
        f"The onset of {outcome.words} depends on {_name(factor)}: {_onset_words(clear[0], factor)}."
        if clear
        else f"These runs do not show that the onset of {outcome.words} depends on {_name(factor)}.",
        *(f"{capital(_onset_words(row, factor))}." for row in (clear[1:4] if clear else _smallest(rows))),
        _not_told(len(rows) - len(clear)) if clear else None,
        key=True,
        outcome=outcome.name,
        factor=factor,
        n_clear=len(clear),
        n_compared=len(rows),
    )


def _smallest(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: float(row["p"]))[:1]


def _onset_words(row: Row, factor: str) -> str:
    level, against = row["level"], row["against"]
    reached = (
        f"{row['level_reached']} of {count(row['level_runs'], 'run')} with {_name(factor)} {level} have one, and "
        f"{row['against_reached']} of {row['against_runs']} with {against}"
    )
    p = f"corrected {p_text(row['p_corrected'])}"
    if row["level_reached"] == 0 or row["against_reached"] == 0:
        return f"{reached} ({p})"
    low, high = row["lower"], row["upper"]
    some = (
        ""
        if row["level_reached"] == row["level_runs"] and row["against_reached"] == row["against_runs"]
        else f"; {reached}"
    )
    return (
        f"with {_name(factor)} {level} it is at {digits(row['estimate'])} times the step that it is at with {against} "
        f"(95% interval {digits(low)}–{digits(high)}, {p}{some})"
    )


def _say_value(result: Result, outcome: Outcome, factor: str) -> None:
    rows = rows_of(result, outcome.of, outcome.name, factor)
    rows = [row for row in rows if row["p"] is not None]
    if not rows:
        return
    clear = sorted((row for row in rows if _clear(row)), key=lambda row: float(row["p"]))
    what = f"the {outcome.of} {outcome.words}"
    result.find(
        "values",
        f"{outcome.name}_{factor}",
        f"{capital(what)} depends on {_name(factor)}: {_value_words(clear[0], factor)}."
        if clear
        else f"These runs do not show that {what} depends on {_name(factor)}.",
        *(f"{capital(_value_words(row, factor))}." for row in (clear[1:4] if clear else _smallest(rows))),
        _not_told(len(rows) - len(clear)) if clear else None,
        key=False,
        outcome=outcome.name,
        factor=factor,
        n_clear=len(clear),
        n_compared=len(rows),
    )


def _value_words(row: Row, factor: str) -> str:
    more = "higher" if row["estimate"] >= 0 else "lower"
    low, high = sorted((abs(row["lower"]), abs(row["upper"])))
    interval = f"{digits(low)}–{digits(high)}" if row["lower"] * row["upper"] > 0 else _signed(row)
    return (
        f"with {_name(factor)} {row['level']} it is {digits(abs(row['estimate']))} {more} than with {row['against']} "
        f"(95% interval {interval}, corrected {p_text(row['p_corrected'])})"
    )


def _signed(row: Row) -> str:
    """The interval of a difference that may have either sign."""
    return f"{digits(row['lower'])} to {digits(row['upper'])} for the difference".replace("-", "−")


def _not_told(n: int) -> str | None:
    if not n:
        return None
    others = "comparison is" if n == 1 else f"{n} comparisons are"
    return f"The other {others} not significant after correction."


def _say_windows(result: Result, outcome: Outcome, factor: str, levels: tuple[str, ...]) -> None:
    """Which data before a transition it needs: one window of steps is withheld, or alone holds them."""
    rows = {row["level"]: row for row in rows_of(result, "onset", outcome.name, factor) if row["against"] == NONE}
    usual = _usual_onset(result, outcome, factor)
    if not rows or usual is None:
        return
    said, needed, values = [], [], []
    for level in levels:
        window = _WINDOW.fullmatch(level)
        row = rows.get(level)
        if not window or row is None or row["p"] is None:
            continue
        place = _place(int(window[1]), int(window[2]), usual)
        late = _clear(row) and row["estimate"] > 1
        values.append(
            {"window": level, "place": place, "later": late, "estimate": row["estimate"], "p": row["p_corrected"]}
        )
        if late:
            needed.append(level)
        said.append(f"{capital(place)}, steps {level}: {_window_words(row)}.")
    if factor == "withheld":
        answer = (
            f"Data of steps {listed(needed)} matter for {outcome.words}: without repeated passages there, it arises later."
            if needed
            else f"No window of steps that was left out is shown to matter for when {outcome.words} arises."
        )
    else:
        enough = [level for level in rows if rows[level]["level_reached"] == rows[level]["level_runs"]]
        answer = (
            f"Steps {listed(enough)} hold all that {outcome.words} needs: every run has it with these data alone."
            if factor == "window" and enough
            else f"{capital(outcome.title)} does not arise in every run from any of these windows alone."
        )
    low, high = usual
    result.find(
        "windows",
        f"{outcome.name}_{factor}",
        answer,
        *said,
        f"Without a window, the median run has its onset after step {low - 1:,.0f} and by step {high - 1:,.0f}.",
        key=True,
        outcome=outcome.name,
        factor=factor,
        windows=values,
        usual=list(usual),
    )


def _usual_onset(result: Result, outcome: Outcome, factor: str) -> tuple[float, float] | None:
    """The medians of the ends of the intervals of runs without a window, in steps + 1."""
    if "onsets" not in result.tables:
        return None
    own = result.tables["onsets"].filter(
        (pl.col("outcome") == outcome.name) & (pl.col("factor") == factor) & (pl.col("level") == NONE)
    )
    if 2 * own["by"].count() <= own.height:
        return None
    after, by = own["after"].median(), own["by"].fill_null(float("inf")).median()
    assert isinstance(after, float)
    assert isinstance(by, float)
    return after, by


def _place(start: int, end: int, usual: tuple[float, float]) -> str:
    after, by = usual
    if end <= after:
        return "before the onset"
    return "after the onset" if start >= by else "around the onset"


def _window_words(row: Row) -> str:
    if row["level_reached"] == 0:
        return f"no run has an onset (corrected {p_text(row['p_corrected'])})"
    bounds = f"{digits(row['lower'])}–{digits(row['upper'])}"
    return (
        f"the onset is at {digits(row['estimate'])} times the step ({bounds}, corrected {p_text(row['p_corrected'])})"
    )


def _say_interactions(result: Result, lab: Laboratory) -> None:
    if len(lab.factors) < 2 or "interactions" not in result.tables:
        return
    table = result.tables["interactions"]
    titles = {outcome.name: f"{outcome.of} {outcome.words}" for outcome in lab.outcomes}
    clear = table.filter(pl.col("p_corrected") <= LEVEL).sort("p").to_dicts()
    pairs = [f"{_name(row['factor'])} and {_name(row['other'])} on the {titles[row['outcome']]}" for row in clear]
    result.find(
        "interactions",
        "interactions",
        f"Effects depend on each other: those of {listed(pairs)}."
        if clear
        else "No effect of one factor is shown to depend on the level of another.",
        "An effect above is an average over the levels of the other factors: look at the figure of single combinations."
        if clear
        else None,
        key=bool(clear),
        interactions=clear,
    )


def _say_power(result: Result, lab: Laboratory) -> None:
    """The smallest effects that these runs can tell."""
    if "effects" not in result.tables:
        return
    told = result.tables["effects"].drop_nulls("detectable")
    if not told.height:
        return
    per_level = [size for name in lab.factors for size in lab.runs.group_by(name).len()["len"].to_list()]
    said, values = [], []
    for outcome in lab.outcomes:
        for what in ("onset", outcome.of):
            own = told.filter((pl.col("outcome") == outcome.name) & (pl.col("what") == what))["detectable"]
            if not len(own):
                continue
            typical = float(own.median())  # type: ignore[arg-type]
            values.append({"outcome": outcome.name, "what": what, "detectable": typical})
            said.append(
                f"onsets of {outcome.words} that differ by a factor of {digits(typical)}"
                if what == "onset"
                else f"a difference of {digits(typical)} in the {what} {outcome.words}"
            )
    fewest = min(per_level)
    result.find(
        "power",
        "power",
        f"With {count(fewest, 'run')} of a level, these runs find with a power of 80%: {'; '.join(said)}.",
        "Smaller effects would mostly be missed, so that no difference found is no proof of none.",
        key=False,
        detectable=values,
        fewest_runs=fewest,
    )

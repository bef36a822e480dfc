"""Sentences on relations: when composition rises, whether it comes before induction, whether it repeats, what paths do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from headway.studies.prose import LEVEL, digits, p_text, percent
from headway.studies.relations.paths import LOGIT
from headway.studies.relations.paths import title as title_of_path
from headway.studies.relations.repeats import TOP
from headway.studies.result import Result
from headway.text import count

_KINDS = {"q": "queries", "k": "keys", "v": "values"}
_PLACES = {"k": 0, "q": 1, "v": 2}  # K-composition is what induction needs
_MOST_NAMED = 3


def findings(result: Result) -> None:
    """Add the findings: those on the main pair of roles first."""
    if "order" in result.tables:
        _rise(result)
        _order(result)
    if "repeats" in result.tables:
        _same_roles(result)
        _same_heads(result)
    if "path_means" in result.tables:
        _paths(result)
    if "edge_counts" in result.tables:
        _edges(result)


def _rise(result: Result) -> None:
    """Of the main pair: in how many runs composition beats random heads, and how large it is at the end."""
    table = result.tables["trajectories"]
    for first, second in _main(result):
        for kind in ("k", "q", "v"):
            own = table.filter(kind=kind, first=first, second=second)
            if own.is_empty():
                continue
            name = f"{kind.upper()}-composition of {first} and {second}"
            onsets = result.tables["firsts"].filter(role=name)
            risen = onsets.filter(pl.col("upper").is_not_null())
            last = own.filter(pl.col("step") == pl.col("step").max().over("run"))
            mean, largest, chance = (_mean(last, column) for column in ("mean", "largest", "chance"))
            result.find(
                "rise",
                kind,
                f"{name} heads rises above random heads, and stays there, in {risen.height} of {count(onsets.height, 'run')}.",
                f"The first such pair of heads arises between steps {_steps(risen)}." if risen.height else None,
                f"At the last step the largest pair of a run has {digits(largest)}, on average over runs, and all pairs {digits(mean)}.",
                f"Random heads have {digits(chance)}.",
                _beyond(result, kind, first, second),
                f"There are {count(int(last['n_pairs'].sum()), 'pair')} in {count(last.height, 'run')}.",
                key=kind == "k",
                n_runs=onsets.height,
                n_risen=risen.height,
                largest=largest,
                mean=mean,
                chance=chance,
            )


def _beyond(result: Result, kind: str, first: str, second: str) -> str | None:
    """Whether the pairs have more than all heads of their layers."""
    row = result.tables["beyond"].filter(kind=kind, first=first, second=second).row(0, named=True)
    said = f"All heads of the same layers have {digits(row['others'])}"
    if row["p_holm"] is None:
        return f"{said}; one run cannot tell whether that is less."
    clear = row["p_holm"] <= LEVEL
    how = ("more" if row["difference"] > 0 else "less") if clear else "not clearly more"
    return (
        f"{said}: the pairs have {how} than their layers explain ({digits(row['difference'])}, 95% {digits(row['lower'])} to "
        f"{digits(row['upper'])}, {p_text(row['p_holm'])})."
    )


def _main(result: Result) -> list[tuple[str, str]]:
    """The pair of roles that is told of, if heads hold them."""
    from headway.studies.relations import MAIN

    pairs = set(result.tables["trajectories"].select("first", "second").unique().iter_rows())
    return [MAIN] if MAIN in pairs else []


def _steps(onsets: pl.DataFrame) -> str:
    lower, upper = onsets["lower"].fill_null(0).to_list(), onsets["upper"].to_list()
    return f"{min(lower):,} and {max(upper):,}"


def _mean(frame: pl.DataFrame, column: str) -> float:
    return float(frame[column].drop_nulls().to_numpy().mean())


def _order(result: Result) -> None:
    overall = result.tables["order"].filter(
        pl.col("size").is_null(), pl.col("first").str.contains("-comp") | pl.col("second").str.contains("-comp")
    )
    for row in overall.iter_rows(named=True):
        if row["n"] > row["n_unknown"]:
            result.find(
                "order",
                f"{row['first']}, {row['second']}",
                *_order_words(row),
                key="induction" in (row["first"], row["second"]),
                **row,
            )
    if overall.height:
        result.find(
            "order",
            "caveat",
            "What comes first need not be the cause.",
            "The pairs of heads are those that hold their roles at the end; earlier pairs of other heads are not seen.",
            key=False,
        )


def _order_words(row: Mapping[str, Any]) -> tuple[str | None, ...]:
    forward = row["n_first"] >= row["n_second"]
    early, late = (row["first"], row["second"]) if forward else (row["second"], row["first"])
    n_early, n_late = max(row["n_first"], row["n_second"]), min(row["n_first"], row["n_second"])
    known = row["n"] - row["n_unknown"]
    if n_early == n_late:
        answer = (
            f"Neither {_plural(early)} nor {_plural(late)} come first in most runs ({n_early} each way of {known})."
        )
    else:
        verb = "rises" if "composition" in early else "arise"
        answer = f"{_capital(_plural(early))} {verb} before {_plural(late)} in {n_early} of {count(known, 'run')}"
        answer += f" ({p_text(row['p_holm'])})."
    return (
        answer,
        f"The other way round it is so in {n_late or 'none'}." if n_early > n_late else None,
        f"In {row['n_tie']} the checkpoints are too far apart to tell." if row["n_tie"] else None,
        f"In {row['n_unknown']} neither arises." if row["n_unknown"] else None,
    )


def _plural(name: str) -> str:
    return "K-composition of the two roles" if "composition" in name else f"{name} heads"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _same_roles(result: Result) -> None:
    table = result.tables["repeats"].filter(pl.col("what") == "same roles").drop_nulls("p")
    if table.is_empty():
        return
    more = table.filter(pl.col("p_holm") <= LEVEL, pl.col("n") > pl.col("expected")).sort(
        "p_holm", "n", descending=[False, True]
    )
    said = [
        f"{row['kind'].upper()}: {row['first']} to {row['second']} heads ({row['size']}) {row['n']} of {row['n_runs'] * TOP}, by chance "
        f"{digits(row['expected'])} ({p_text(row['p_holm'])})."
        for row in more.head(_MOST_NAMED).iter_rows(named=True)
    ]
    draws = int(table["draws"].max())  # type: ignore[arg-type]
    answer = (
        f"The strongest pairs join the same roles more often than their layers explain, for {more.height} of "
        f"{count(table.height, 'pair')} of roles, kinds and sizes."
        if said
        else f"For none of {count(table.height, 'pair')} of roles, kinds and sizes do the strongest pairs join these roles more often "
        "than their layers explain."
    )
    result.find(
        "repeats",
        "roles",
        answer,
        *said,
        f"The {TOP} strongest pairs of each run at its last step are counted, beside {count(draws, 'exchange')} of heads within layers.",
        key=True,
        n_more=more.height,
        n_tests=table.height,
        draws=draws,
    )


def _same_heads(result: Result) -> None:
    table = result.tables["repeats"].filter(pl.col("what") == "same heads").drop_nulls("p")
    if table.is_empty():
        return
    more = table.filter(pl.col("p_holm") <= LEVEL)
    n, expected = int(table["n"].sum()), float(table["expected"].sum())
    result.find(
        "repeats",
        "heads",
        f"The strongest pairs have the same numbers of heads in two runs {n:,} times; exchanged heads give {digits(expected)}.",
        f"It is more than chance for {more.height} of {count(table.height, 'kind and size', 'kinds and sizes')}.",
        "The number of a head has no meaning across seeds, unless runs share their initialisation.",
        key=False,
        n=n,
        expected=expected,
    )


def _paths(result: Result) -> None:
    """A finding for each effect, input and replacement at the last step."""
    of_runs = result.tables["path_changes"]
    last = of_runs.filter(pl.col("step") == pl.col("step").max().over("run"))
    means = result.tables["path_means"]
    told = last.sort(pl.col("effect") == LOGIT, pl.col("input").replace_strict(_PLACES), maintain_order=True)
    for (effect, name, word), own in told.group_by("effect", "input", "replaced_by", maintain_order=True):
        senders, receivers, title = own.select("senders", "receivers", "title").row(0)
        by_size = means.filter(effect=effect, input=name, replaced_by=word)
        by_size = by_size.filter(pl.col("step") == pl.col("step").max().over("size"))
        result.find(
            "paths",
            f"{effect}, {name}, {word}",
            f"Without what {_heads(senders)} write in the {_KINDS[str(name)]} of {_heads(receivers)}, {_lowered(title)} changes by "
            f"{digits(_mean(own, 'change'))} at the last step.",
            _beside(own, by_size),
            f"The largest pair of a run changes it by {digits(_mean(own, 'largest'))} on average, from {digits(_mean(own, 'before'))}.",
            f"These are {count(int(own['n_pairs'].sum()), 'pair')} in {count(own.height, 'run')} on "
            f"{count(int(own['n_texts'].to_numpy().min()), 'text')}; the part is replaced by its "
            f"{'mean' if word == 'mean' else 'part on another text'}.",
            key=name == "k" and effect != LOGIT and word == told["replaced_by"][0],
            title=title,
            n_runs=own.height,
        )


def _heads(words: str) -> str:
    """`role=induction at last` and `top 3 by prev` as a noun."""
    chosen = words.partition(" at ")[0]
    return f"{chosen.partition('=')[2].strip()} heads" if "=" in chosen else f"the {chosen}"


def _lowered(title: str) -> str:
    if title == title_of_path(LOGIT):
        return "the logit of the next token"
    return title[:1].lower() + title[1:] if title[1:2].islower() else title


def _beside(own: pl.DataFrame, by_size: pl.DataFrame) -> str:
    beside = own.drop_nulls("control")
    if beside.is_empty():
        return "There are no other heads in the senders’ layers to compare with."
    said = f"Other heads of the same layers change it by {digits(_mean(beside, 'control'))}."
    if without := own.height - beside.height:
        said += f" {count(without, 'run')} of {own.height} {'has' if without == 1 else 'have'} no other heads in these layers."
    known = by_size.drop_nulls("lower")
    if known.is_empty():
        return said
    parts = [
        f"{digits(row['difference'])} ({row['size']}, 95% {digits(row['lower'])} to {digits(row['upper'])}, {count(row['n_beside'], 'run')})"
        for row in known.iter_rows(named=True)
    ]
    return f"{said} The difference is {', '.join(parts)}."


def _edges(result: Result) -> None:
    table = result.tables["edge_counts"]
    at = {"last": pl.col("step") == pl.col("step").max().over("run"), "first": pl.col("step") == 0}
    last, first = (table.filter(where) for where in (at["last"], at["first"]))
    shares = [
        f"{percent(_share(own))} of {kind.upper()}" for (kind,), own in last.group_by("kind", maintain_order=True)
    ]
    runs = last["run"].n_unique()
    result.find(
        "edges",
        "last",
        f"At the last step, composition beats random heads for {', '.join(shares)} pairs ({count(runs, 'run')}).",
        f"At step 0 it does for {percent(_share(first))} of all pairs." if first.height else None,
        "The correction over all pairs of a checkpoint allows any false edge in 5% of checkpoints.",
        "Random heads have directions of no preference. Trained heads share some directions, so that an edge alone is no circuit.",
        key=False,
        n_runs=runs,
    )


def _share(frame: pl.DataFrame) -> float:
    return int(frame["n_edges"].sum()) / int(frame["n"].sum())

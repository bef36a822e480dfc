"""Sentences on abilities and roles. Each says what was found, and what it does not say."""

from __future__ import annotations

from typing import Any

import polars as pl

from headway.known_abilities import known_ability, restates
from headway.studies.prose import LEVEL, capital, digits, p_text
from headway.studies.result import Result
from headway.studies.roles.findings import arisen
from headway.studies.roles.onsets import in_half
from headway.text import count

_MOST = 4
_MOST_ABILITIES = 8  # in sentences, those of runs with roles first
_KEY_ORDERS = 2  # of the first abilities, and of the clearest pairs, in the summary


def findings(result: Result) -> None:
    """Add the findings: the sequence, order, coupling, timing, then the abilities alone."""
    for add in (_sequence, _order, _coupling, _timing):
        add(result)
    _rises(result)


def _sequence(result: Result) -> None:
    """By which step half of the runs have roles and abilities; for the abilities that rise after some role."""
    if "order" not in result.tables:
        return
    roles, abilities = in_half(result.tables["role_onsets"]), in_half(result.tables["ability_onsets"])
    beside_roles = set(result.tables["order"]["ability"])
    after = [
        ability
        for ability, step in abilities.items()
        if ability in beside_roles and not restates(ability) and step > min(roles.values(), default=step)
    ]
    for place, ability in enumerate(after):
        before = {role: at for role, at in roles.items() if at < abilities[ability]}
        result.find(
            "order",
            f"sequence, {ability}",
            f"In at least half of the runs, {_named(ability)} has made half of its way by step {abilities[ability]:,}.",
            f"In at least half, {arisen(before)}.",
            "What comes first need not be a cause.",
            key=place < _KEY_ORDERS,
            step=abilities[ability],
            roles=before,
        )


def _order(result: Result) -> None:
    if "order" not in result.tables:
        return
    # The clear pairs first; of these, roles before abilities, and the closest ones: they tell the order most finely.
    table = result.tables["order"].sort(
        pl.col("p_holm") > LEVEL,
        pl.col("n_first") < pl.col("n_second"),
        (pl.col("lag_lower") + pl.col("lag_upper")).abs(),
        nulls_last=True,
        maintain_order=True,
    )
    for place, row in enumerate(table.iter_rows(named=True)):
        first = row["n_first"] >= row["n_second"]
        n_early = max(row["n_first"], row["n_second"])
        n_late = min(row["n_first"], row["n_second"])
        known = count(row["n"] - row["n_unknown"], "run")
        if first:
            answer = f"{row['role'].capitalize()} heads arise before {_named(row['ability'])} has made half of its way in {n_early} of {known}."
        else:
            answer = f"{capital(_named(row['ability']))} has made half of its way before {row['role']} heads arise in {n_early} of {known}."
        result.find(
            "order",
            f"{row['role']}, {row['ability']}",
            answer,
            f"The other way round it is so in {n_late or 'none'}. The checkpoints cannot tell in {row['n_tie'] or 'none'}.",
            f"The exact sign test gives {p_text(row['p_holm'])}, corrected for all pairs."
            if row["p"] is not None
            else None,
            "What comes first need not be a cause.",
            key=place < _KEY_ORDERS and row["p_holm"] is not None and row["p_holm"] <= LEVEL,
            **row,
        )


def _named(ability: str) -> str:
    """`accuracy on repeated tokens`, or the ability's own name if headway does not know it."""
    known = known_ability(ability)
    return known.title[:1].lower() + known.title[1:] if known else ability


def _coupling(result: Result) -> None:
    table = result.tables.get("coupling", pl.DataFrame())
    if not len(table):
        return
    tested = table.drop_nulls("p")
    clear = tested.filter(pl.col("p_holm") <= LEVEL).sort("r", descending=True, maintain_order=True)
    if len(tested):
        said = [_against(row, "r") for row in clear.head(_MOST).iter_rows(named=True)]
        result.find(
            "coupling",
            "changes",
            f"Changes of a role and of an ability go together within runs, beyond what runs of a size share, in {len(clear)} of "
            f"{count(len(tested), 'pair')}.",
            *said,
            "By chance each run’s role is set beside the ability of another run of its size.",
            "This does not say that the role makes the ability: both can follow from a third change of the run.",
            "A null can mean that checkpoints are too far apart, or runs too alike, to see it.",
            key=bool(len(clear)),
            pairs=table.to_dicts(),
        )


def _timing(result: Result) -> None:
    table = result.tables.get("timing", pl.DataFrame())
    tested = table.drop_nulls("p") if len(table) else table
    if not len(tested):
        return
    clear = tested.filter(pl.col("p_holm") <= LEVEL)
    result.find(
        "timing",
        "onsets",
        f"Runs whose role arises earlier have the ability earlier in {len(clear.filter(pl.col('tau') > 0))} of "
        f"{count(len(tested), 'pair')}, among runs of one size.",
        *(_against(row, "tau") for row in clear.head(_MOST).iter_rows(named=True)),
        "Onsets within one gap between checkpoints are ties, so a coarse grid hides this.",
        "It does not say what would happen if the role were kept from arising.",
        key=bool(len(clear)),
        pairs=table.to_dicts(),
    )


def _against(row: dict[str, Any], statistic: str) -> str:
    return (
        f"{row['role'].capitalize()} heads and {_named(row['ability'])}: {row[statistic]:.2f}, by chance {row['chance']:.2f} "
        f"({p_text(row['p_holm'])}, {count(row['n_runs'], 'run')})."
    )


def _rises(result: Result) -> None:
    onsets, half = result.tables["ability_onsets"], result.tables["ability_levels"]
    beside_roles = set(result.tables["order"]["ability"]) if "order" in result.tables else set()
    parts = sorted(onsets.partition_by("role", maintain_order=True), key=lambda of: of["role"][0] not in beside_roles)
    if len(parts) > _MOST_ABILITIES:
        more = count(len(parts) - _MOST_ABILITIES, "other ability is", "other abilities are")
        result.notes.append(f"{more} in the tables and figures only.")
    for of in parts[:_MOST_ABILITIES]:
        ability = of["role"][0]
        own = half.filter(pl.col("ability") == ability)
        reached = of.filter(pl.col("upper").is_not_null())
        range_ = ""
        if len(reached):
            low, high = min(reached["lower"].fill_null(0).to_list()), max(reached["upper"].to_list())
            range_ = f"It makes half of its way after step {low:,} and by step {high:,}."
        result.find(
            "abilities",
            str(ability),
            f"{capital(_named(str(ability)))} goes from {digits(_mean(own['start']))} to {digits(_mean(own['best']))} at best, averaged over "
            f"{count(len(own), 'run')}.",
            range_,
            f"In {len(of) - len(reached)} it does not get that far." if len(reached) < len(of) else None,
            key=False,
            n=len(of),
            n_reached=len(reached),
        )


def _mean(values: pl.Series) -> float:
    return float(values.mean())  # type: ignore[arg-type]

"""Roles and abilities: when does an ability rise, does it change with a role, and does an earlier role mean an earlier ability?

`docs/abilities.md` describes every table.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.progress import Progress, Silent
from headway.stats.corrections import holm, over
from headway.store.directory import RunDirectory
from headway.studies.abilities.coupling import coupling, timing
from headway.studies.abilities.curves import curves, levels, onsets, timeline
from headway.studies.abilities.findings import findings
from headway.studies.abilities.reading import TABLES, applies, read_abilities
from headway.studies.development.heads import read_heads
from headway.studies.result import Result
from headway.studies.roles.criteria import asked_roles, held
from headway.studies.roles.criteria import levels as role_levels
from headway.studies.roles.onsets import counted, firsts

__all__ = ["NAME", "SUBJECT", "TABLES", "applies", "study"]

NAME = "abilities"
SUBJECT = "roles"
_TESTED = {
    "role": pl.String(),
    "ability": pl.String(),
    "n_runs": pl.Int64(),
    **dict.fromkeys(("r", "tau", "chance", "chance_lower", "chance_upper", "p"), pl.Float64()),
}


def study(
    rundir: RunDirectory,
    *,
    roles: Sequence[str] = (),
    bootstraps: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Analyse the abilities of a run directory, and roles beside them; nothing is written before `Result.save`.

    Args:
        rundir: a run directory with a table of abilities.
        roles: roles of the user; see `headway.studies.roles.criteria.asked_roles`.
        bootstraps: exchanges of runs for p; 0 leaves p out.
        seed: seed of the exchanges.
        progress: shows the progress.

    Raises:
        RunDirectoryError: there are no abilities.
        StatisticsError: it holds no finite number.
        UsageError: a role is not of the form NAME=SCORE or NAME=SCORE>LEVEL.
    """
    chosen = asked_roles(roles)
    progress = progress or Silent()
    progress.start("abilities", 3)
    table = read_abilities(rundir)
    result = Result(NAME, SUBJECT)
    result.tables["curves"] = values = curves(table)
    if values.is_empty():
        raise StatisticsError("the table of abilities holds no finite number: there is nothing to analyse")
    result.tables["ability_levels"] = half = levels(values, _better(table))
    result.tables["ability_onsets"] = risen = onsets(values, half)
    result.values["sizes"] = values["size"].unique(maintain_order=True).to_list()
    progress.advance(note="curves")
    if "heads" in rundir.tables():
        heads = rundir.read("heads")
        there = [role for role in chosen if role.score in heads.columns]
        criteria = role_levels(heads, there)
        if there and criteria["level"].count():
            _with_roles(result, heads, criteria, values, risen, bootstraps, seed)
    else:
        result.leave_out(
            "coupling", "there is no table of heads: `headway measure` or `headway import-heads` makes one", _JOINT
        )
    result.tables["timeline"] = timeline(result.tables)
    progress.advance(note="roles")
    findings(result)
    progress.advance(note="findings")
    return result


_JOINT = ("role_curves", "role_onsets", "order", "coupling", "timing")


def _better(table: pl.DataFrame) -> dict[str, bool | None]:
    return dict(table.group_by("ability").agg(pl.col("higher_is_better").drop_nulls().first()).iter_rows())


def _with_roles(
    result: Result,
    heads: pl.DataFrame,
    criteria: pl.DataFrame,
    values: pl.DataFrame,
    risen: pl.DataFrame,
    shuffles: int,
    seed: int,
) -> None:
    """Add the tables on roles and abilities together, over the runs that have both."""
    runs = read_heads(heads, str(criteria["score"][0])).runs
    named = heads.drop("size", "seed").join(runs.select("run", "size", "seed"), on="run")
    known = runs["size"].unique(maintain_order=True).to_list()  # smallest first, as only the table of heads can tell
    result.values["sizes"] = [*known, *(size for size in result.values["sizes"] if size not in known)]
    shared = set(runs["run"]) & set(values["run"])
    if not shared:
        result.leave_out(
            "coupling",
            "no run of the table of heads has abilities: their names differ, or other runs were evaluated",
            _JOINT,
        )
        return
    roles_held = held(named.filter(pl.col("run").is_in(sorted(shared))), criteria)
    tops = roles_held.group_by("run", "size", "seed", "step", "role", maintain_order=True).agg(pl.col("value").max())
    result.tables["role_curves"] = tops
    result.tables["role_onsets"] = arisen = firsts(roles_held)
    values, risen = (frame.filter(pl.col("run").is_in(sorted(shared))) for frame in (values, risen))
    names = [criteria.drop_nulls("level")["role"].to_list(), values["ability"].unique(maintain_order=True).to_list()]
    rng = np.random.default_rng([seed, 8])
    order: list[dict[str, Any]] = []
    together: list[dict[str, Any]] = []
    in_time: list[dict[str, Any]] = []
    for role, ability in product(*names):
        pair = {"role": role, "ability": ability}
        onset_of = (arisen.filter(pl.col("role") == role), risen.filter(pl.col("role") == ability))
        curve_of = (tops.filter(pl.col("role") == role), values.filter(pl.col("ability") == ability))
        by_run = {row["run"]: row for row in onset_of[1].to_dicts()}
        both = [(row, by_run[row["run"]]) for row in onset_of[0].to_dicts() if row["run"] in by_run]
        if both:
            order.append(pair | counted(both))
        found = coupling(*curve_of, shuffles, rng), timing(*onset_of, shuffles, rng)
        for rows, row in zip((together, in_time), found, strict=True):
            rows += [pair | row] if row is not None else []
    result.tables["order"] = _holm(pl.DataFrame(order, infer_schema_length=None))
    result.tables["coupling"] = _holm(_frame(together, "r"))
    result.tables["timing"] = _holm(_frame(in_time, "tau"))


def _frame(rows: list[dict[str, Any]], statistic: str) -> pl.DataFrame:
    schema = {name: kind for name, kind in _TESTED.items() if name not in {"r", "tau"} - {statistic}}
    return pl.DataFrame(rows, schema=schema)


def _holm(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(p_holm=over(frame["p"], holm)) if "p" in frame.columns else frame

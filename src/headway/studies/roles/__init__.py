"""Roles of heads: which heads hold one, when each arises, in what order, and whether it stays.

A role is a score and a level. The level is what untrained heads do not reach, unless the user gives one.
`docs/roles.md` describes every table.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from headway.errors import StatisticsError
from headway.known_scores import ROLES, Role
from headway.progress import Progress, Silent
from headway.store.directory import RunDirectory
from headway.store.partitions import columns_of
from headway.studies.development.heads import of_runs, read_heads
from headway.studies.result import Result
from headway.studies.roles import heads, onsets
from headway.studies.roles.criteria import asked_roles, held, levels
from headway.studies.roles.findings import findings

__all__ = ["MULTIPLES", "NAME", "SUBJECT", "applies", "study"]

NAME = "roles"
SUBJECT = "heads"
MULTIPLES = (1.0, 2.0, 4.0, 8.0)  # at which the order is counted again


def applies(rundir: RunDirectory) -> bool:
    """Whether the heads table has scores of two roles at least, and step 0 to take levels from: then they are studied unasked."""
    parts = rundir.partitions("heads")
    # The columns of one partition are cheap to read. Without the scores there, the whole table need not be.
    scores = {role.score for role in ROLES.values()} & set(columns_of(parts[0]) if parts else ())
    if len(scores) < 2:
        return False
    table = rundir.read("heads")
    return 0 in table["step"] and sum(table[score].count() > 0 for score in scores) > 1


def study(
    rundir: RunDirectory,
    *,
    roles: Sequence[str] = (),
    bootstraps: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Analyse the roles of the heads table; nothing is written before `Result.save`.

    Args:
        rundir: a run directory with a heads table.
        roles: roles of the user, such as "induction=induction>0.4"; see `asked_roles`.
        bootstraps, seed: taken as by every study. All tests here are exact.
        progress: shows the progress.

    Raises:
        RunDirectoryError: there is no heads table.
        StatisticsError: it has no score of a role, or no role has a level.
        UsageError: a role is not of the form NAME=SCORE or NAME=SCORE>LEVEL.
    """
    chosen = asked_roles(roles)
    progress = progress or Silent()
    table = rundir.read("heads")
    there = [role for role in chosen if role.score in table.columns]
    if not there:
        raise StatisticsError(
            f"the heads table has none of the scores {', '.join(dict.fromkeys(role.score for role in chosen))}: "
            "`headway measure --scores all` measures them"
        )
    progress.start("roles", 3)
    result = Result(NAME, SUBJECT, {"roles": {role.name: role.score for role in there}})
    runs = read_heads(table, there[0].score).runs
    frame = of_runs(table, runs, "step", "layer", "head")
    result.tables["runs"] = runs
    result.tables["levels"] = criteria = levels(frame, there)
    names = criteria.drop_nulls("level")["role"].to_list()
    if not names:
        raise StatisticsError(
            "no role has a level: no head was measured at step 0. Measure step 0, or give levels such as --role 'induction=induction>0.4'"
        )
    if len(names) < 2:
        only = f"there is one role with a level, {names[0]}, and nothing to compare it with"
        result.leave_out("order", only, ("order", "order_by_level", "several"))
    roles_held = held(frame, criteria)
    progress.advance(note="levels")
    result.tables["firsts"] = first = onsets.firsts(roles_held)
    result.tables["order"] = onsets.order(first, names)
    result.tables["order_by_level"] = order_by_level(frame, there)
    progress.advance(note="order")
    result.tables["holders"] = counted = heads.holders(roles_held)
    result.tables["holder_means"] = heads.holder_means(counted)
    result.tables["by_layer"] = heads.by_layer(roles_held)
    result.tables["stays"] = kept = heads.stays(roles_held)
    result.tables["stays_by_size"] = heads.stays_by_size(kept)
    result.tables["main_roles"] = heads.main_roles(roles_held)
    if result.tables["main_roles"].is_empty():
        result.leave_out("main_roles", "no head passes the level of a role at any step", ("main_roles",))
    result.tables["several"] = heads.several(roles_held, names)
    result.tables["changes"] = heads.changes(roles_held, names)
    findings(result)
    progress.advance(note="heads")
    return result


def order_by_level(frame: pl.DataFrame, roles: Sequence[Role]) -> pl.DataFrame:
    """The counts of `order` with levels at other multiples of the untrained spread: multiple, first, second, n_first, ….

    Levels that the user gave stay. Does the order depend on where the level lies?
    """
    parts = []
    for multiple in MULTIPLES:
        criteria = levels(frame, roles, multiple)
        names = criteria.drop_nulls("level")["role"].to_list()
        counted = onsets.order(onsets.firsts(held(frame, criteria)), names) if names else None
        if counted is not None:
            overall = counted.filter(pl.col("size").is_null())
            parts.append(
                overall.select(
                    pl.lit(multiple).alias("multiple"), "first", "second", "n", "n_first", "n_second", "n_tie"
                )
            )
    return pl.concat(parts)

"""One level for each role in all suites, so that a role means the same in each."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from headway.errors import StatisticsError
from headway.known_scores import Role
from headway.studies.roles.criteria import levels


def common_levels(table: pl.DataFrame, suites: Sequence[str], roles: Sequence[Role]) -> tuple[pl.DataFrame, list[Role]]:
    """One row per role and suite, and the roles that every suite has.

    `own_level` is the level of the suite's untrained heads, as in the study `roles`. `level` is the largest of them, and is used
    in all suites: no untrained head of any suite passes it.

    Raises:
        StatisticsError: the suites share no role with a level.
    """
    parts = [
        levels(table.filter(pl.col("suite") == name), roles).insert_column(0, pl.lit(name).alias("suite"))
        for name in suites
    ]
    every = pl.concat(parts).drop_nulls("level").rename({"level": "own_level"})
    in_all = every.filter(pl.col("suite").n_unique().over("role") == len(suites))
    common = in_all.with_columns(level=pl.col("own_level").max().over("role"))
    shared = [role for role in roles if role.name in set(common["role"])]
    if not shared:
        raise StatisticsError(
            "the suites have no role with a level in common. Measure the same scores in each, and step 0, from which levels come; "
            "or give levels such as --role 'induction=induction>0.4'"
        )
    columns = ("role", "score", "suite", "level", "own_level", "given", "n_untrained", "untrained_largest")
    return common.select(columns), shared

"""The same roles in several suites: when does each arise, by step and by tokens, and by what factor do suites differ?

Every suite keeps its own runs: a run is known by its suite and its name. `docs/comparing-suites.md` describes every table.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from headway.errors import StatisticsError
from headway.known_scores import Role
from headway.progress import Progress, Silent
from headway.store.directory import RunDirectory
from headway.store.suite_folders import SeveralSuites
from headway.studies.development.heads import read_heads
from headway.studies.result import Result
from headway.studies.roles.criteria import asked_roles
from headway.studies.stacks import require_one_stack
from headway.studies.suites import onsets, trajectories
from headway.studies.suites.comparability import require_comparable, said_of_shared_runs
from headway.studies.suites.findings import findings
from headway.studies.suites.levels import common_levels
from headway.tables import with_tokens

__all__ = ["NAME", "SUBJECT", "applies", "study"]

NAME = "suites"
SUBJECT = "roles"


def applies(rundir: RunDirectory) -> bool:
    """Whether it is a directory of several suites with heads."""
    return isinstance(rundir, SeveralSuites) and len(rundir.having("heads")) > 1


def study(
    rundir: RunDirectory,
    *,
    roles: Sequence[str] = (),
    bootstraps: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Compare the roles of heads between suites; nothing is written before `Result.save`.

    Args:
        rundir: a run directory of several suites, with heads of one stack.
        roles: roles of the user, as in the study `roles`.
        bootstraps, seed: taken as by every study. The tests here need no resamples.
        progress: shows the progress.

    Raises:
        StatisticsError: there is one suite, their tables were computed in different ways, or they share no role with a level.
        UsageError: a role is not of the form NAME=SCORE or NAME=SCORE>LEVEL.
    """
    chosen = asked_roles(roles)
    (progress or Silent()).start("suites", 1)
    table = with_tokens(rundir.read("heads"))
    require_one_stack(table)
    names = table["suite"].unique(maintain_order=True).to_list()
    if len(names) < 2:
        raise StatisticsError(f"{rundir.path} holds heads of one suite: measure another one into it to compare them")
    require_comparable(rundir)
    criteria, shared = common_levels(table, names, chosen)
    result = Result(NAME, SUBJECT, {"suites": names, "roles": {role.name: role.score for role in shared}})
    result.notes.extend(said_of_shared_runs(rundir))
    result.tables["runs"] = runs = _runs(table, names, shared)
    result.tables["levels"] = criteria
    result.tables["firsts"] = firsts = onsets.firsts(table, runs, criteria)
    result.tables["onsets"] = onsets.typical(firsts)
    result.tables["ratios"] = onsets.ratios(firsts, names)
    result.tables["trajectories"] = followed = trajectories.strongest(table, runs, shared)
    result.tables["trajectory_means"] = trajectories.means(followed, shared)
    if not firsts["upper_tokens"].count():
        result.leave_out("tokens", "the tokens seen are unknown in every suite", ())
    findings(result)
    (progress or Silent()).advance(note="suites")
    return result


def _runs(table: pl.DataFrame, names: Sequence[str], roles: Sequence[Role]) -> pl.DataFrame:
    """One row per suite and run: its size and seed, its last step and the tokens seen by then."""
    parts = []
    for name in names:
        own = table.filter(pl.col("suite") == name)
        known = read_heads(own, next(role.score for role in roles)).runs.select("run", "size", "seed", "n_params")
        last = own.group_by("run").agg(
            last_step=pl.col("step").max(),
            last_tokens=pl.col("tokens_seen").sort_by("step").last(),
            n_steps=pl.col("step").n_unique().cast(pl.Int64),
        )
        parts.append(
            known.join(last, on="run", how="left", maintain_order="left").insert_column(0, pl.lit(name).alias("suite"))
        )
    return pl.concat(parts, how="vertical_relaxed")

"""Relations of heads: which head feeds which, when that arises, whether it repeats over seeds, and what its paths do.

`docs/relations.md` describes every table.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from headway.errors import StatisticsError
from headway.known_scores import Role
from headway.progress import Progress, Silent
from headway.store.directory import RunDirectory
from headway.studies.development.heads import of_runs, read_heads
from headway.studies.relations import edges, paths, repeats, trajectories
from headway.studies.relations.findings import findings
from headway.studies.result import Result
from headway.studies.roles import onsets
from headway.studies.roles.criteria import asked_roles, held, levels

__all__ = ["NAME", "SUBJECT", "TABLES", "applies", "study"]

NAME, SUBJECT = "relations", "heads"
TABLES = frozenset({"compositions", "paths", "heads"})
MAIN = ("previous-token", "induction")  # the pair of roles whose order and trajectories are told first


def applies(rundir: RunDirectory) -> bool:
    """Whether there are relations of heads: heads alone are no relation."""
    return bool({"compositions", "paths"} & set(rundir.tables()))


def study(
    rundir: RunDirectory,
    *,
    roles: Sequence[str] = (),
    bootstraps: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Analyse the tables `compositions` and `paths`; nothing is written before `Result.save`.

    Args:
        rundir: a run directory with one of these tables. With a table of heads, heads have roles.
        roles: roles of the user, as in the study of roles.
        bootstraps: how many times heads are exchanged within their layers.
        seed: of these exchanges.
        progress: shows the progress.

    Raises:
        StatisticsError: there is neither table.
        UsageError: a role is not of the form NAME=SCORE or NAME=SCORE>LEVEL.
    """
    chosen = asked_roles(roles)
    there = set(rundir.tables())
    if not {"compositions", "paths"} & there:
        raise StatisticsError(
            "there are no relations of heads: `headway relate` makes the tables compositions and paths"
        )
    progress = progress or Silent()
    progress.start("relations", 3)
    result = Result(NAME, SUBJECT)
    heads = rundir.read("heads") if "heads" in there else None
    roles_held = _roles(result, heads, chosen)
    progress.advance(note="roles")
    if "compositions" in there:
        _of_compositions(result, rundir.read("compositions"), roles_held, bootstraps, seed)
    else:
        reason = "there is no table of compositions: `headway relate --relations composition` makes it"
        result.leave_out("composition", reason, _OF_COMPOSITIONS)
    progress.advance(note="composition")
    if "paths" in there:
        changes = paths.changes(rundir.read("paths"))
        _name_runs(result, changes)
        result.tables["path_changes"] = of_runs(changes, result.tables["runs"], "step")
        result.tables["path_means"] = paths.means(result.tables["path_changes"])
    else:
        reason = "there is no table of paths: `headway relate --relations paths` makes it"
        result.leave_out("paths", reason, ("path_changes", "path_means"))
    findings(result)
    progress.advance(note="paths")
    return result


_OF_ROLES = ("trajectories", "trajectory_means", "beyond", "firsts", "order")
_OF_COMPOSITIONS = ("edges", "nodes", "edge_counts", "edge_means", "repeats", *_OF_ROLES)


def _roles(result: Result, heads: pl.DataFrame | None, chosen: Sequence[Role]) -> pl.DataFrame | None:
    """Which heads hold which roles at which steps, as `held` of the study of roles; None if none can be told."""
    there = [role for role in chosen if heads is not None and role.score in heads.columns]
    if heads is None or not there:
        result.leave_out("roles", "there is no table of heads with a score of a role", _OF_ROLES)
        return None
    runs = read_heads(heads, there[0].score).runs
    result.tables["runs"] = runs.select("run", "model", "size", "seed", "n_params", "n_layers", "n_heads")
    frame = of_runs(heads, result.tables["runs"], "step")
    criteria = levels(frame, there)
    result.values["roles"] = dict(criteria.drop_nulls("level").select("role", "score").rows())
    if not result.values["roles"]:
        result.leave_out("roles", "no role has a level: measure step 0, or give levels with --role", _OF_ROLES)
        return None
    return held(frame, criteria)


def _name_runs(result: Result, frame: pl.DataFrame) -> None:
    """Take the runs from a table if there is no table of heads that names them."""
    if "runs" not in result.tables:
        columns = ("run", "model", "size", "seed", "n_params", "n_layers", "n_heads")
        result.tables["runs"] = frame.select(columns).unique("run", maintain_order=True).sort("n_params", "run")


def _of_compositions(result: Result, table: pl.DataFrame, roles: pl.DataFrame | None, draws: int, seed: int) -> None:
    _name_runs(result, table)
    table = of_runs(table.drop_nulls("composition"), result.tables["runs"], "step")
    counted = edges.counts(table)
    result.tables["edge_counts"] = counted
    result.tables["edge_means"] = edges.count_means(counted)
    result.tables["edges"], result.values["most_edges"] = edges.strongest(table)
    result.tables["nodes"] = edges.nodes(table, result.tables["edges"], roles)
    final = None if roles is None else trajectories.final_holders(roles)
    draws = repeats.enough(table, final, draws)
    repeated = [repeats.same_heads(table, draws, seed)]
    if roles is not None and final is not None:
        followed = trajectories.trajectories(table, final)
        result.tables["trajectories"] = followed
        result.tables["trajectory_means"] = trajectories.means(followed)
        result.tables["beyond"] = trajectories.beyond(followed)
        relation_held = trajectories.relation_held(table, final)
        first = pl.concat([onsets.firsts(roles), onsets.firsts(relation_held)]) if len(relation_held) else None
        result.tables["firsts"] = onsets.firsts(roles) if first is None else first
        names = trajectories.in_order(MAIN, result.tables["firsts"])
        result.tables["order"] = onsets.order(result.tables["firsts"], names)
        repeated.append(repeats.same_roles(table, final, draws, seed))
        if followed.is_empty():
            result.leave_out("trajectories", "no two heads hold different roles at the last step of a run", _OF_ROLES)
    result.tables["repeats"] = repeats.corrected(pl.concat(repeated))

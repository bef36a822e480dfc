"""Scorecards: on which axes does a claim about heads generalize, from chance (0) to perfect (1), with an interval over runs?

The axes are those of Trott 2025 (arXiv 2509.22831). `docs/scorecard.md` describes every number and every table.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from headway.errors import HeadwayError, StatisticsError
from headway.progress import Progress, Silent
from headway.stats.distributions import normal_quantile
from headway.store.directory import RunDirectory
from headway.studies.result import Result
from headway.studies.roles import applies as roles_apply
from headway.studies.roles.criteria import asked_roles, held, levels
from headway.studies.scorecard import measures
from headway.studies.scorecard.claims import asked_for, claims
from headway.studies.scorecard.comparison import compare
from headway.studies.scorecard.findings import findings
from headway.studies.scorecard.measures import AXES, SCHEMA, Data
from headway.studies.scorecard.words import card

__all__ = ["AXES", "NAME", "READS", "SUBJECT", "TABLES", "applies", "compare", "reads", "study"]

NAME, SUBJECT = "scorecard", "heads"
TABLES = frozenset({"heads", "ablations", "compositions", "paths"})
READS, _OF_RUNS = "configuration", "configuration_runs"  # the study whose results it reads, and their table


def applies(rundir: RunDirectory) -> bool:
    """Whether roles are studied unasked, and there are two runs at least: one run cannot generalize."""
    return "heads" in rundir.tables() and roles_apply(rundir) and rundir.read("heads")["run"].n_unique() > 1


def reads(rundir: RunDirectory) -> dict[str, object]:
    """How the results were made that it reads besides tables."""
    made = []
    for subject in Result.saved(rundir, READS):
        try:
            found = Result.load(rundir, READS, subject)
        except HeadwayError:
            continue  # a damaged result counts as none
        made.append({"subject": subject, "sources": found.sources, "made": found.made})
    return {READS: made}


def study(
    rundir: RunDirectory,
    *,
    roles: Sequence[str] = (),
    scores: Sequence[str] = (),
    bootstraps: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Put claims about heads on five axes; nothing is written before `Result.save`.

    Args:
        rundir: a run directory with a heads table. Other tables answer more axes.
        roles: names of roles, or roles of the user; see `claims.asked_for`. All known roles if neither roles nor scores are named.
        scores: scores, each taken as a role of its own name.
        bootstraps: draws of what chance gives; 0 leaves out the axes that need them.
        seed: of these draws.
        progress: shows the progress.

    Raises:
        RunDirectoryError: there is no heads table.
        StatisticsError: it has none of the scores.
        UsageError: a role or a score is unknown, or a role is not of the form NAME=SCORE or NAME=SCORE>LEVEL.
    """
    chosen = asked_for(roles, scores)
    table = rundir.read("heads")
    asked = claims(table, chosen)
    if not asked:
        raise StatisticsError(
            f"the heads table has none of the scores {', '.join(dict.fromkeys(role.score for role in chosen))}: "
            "`headway measure --scores all` measures them"
        )
    progress = progress or Silent()
    progress.start("scorecard", len(asked))
    data = _data(rundir, table, [text for text in roles if "=" in text])
    rows = []
    for claim in asked:
        rows += measures.as_rows(claim, list(measures.lines(claim, data, bootstraps, seed)))
        progress.advance(note=claim.role.name)
    runs = asked[0].runs
    result = Result(NAME, SUBJECT, {"roles": {claim.role.name: claim.role.score for claim in asked}})
    result.values["draws"] = bootstraps
    result.tables["runs"] = runs.select(
        "run", "model", "size", "seed", "n_params", "n_layers", "n_heads", "n_steps", "last_step"
    )
    result.tables["axes"] = pl.DataFrame(rows, schema=SCHEMA)
    result.values["card"] = card(result)
    for role in chosen:
        if role.name not in result.values["roles"]:
            result.leave_out(
                role.name,
                f"the heads table has no score {role.score}: `headway measure --scores {role.score}` measures it",
            )
    findings(result)
    return result


def _data(rundir: RunDirectory, heads: pl.DataFrame, own_roles: Sequence[str]) -> Data:
    there = set(rundir.tables())
    found = {name: rundir.read(name) if name in there else None for name in ("ablations", "compositions", "paths")}
    known = levels(heads, asked_roles(own_roles))
    compositions = found["compositions"]
    return Data(
        ablations=found["ablations"],
        compositions=None if compositions is None else compositions.drop_nulls("composition"),
        paths=found["paths"],
        roles=held(heads, known) if known["level"].count() else None,
        weights=_weights(rundir),
    )


def _weights(rundir: RunDirectory) -> pl.DataFrame | None:
    """The runs left out by the study of configuration, of all its results; None without a result that is whole."""
    parts = []
    for subject in Result.saved(rundir, READS):
        try:
            tables = Result.load(rundir, READS, subject).tables
        except HeadwayError:
            continue  # a damaged result: analyze makes it again
        if _OF_RUNS in tables:
            own = tables[_OF_RUNS].select("role", "size", "run", "balanced_accuracy", "chance")
            parts.append(_with_spread(own, tables.get("classification")))
    return pl.concat(parts).unique(["role", "run"], keep="first", maintain_order=True) if parts else None


def _with_spread(runs: pl.DataFrame, of_sizes: pl.DataFrame | None) -> pl.DataFrame:
    """The runs with `chance_sd`, the standard deviation by chance of their size's mean; null if it was not drawn.

    It is the width of the central 95% of exchanges, as if these were normal.
    """
    if of_sizes is None:
        return runs.with_columns(chance_sd=pl.lit(None, pl.Float64))
    sd = (pl.col("upper") - pl.col("lower")) / (2 * normal_quantile(0.975))
    return runs.join(
        of_sizes.select("role", "size", chance_sd=sd), on=["role", "size"], how="left", maintain_order="left"
    )

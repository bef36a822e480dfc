"""When each role arises in each run of each suite, in steps and in tokens, and how suites differ."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from headway import stats
from headway.errors import StatisticsError
from headway.stats.corrections import holm, over
from headway.stats.distributions import t_quantile
from headway.studies.causes.shifts import shift, without_scatter
from headway.studies.roles import onsets as of_roles
from headway.studies.roles.criteria import held

UNITS = ("step", "tokens")
_PLACE = ("suite", "run", "size", "seed")
ONSETS_SCHEMA = {
    **dict.fromkeys(("role", "suite", "unit"), pl.String()),
    **dict.fromkeys(("n", "n_reached"), pl.Int64()),
    **dict.fromkeys(("earliest", "latest", "median", "lower", "upper"), pl.Float64()),
}
RATIOS_SCHEMA = {
    **dict.fromkeys(("role", "first", "second", "unit", "sizes"), pl.String()),
    **dict.fromkeys(("n_first", "n_second"), pl.Int64()),
    **dict.fromkeys(("ratio", "lower", "upper", "p"), pl.Float64()),
    "why_not": pl.String(),
}


def firsts(table: pl.DataFrame, runs: pl.DataFrame, criteria: pl.DataFrame) -> pl.DataFrame:
    """The onset of each role in each run, as in the study `roles`, with the tokens at both ends of its interval.

    Each suite is looked at by itself, so that runs of one name in two suites stay two. Tokens are null where they are unknown;
    an onset before the first measured step lies after 0 tokens.
    """
    parts = []
    for name in runs["suite"].unique(maintain_order=True):
        own_runs = runs.filter(pl.col("suite") == name)
        named = own_runs.select("run", "size", "seed").with_row_index("_order")
        own = table.filter(pl.col("suite") == name).drop("size", "seed").join(named, on="run")
        own = own.sort("_order", "step", "layer", "head").drop("_order")
        levels = criteria.filter(pl.col("suite") == name)
        found = of_roles.firsts(held(own, levels)).insert_column(0, pl.lit(name).alias("suite"))
        tokens = own.select("run", "step", "tokens_seen").unique(["run", "step"])
        for end in ("lower", "upper", "last"):
            at = tokens.rename({"step": end, "tokens_seen": f"{end}_tokens"})
            found = found.join(at, on=["run", end], how="left", maintain_order="left")
        parts.append(found)
    return pl.concat(parts)


def bounds(firsts: pl.DataFrame, unit: str) -> pl.DataFrame:
    """The intervals of onsets with their ends `after` and `by` (null if not reached), in steps + 1 or in tokens.

    Runs whose tokens are unknown at an end that the interval has are left out.
    """
    if unit == "step":
        return firsts.with_columns(
            after=(pl.col("lower") + 1).fill_null(0).cast(pl.Float64), by=(pl.col("upper") + 1).cast(pl.Float64)
        )
    known = firsts.filter(
        pl.col("lower").is_null() | pl.col("lower_tokens").is_not_null(),
        pl.col("upper").is_null() | pl.col("upper_tokens").is_not_null(),
    )
    return known.with_columns(
        after=pl.col("lower_tokens").fill_null(0).cast(pl.Float64), by=pl.col("upper_tokens").cast(pl.Float64)
    )


def typical(firsts: pl.DataFrame) -> pl.DataFrame:
    """The onset of a role in each suite: a row per role, suite and unit (`step`: steps + 1, or `tokens`).

    `earliest` and `latest` are the ends of all intervals together; `latest` is null if a run has no onset. `median` is that of a
    log-normal distribution that is fitted to the intervals, with its 95% interval. If all runs may have their onset at one
    time, there is no such fit, and the median lies between `lower` and `upper`.
    """
    rows: list[dict[str, Any]] = []
    for unit in UNITS:
        for (role, suite), of in bounds(firsts, unit).group_by("role", "suite", maintain_order=True):
            reached = of["by"].count()
            row: dict[str, Any] = {"role": role, "suite": suite, "unit": unit, "n": of.height, "n_reached": reached}
            row |= {"earliest": of["after"].min(), "latest": of["by"].max() if reached == of.height else None}
            rows.append(row | (_median(of) if reached > 1 else {}))
    return pl.DataFrame(rows, schema=ONSETS_SCHEMA)


def _median(of: pl.DataFrame) -> dict[str, float | None]:
    if without_scatter(of, []) is not None:
        return {"median": None, "lower": float(of["after"].max()), "upper": float(of["by"].min())}  # type: ignore[arg-type]
    try:
        fit = stats.interval_regression("~ 1", of, "after", "by")
    except StatisticsError:
        return {}
    estimate, std_error = fit.coefficients.select("estimate", "std_error").row(0)
    df = of.height - 1
    margin = float(t_quantile(0.975, df)) * std_error * float(np.sqrt(of.height / df))
    median, lower, upper = np.exp([estimate, estimate - margin, estimate + margin]).tolist()
    return {"median": median, "lower": lower, "upper": upper} if np.isfinite([lower, upper]).all() else {}


def ratios(firsts: pl.DataFrame, suites: Sequence[str]) -> pl.DataFrame:
    """By what factor a role arises later in the second suite than in the first: a row per role, pair of suites and unit.

    If the suites share sizes, runs of these sizes alone are compared, each within its size (`sizes` names them). Otherwise all runs
    are compared, and sizes differ with suites. `p_holm` corrects over the roles and pairs of a unit. `why_not` says why a
    factor is missing.
    """
    rows = []
    for unit in UNITS:
        every = bounds(firsts, unit)
        for role in firsts["role"].unique(maintain_order=True):
            for first, second in combinations(suites, 2):
                here = every.filter(pl.col("role") == role, pl.col("suite").is_in([first, second]))
                rows.append(
                    {"role": role, "first": first, "second": second, "unit": unit} | _ratio(here, first, second)
                )
    frame = pl.DataFrame(rows, schema=RATIOS_SCHEMA)
    parts = [
        part.with_columns(p_holm=over(part["p"], holm)) for part in frame.partition_by("unit", maintain_order=True)
    ]
    return pl.concat(parts)


def _ratio(here: pl.DataFrame, first: str, second: str) -> dict[str, Any]:
    shared = here.filter(pl.col("suite").n_unique().over("size") == 2)
    compared = shared if shared.height else here
    numbers = {name: compared.filter(pl.col("suite") == name).height for name in (first, second)}
    row: dict[str, Any] = {"n_first": numbers[first], "n_second": numbers[second], "sizes": None}
    if shared.height:
        row["sizes"] = ", ".join(shared["size"].unique(maintain_order=True))
    if not all(numbers.values()):
        return row | {"why_not": "a suite has no run with known tokens"}
    try:
        found = shift(compared, "suite", second, first, ["size"] if shared.height else [])
    except StatisticsError as error:
        return row | {"why_not": str(error)}
    return row | {"ratio": found.ratio, "lower": found.lower, "upper": found.upper, "p": found.p}

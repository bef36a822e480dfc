"""Effects of the factors: differences between every two levels, with corrections, and what these runs could have told."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from headway import stats
from headway.errors import StatisticsError
from headway.stats.corrections import holm
from headway.stats.distributions import f_p, t_p, t_quantile
from headway.stats.marginal_means import marginal_means
from headway.studies.causes.shifts import shift
from headway.studies.causes.trajectories import Laboratory
from headway.studies.prose import LEVEL

POWER = 0.8
_NUMBERS = ("estimate", "lower", "upper", "std_error", "df", "p", "p_corrected", "detectable")


def compared(lab: Laboratory) -> list[tuple[str, str, str]]:
    """Each factor with every two of its levels, the later one first."""
    return [(name, b, a) for name, levels in lab.factors.items() for a, b in combinations(levels, 2)]


def adjusted_for(lab: Laboratory, factor: str) -> list[str]:
    """What a comparison of the levels of `factor` allows for: the other factors, and the sizes if there are several."""
    return [*(name for name in lab.factors if name != factor), *(["block"] if lab.blocked else [])]


def onset_effects(lab: Laboratory, onsets: pl.DataFrame) -> pl.DataFrame:
    """factor, level, against, estimate (the factor between the two onsets), and the columns of `_table`."""
    runs = onsets.join(lab.runs, on="run", maintain_order="left")
    pairs = compared(lab)
    rows: list[dict[str, Any]] = []
    for factor, level, against in pairs:
        row: dict[str, Any] = {"factor": factor, "level": level, "against": against}
        for name, prefix in ((level, "level"), (against, "against")):
            own = runs.filter(pl.col(factor) == name)
            row |= {f"{prefix}_runs": own.height, f"{prefix}_reached": own["by"].count()}
        try:
            found = shift(runs, factor, level, against, adjusted_for(lab, factor))
        except StatisticsError as error:
            rows.append(row | {"reason": str(error)})
            continue
        row |= {"estimate": found.ratio, "lower": found.lower, "upper": found.upper, "p": found.p}
        row |= {"std_error": found.std_error, "df": found.df}
        row["detectable"] = float(np.exp(detectable(found.std_error, found.df, len(pairs))))
        rows.append(row)
    return _table(rows)


def value_effects(lab: Laboratory, values: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, str]:
    """Differences of values between levels, the mean of each level, and the model that gave them.

    Runs are the units. Runs of one seed share their initialisation and their data, so seeds have random effects; if these
    are estimated as 0, the model is that of least squares.

    Raises:
        StatisticsError: the values do not vary, or there are too few runs.
    """
    runs = values.join(lab.runs, on="run", maintain_order="left")
    fit = _fitted(runs, [*lab.factors, *(["block"] if lab.blocked else [])])
    rows: list[dict[str, Any]] = []
    means = []
    for factor, levels in lab.factors.items():
        marginal = marginal_means(fit, factor)
        means.append(marginal.table.rename({factor: "level"}).with_columns(factor=pl.lit(factor)))
        found = {row.pop("contrast"): row for row in marginal.contrasts("none").to_dicts()}
        for a, b in combinations(levels, 2):
            rows.append({"factor": factor, "level": b, "against": a, **_oriented(found, b, a)})
    for row in rows:
        margin = float(t_quantile(0.975, row["df"])) * row["std_error"]
        row |= {"lower": row["estimate"] - margin, "upper": row["estimate"] + margin}
        row["detectable"] = detectable(row["std_error"], row["df"], len(rows))
    return _table(rows), pl.concat(means), fit.formula


def _oriented(found: dict[str, dict[str, Any]], level: str, against: str) -> dict[str, Any]:
    """The contrast `level - against`, whichever way round it was made."""
    name, sign = (f"{level} - {against}", 1) if f"{level} - {against}" in found else (f"{against} - {level}", -1)
    row = found[name]
    p = float(t_p(row["t"], row["df"]))
    return {"estimate": sign * row["estimate"], "std_error": row["std_error"], "df": row["df"], "p": p}


def _fitted(runs: pl.DataFrame, terms: Sequence[str]) -> Any:
    fixed = "value ~ " + " + ".join(terms)
    least_squares = stats.ols(fixed, runs)
    if least_squares.rss <= 1e-20 * float(np.sum(runs["value"].to_numpy() ** 2)):
        raise StatisticsError("all runs of a level have the same value, so that nothing tells how runs scatter")
    if runs["seed"].n_unique() < runs.height:
        try:
            mixed = stats.lmm(f"{fixed} + (1 | seed)", runs)
        except StatisticsError:
            return least_squares
        if not mixed.singular:
            return mixed
    return least_squares


def interactions(lab: Laboratory, values: pl.DataFrame) -> pl.DataFrame:
    """factor, other, f, df, df_resid, p, p_corrected: whether the effect of one factor depends on the level of another.

    F compares least squares with and without the interaction of the two factors.
    """
    runs = values.join(lab.runs, on="run", maintain_order="left")
    terms = [*lab.factors, *(["block"] if lab.blocked else [])]
    rows = []
    for a, b in combinations(lab.factors, 2):
        try:
            plain = stats.ols("value ~ " + " + ".join(terms), runs)
            crossed = stats.ols("value ~ " + " + ".join([*terms, f"{a}:{b}"]), runs)
        except StatisticsError:
            continue
        df = plain.df_resid - crossed.df_resid
        if df < 1 or crossed.rss <= 0:
            continue
        f = (plain.rss - crossed.rss) / df / (crossed.rss / crossed.df_resid)
        p = float(f_p(f, df, crossed.df_resid))
        rows.append({"factor": a, "other": b, "f": f, "df": df, "df_resid": crossed.df_resid, "p": p})
    types = {
        "factor": pl.String,
        "other": pl.String,
        "f": pl.Float64,
        "df": pl.Int64,
        "df_resid": pl.Int64,
        "p": pl.Float64,
    }
    frame = pl.DataFrame(rows, schema=types)
    return frame.with_columns(p_corrected=holm(frame["p"].to_numpy()) if rows else pl.lit(None, pl.Float64))


def detectable(std_error: float, df: float, n_tests: int) -> float:
    """The smallest effect that a two-sided t test finds with a power of 80%, at the level corrected for `n_tests`.

    (t(1 - level / 2) + t(power)) times the standard error (Bloom 1995, Evaluation Review 19, 547-556). The correction is
    Bonferroni's, the strictest step of Holm's.
    """
    return float(t_quantile(1 - LEVEL / n_tests / 2, df) + t_quantile(POWER, df)) * std_error


def _table(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """The rows with all columns; p is corrected over all comparisons by Holm's method. Undefined numbers are null."""
    counts = ("level_runs", "level_reached", "against_runs", "against_reached")
    types: dict[str, Any] = {
        "factor": pl.String, "level": pl.String, "against": pl.String, "reason": pl.String,
        **dict.fromkeys(counts, pl.Int64), **dict.fromkeys(_NUMBERS, pl.Float64),
    }  # fmt: skip
    frame = pl.DataFrame([{name: row.get(name) for name in types} for row in rows], schema=types)
    known = frame["p"].is_not_null()
    corrected = np.full(frame.height, np.nan)
    if known.any():
        corrected[known.to_numpy()] = holm(frame.filter(known)["p"].to_numpy())
    return frame.with_columns(p_corrected=pl.Series(corrected)).with_columns(pl.col(_NUMBERS).fill_nan(None))

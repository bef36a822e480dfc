"""Over time: the largest head of each run at each step, its peak and its slope."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headway.stats.distributions import t_p
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.final import with_standard_error
from headway.studies.development.heads import RUN_COLUMNS, SIZE_COLUMNS, Heads


def growth(draft: ResultBuilder) -> None:
    """Adds trajectories, their means, peaks and slopes.

    Of a run that stops before its size's final step, peak and slope are not known.
    """
    heads = draft.heads
    draft.tables["heads"] = heads.frame.select(*RUN_COLUMNS, "step", "step_modded", "layer", "head", "value")
    draft.tables["trajectories"] = heads.trajectories
    draft.tables["trajectory_means"] = with_standard_error(
        heads.trajectories, [*SIZE_COLUMNS, "step", "step_modded"], "value"
    ).sort("n_params", "model", "step")
    draft.tables["peaks"] = peaks(heads)
    draft.tables["slopes"] = slopes(heads)
    for path, table, column in (
        ("tables.peak_mean_by_size", "peaks", "max_attn"),
        ("tables.slope_mean_by_size", "slopes", "estimate"),
    ):
        draft.put(path, mean_by_model(draft.tables[table], column))


def peaks(heads: Heads) -> pl.DataFrame:
    """The largest value of a run at any step: `max_attn`, and the step, layer and head of it.

    All None for a run of one distinct step, and for one that stops early, whose largest value may have been to come.
    """
    at = pl.col("value").arg_max()
    whole = pl.col("run").is_in(heads.followed) & ~pl.col("run").is_in(stopped_early(heads))
    of_whole = heads.trajectories.filter(whole)
    found = of_whole.group_by("run", maintain_order=True).agg(
        max_attn=pl.col("value").max(),
        **{name: pl.col(name).get(at) for name in ("step", "step_modded", "layer", "head")},
    )
    return heads.runs.select(RUN_COLUMNS).join(found, on="run", how="left", maintain_order="left")


def stopped_early(heads: Heads) -> list[str]:
    return heads.runs.filter("stops_early")["run"].to_list()


def slopes(heads: Heads) -> pl.DataFrame:
    """The straight line of value on log10(step + 1), run by run: estimate, std_error, t, p and n_steps.

    A run of one step has no line, nor has one that stops early, whose line would be of another stretch of training;
    one of two steps has no standard error: None.
    """
    early = stopped_early(heads)
    rows = []
    for (run,), of_run in heads.trajectories.group_by("run", maintain_order=True):
        x, y = of_run["log_step"].to_numpy(), of_run["value"].to_numpy()
        row: dict[str, Any] = {"estimate": None, "std_error": None, "t": None, "p": None, "n_steps": len(x)}
        if len(x) > 1 and run not in early:
            slope, error = _line(x, y)
            row["estimate"] = slope
            if error > 0:
                row |= {"std_error": error, "t": slope / error, "p": float(t_p(slope / error, len(x) - 2))}
        rows.append(of_run.select(RUN_COLUMNS).row(0, named=True) | row)
    types = dict.fromkeys(("estimate", "std_error", "t", "p"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=types)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The least-squares slope and its standard error, NaN for two places."""
    dx = x - x.mean()
    slope = dx @ y / (dx @ dx)
    residual = y - y.mean() - slope * dx
    variance = residual @ residual / (len(x) - 2) if len(x) > 2 else np.nan
    return float(slope), float(np.sqrt(variance / (dx @ dx)))


def mean_by_model(frame: pl.DataFrame, column: str) -> dict[str, float | None]:
    """The mean of `column` over each size's runs that have one, by model."""
    means = frame.group_by("model", maintain_order=True).agg(pl.col(column).mean())
    return dict(means.iter_rows())


def grid(x: np.ndarray, n: int = 200) -> np.ndarray:
    """`n` evenly spaced places over the range of `x`: where a fitted curve is drawn."""
    return np.linspace(x.min(), x.max(), n)

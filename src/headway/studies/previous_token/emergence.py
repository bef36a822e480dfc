"""Emergence: a smooth curve through each run's trajectory, where it is highest and where it climbs fastest."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.studies.previous_token.draft import Draft
from headway.studies.previous_token.heads import RUN_COLUMNS

K = 10  # basis functions, as published
_PLACES = 120


def emergence(draft: Draft) -> None:
    """Adds each run's GAM: the study's 'emergence step' and the step of the largest derivative, with its interval.

    The study's step is where the fitted curve is largest, which it calls the largest rate of change; its fit
    takes every step. The derivative is that of a fit without repeated checkpoints.
    """
    rows, curves, missing = [], [], []
    for (run,), of in draft.heads.trajectories.group_by("run", maintain_order=True):
        name = of.select(RUN_COLUMNS).head(1)
        try:
            published = _fit(of)
            fit = _fit(of.filter(~pl.col("repeated") & ~pl.col("suspect")))
        except StatisticsError as error:
            missing.append(f"{run}: {error}")
            continue
        highest = int(np.argmax(np.asarray(published.fitted)))
        drawn = run_curve(fit, of["log_step"].to_numpy())
        rows.append(
            name.row(0, named=True)
            | {"largest_fitted_step": of["step"][highest], **fastest(drawn), "k": _k(of), "edf": fit.smooths["edf"][0]}
        )
        curves.append(name.join(drawn, how="cross"))
    if missing:
        more = f" (and {len(missing) - 1} more runs)" if len(missing) > 1 else ""
        draft.say_left_out("emergence", missing[0] + more)
    if rows:
        draft.tables["emergence"] = pl.DataFrame(rows, infer_schema_length=None)
        draft.tables["emergence_curves"] = pl.concat(curves)


def _k(of: pl.DataFrame) -> int:
    return min(K, of["log_step"].n_unique())


def _fit(of: pl.DataFrame) -> Any:
    from headway import stats

    if _k(of) < 4:
        raise StatisticsError(f"a curve needs at least 4 different steps, and there are {of['log_step'].n_unique()}")
    if of["value"].n_unique() < 2:
        raise StatisticsError("the largest score is the same at every step")
    return stats.gam(f"value ~ s(log_step, k={_k(of)})", of)


def run_curve(fit: Any, log_step: np.ndarray) -> pl.DataFrame:
    """The run's curve and its derivative per decade, each with a 95 % pointwise interval."""
    x = np.linspace(log_step.min(), log_step.max(), _PLACES)
    places = pl.DataFrame({"log_step": x})
    fitted, se = fit.predict(places, se=True)
    slope = fit.derivative(places, "s(log_step)")
    return places.with_columns(
        step_modded=10.0 ** pl.col("log_step"),
        fit=fitted,
        lower=fitted - 1.96 * se,
        upper=fitted + 1.96 * se,
        derivative=slope.derivative,
        derivative_lower=slope.lower,
        derivative_upper=slope.upper,
    )


def fastest(drawn: pl.DataFrame) -> dict[str, float]:
    """The step of the largest derivative, and the outermost steps whose interval reaches its lower end.

    No step outside (lower, upper) can hold the maximum while every pointwise interval holds its derivative.
    """
    step = drawn["step_modded"].to_numpy() - 1
    top = int(drawn["derivative"].arg_max() or 0)
    possible = np.flatnonzero((drawn["derivative_upper"] >= drawn["derivative_lower"].max()).to_numpy())
    return {"largest_derivative_step": step[top], "lower": step[possible[0]], "upper": step[possible[-1]]}

"""Emergence: a smooth curve through each run's trajectory, where it is highest and where it climbs fastest."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.studies.previous_token.draft import Draft
from headway.studies.previous_token.heads import RUN_COLUMNS
from headway.studies.previous_token.models import curve

K = 10  # basis functions, as published
_PLACES = 120
_DRAWS = 2000


def emergence(draft: Draft) -> None:
    """Adds each run's GAM: the study's 'emergence step' and the step of the largest derivative, with its interval.

    The study's step is where the fitted curve is largest, which it calls the largest rate of change; its fit
    takes every step. The derivative is that of a fit without repeated checkpoints.
    """
    rows, curves, missing = [], [], []
    rng = np.random.default_rng([draft.seed, 6])
    for (run,), of in draft.heads.trajectories.group_by("run", maintain_order=True):
        name = of.select(RUN_COLUMNS).head(1)
        try:
            published = _fit(of)
            fit = _fit(of.filter(~pl.col("repeated") & ~pl.col("suspect")))
        except StatisticsError as error:
            missing.append(f"{run}: {error}")
            continue
        highest = int(np.argmax(np.asarray(published.fitted)))
        log_step = of["log_step"].to_numpy()
        rows.append(
            name.row(0, named=True)
            | {
                "largest_fitted_step": of["step"][highest],
                **fastest(fit, log_step, rng),
                "k": _k(of),
                "edf": fit.smooths["edf"][0],
            }
        )
        curves.append(name.join(run_curve(fit, log_step), how="cross"))
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
    drawn = curve(fit, "log_step", log_step, n=_PLACES).drop("se")
    slope = fit.derivative(drawn, "s(log_step)")
    return drawn.with_columns(
        step_modded=10.0 ** pl.col("log_step"),
        derivative=slope["derivative"],
        derivative_lower=slope["lower"],
        derivative_upper=slope["upper"],
    )


def fastest(fit: Any, log_step: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """The step of the largest derivative, with a 95 % interval.

    The interval holds the middle 95 % of the places of the largest derivative over curves drawn from the fit's
    posterior (Wood 2017, §6.10), widened to measured steps: between these only the curve's smoothness speaks.
    """
    x = np.linspace(log_step.min(), log_step.max(), _PLACES)
    (smooth,) = fit.terms
    slopes = smooth.columns({"log_step": x}, 1)
    beta, cov = fit.coefficients[smooth.where], fit.vcov[smooth.where, smooth.where]
    drawn = rng.multivariate_normal(beta, cov, size=_DRAWS, method="eigh")
    places = x[(drawn @ slopes.T).argmax(axis=1)]
    low, high = np.quantile(places, [0.025, 0.975])
    top = x[(slopes @ beta).argmax()]
    measured, slack = np.unique(log_step), 1e-9  # the places' ends are measured steps up to rounding
    return {
        "largest_derivative_step": 10**top - 1,
        "lower": 10 ** measured[measured <= min(low, top) + slack].max() - 1,
        "upper": 10 ** measured[measured >= max(high, top) - slack].min() - 1,
    }

"""Emergence: a smooth curve through each run's trajectory, where it is highest and where it climbs fastest."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.heads import RUN_COLUMNS
from headway.studies.development.models import curve

K = 10  # basis functions, as published
_FEWEST_K = 4  # with fewer there is one bend, which cannot both rise and level off
_PLACES = 120
_DRAWS = 2000


def emergence(draft: ResultBuilder) -> None:
    """Adds each run's GAM: the study's 'emergence step' and the step of the largest derivative, with its interval.

    The study's step is where the fitted curve is largest, which it calls the largest rate of change; its fit
    takes every step. The derivative is that of a fit without repeated checkpoints. Both have the same `k`.
    """
    rows, curves, missing = [], [], []
    rng = np.random.default_rng([draft.seed, 6])
    for (run,), of in draft.heads.trajectories.group_by("run", maintain_order=True):
        name = of.select(RUN_COLUMNS).head(1)
        distinct = draft.heads.distinct.filter(pl.col("run") == run)
        k = min(K, distinct.height - 1)  # a curve needs more steps than coefficients
        try:
            published = _fit(of, k)
            fit = published if distinct.height == of.height else _fit(distinct, k)
        except StatisticsError as error:
            missing.append(f"{run}: {error}")
            continue
        highest = int(np.argmax(np.asarray(published.fitted)))
        rows.append(
            name.row(0, named=True)
            | {
                "largest_fitted_step": of["step"][highest],
                **fastest(fit, distinct["step"].to_numpy(), rng),
                "n_steps": distinct.height,
                "k": k,
                "edf": fit.smooths["edf"][0],
            }
        )
        curves.append(name.join(run_curve(fit, of["log_step"].to_numpy()), how="cross"))
    if missing:
        more = f" (and {len(missing) - 1} more runs)" if len(missing) > 1 else ""
        draft.say_left_out("emergence", missing[0] + more, ["emergence", "emergence_curves"])
    if rows:
        found = draft.tables["emergence"] = pl.DataFrame(rows, infer_schema_length=None)
        draft.put("beyond.emergence", found.select(pl.median("n_steps", "k", "edf")).row(0, named=True))
        draft.tables["emergence_curves"] = pl.concat(curves)
        _note_fewer(draft)


def _note_fewer(draft: ResultBuilder) -> None:
    """Says where runs have too few steps for the published k."""
    fewer = draft.tables["emergence"].filter(pl.col("k") < K)["k"].unique().sort().to_list()
    if fewer:
        used = f"{fewer[0]}" if len(fewer) == 1 else f"{fewer[0]} to {fewer[-1]}"
        draft.notes.append(
            f"The runs' smooth curves have k = {used} basis functions, not the published {K}, where a run has few steps. "
            "A curve needs more steps than coefficients."
        )


def _fit(of: pl.DataFrame, k: int) -> Any:
    from headway import stats

    if k < _FEWEST_K:
        raise StatisticsError(f"a curve needs at least {_FEWEST_K + 1} different steps, and there are {k + 1}")
    if of["value"].n_unique() < 2:
        raise StatisticsError("the largest score is the same at every step")
    return stats.gam(f"value ~ s(log_step, k={k})", of)


def run_curve(fit: Any, log_step: np.ndarray) -> pl.DataFrame:
    """The run's curve and its derivative per decade, each with a 95% pointwise interval."""
    drawn = curve(fit, "log_step", log_step, n=_PLACES).drop("se")
    slope = fit.derivative(drawn, "s(log_step)")
    return drawn.with_columns(
        step_modded=10.0 ** pl.col("log_step"),
        derivative=slope["derivative"],
        derivative_lower=slope["lower"],
        derivative_upper=slope["upper"],
    )


def fastest(fit: Any, steps: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """The step of the largest derivative, with a 95% interval.

    The interval holds the middle 95% of the places of the largest derivative over curves drawn from the fit's
    posterior (Wood 2017, §6.10), widened to `steps`, those that were measured: between them only the curve's
    smoothness speaks.
    """
    log_step = np.log10(steps + 1)
    x = np.linspace(log_step.min(), log_step.max(), _PLACES)
    (smooth,) = fit.terms
    slopes = smooth.columns({"log_step": x}, {"log_step": 1})
    beta, cov = fit.coefficients[smooth.where], fit.vcov[smooth.where, smooth.where]
    drawn = rng.multivariate_normal(beta, cov, size=_DRAWS, method="eigh")
    places = x[(drawn @ slopes.T).argmax(axis=1)]
    low, high = np.quantile(places, [0.025, 0.975])
    top = x[(slopes @ beta).argmax()]
    slack = 1e-9  # the places' ends are measured steps up to rounding
    return {
        "largest_derivative_step": 10**top - 1,
        "lower": steps[log_step <= min(low, top) + slack].max(),
        "upper": steps[log_step >= max(high, top) - slack].min(),
    }

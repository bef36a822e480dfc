"""Sizes to come: the fitted relations drawn on to larger sizes, with prediction intervals and a warning."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headway.stats.distributions import t_quantile
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.seeds import outcomes
from headway.studies.prose import digits

REACH = 10.0  # times the largest size at most; no farther than the sizes themselves reach


def extrapolation(draft: ResultBuilder) -> None:
    """Adds onset, peak and slope as straight lines on log10(n_params), up to a size to come."""
    parts, numbers, n_sizes = [], {}, 0
    for outcome, frame in outcomes(draft.tables).items():
        frame = frame.filter(pl.col("n_params") > 0)
        reason = _no_line(frame)
        if reason:
            draft.leave_out(f"beyond.extrapolation.{outcome}", reason)
            continue
        lines = line_with_intervals(frame)
        determined = _determined(lines.row(-1, named=True), frame["y"].to_numpy())
        if outcome == "peak":
            score = draft.heads.score
            lines = lines.with_columns(pl.col(_CURVES).clip(score.low, score.high))
        if outcome == "onset":
            lines = lines.with_columns((pl.col(_CURVES) * np.log(10)).exp())
        parts.append(lines.select(pl.lit(outcome).alias("outcome"), pl.all()))
        numbers[outcome] = lines.row(-1, named=True) | {"determined": determined}
        n_sizes = frame["model"].n_unique()
    if parts:
        draft.tables["extrapolation"] = pl.concat(parts)
        for outcome, row in numbers.items():
            draft.put(f"beyond.extrapolation.{outcome}", row)
        _say(draft, numbers, n_sizes)


_CURVES = ("fit", "lower", "upper", "run_lower", "run_upper")


def _no_line(frame: pl.DataFrame) -> str:
    """Why there is no line with an interval through these outcomes; empty where there is one."""
    n_sizes = frame["n_params"].n_unique()
    if n_sizes < 3:
        are = "is" if n_sizes == 1 else "are"
        return f"a line with an interval needs at least three sizes of different n_params, and {n_sizes} {are} there"
    if frame["y"].n_unique() == 1:
        return "it is the same in every run, as where only one step could show it: there is no scatter to predict from"
    return ""


def _determined(row: dict[str, Any], y: np.ndarray) -> bool:
    """Whether the prediction tells anything: its interval does not hold all that was measured in any run, and zero.

    Zero is the least of most scores, for a slope the bound between rising and falling, for log10 of an onset step 1.
    """
    return bool(row["lower"] > min(0.0, y.min()) or row["upper"] < max(0.0, y.max()))


def line_with_intervals(frame: pl.DataFrame) -> pl.DataFrame:
    """The least-squares line of `y` on log10(n_params), with two 95% prediction intervals.

    `lower`, `upper`: for the mean of a new size, from the sizes' means, a size being one observation (df = sizes - 2):
    sizes differ from the line by more than seeds explain, and only they can say by how much.
    `run_lower`, `run_upper`: for one run, from all runs (df = runs - 2), as if the line held exactly.
    """
    sizes = frame["n_params"].to_numpy().astype(float)
    smallest, largest = sizes.min(), sizes.max()
    grid = np.geomspace(smallest, largest * min(REACH, largest / smallest), 61)
    means = frame.group_by("model", maintain_order=True).agg(pl.first("n_params"), pl.col("y").mean())
    fit, half = _predict(means, np.log10(grid))
    run_fit, run_half = _predict(frame, np.log10(grid))
    return pl.DataFrame(
        {
            "n_params": grid,
            "fit": fit,
            "lower": fit - half,
            "upper": fit + half,
            "run_lower": run_fit - run_half,
            "run_upper": run_fit + run_half,
            "extrapolated": grid > largest * (1 + 1e-9),
        }
    )


def _predict(frame: pl.DataFrame, x_new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The line at `x_new` and the half width of its 95% prediction interval: t s sqrt(1 + 1/n + (x - mean)² / Sxx)."""
    x, y = np.log10(frame["n_params"].to_numpy().astype(float)), frame["y"].to_numpy()
    n, dx = len(x), x - x.mean()
    slope = dx @ y / (dx @ dx)
    residual = y - y.mean() - slope * dx
    s = np.sqrt(residual @ residual / (n - 2))
    leverage = 1 / n + (x_new - x.mean()) ** 2 / (dx @ dx)
    return y.mean() + slope * (x_new - x.mean()), t_quantile(0.975, n - 2) * s * np.sqrt(1 + leverage)


def _say(draft: ResultBuilder, numbers: dict[str, dict[str, Any]], n_sizes: int) -> None:
    params = next(iter(numbers.values()))["n_params"]
    size = f"{params / 1e6:,.3g} million parameters" if params < 1e9 else f"{params / 1e9:,.3g} billion parameters"
    for outcome, row in numbers.items():
        text = _told(outcome, row, size) if row["determined"] else _untold(outcome, size)
        draft.find("extrapolation", outcome, text, **row)
    draft.find(
        "extrapolation",
        "caveat",
        f"This holds if the straight line through {n_sizes} sizes goes on, which nothing here tests.",
        "The interval allows for the scatter of sizes around the line, not for a bend.",
        "A score with an upper limit cannot grow for ever, and no onset comes before the first step.",
        n_sizes=n_sizes,
    )


_LEAST = {"onset": "the first step", "peak": "zero", "slope": "zero"}


def _told(outcome: str, row: dict[str, Any], size: str) -> str:
    form = (lambda value: f"{value:,.0f}") if outcome == "onset" else digits
    fit, lower, upper = (form(row[end]) for end in ("fit", "lower", "upper"))
    what = f"an onset at step {fit}" if outcome == "onset" else f"a {outcome} of {fit}"
    return f"A size of {size} would have {what} (95% prediction interval {lower}–{upper})."


def _untold(outcome: str, size: str) -> str:
    return (
        f"The {outcome} of a size of {size} cannot be predicted. "
        f"Its interval holds every {outcome} measured, and {_LEAST[outcome]}."
    )

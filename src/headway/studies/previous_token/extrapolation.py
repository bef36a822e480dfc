"""Sizes to come: the fitted relations drawn on to larger sizes, with prediction intervals and a warning."""

from __future__ import annotations

import numpy as np
import polars as pl

from headway.studies.previous_token.draft import Draft, listed
from headway.studies.previous_token.seeds import outcomes

REACH = 10.0  # times the largest size at most; no farther than the sizes themselves reach


def extrapolation(draft: Draft) -> None:
    """Adds onset, peak and slope as straight lines on log10(n_params), up to a size to come."""
    parts, numbers = [], {}
    for outcome, frame in outcomes(draft.tables).items():
        frame = frame.filter(pl.col("n_params") > 0)
        n_sizes = frame["n_params"].n_unique()
        if n_sizes < 3:
            draft.leave_out(
                f"beyond.extrapolation.{outcome}",
                f"a line with an interval needs at least three sizes of different n_params, and {n_sizes} "
                f"{'is' if n_sizes == 1 else 'are'} there",
            )
            continue
        lines = line_with_intervals(frame)
        if outcome == "onset":
            lines = lines.with_columns((pl.col("fit", "lower", "upper", "run_lower", "run_upper") * np.log(10)).exp())
        parts.append(lines.select(pl.lit(outcome).alias("outcome"), pl.all()))
        numbers[outcome] = lines.row(-1, named=True)
    if parts:
        draft.tables["extrapolation"] = pl.concat(parts)
        for outcome, row in numbers.items():
            draft.put(f"beyond.extrapolation.{outcome}", row)
        for name, sentence in _sentences(draft, numbers).items():
            draft.put(f"beyond.extrapolation.{name}", sentence)


def line_with_intervals(frame: pl.DataFrame) -> pl.DataFrame:
    """The least-squares line of `y` on log10(n_params), with two 95 % prediction intervals.

    `lower`, `upper`: for the mean of a new size, from the sizes' means, a size being one observation (df = sizes - 2):
    sizes differ from the line by more than seeds explain, and only they can say by how much.
    `run_lower`, `run_upper`: for one run, from all runs (df = runs - 2), as if the line held exactly.
    """
    sizes = frame["n_params"].to_numpy().astype(float)
    smallest, largest = sizes.min(), sizes.max()
    grid = np.geomspace(smallest, largest * min(REACH, largest / smallest), 61)
    means = frame.group_by("n_params").agg(pl.col("y").mean()).sort("n_params")
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
    """The line at `x_new` and the half width of its 95 % prediction interval: t s sqrt(1 + 1/n + (x - mean)² / Sxx)."""
    from scipy.stats import t

    x, y = np.log10(frame["n_params"].to_numpy().astype(float)), frame["y"].to_numpy()
    n, dx = len(x), x - x.mean()
    slope = dx @ y / (dx @ dx)
    residual = y - y.mean() - slope * dx
    s = np.sqrt(residual @ residual / (n - 2))
    leverage = 1 / n + (x_new - x.mean()) ** 2 / (dx @ dx)
    return y.mean() + slope * (x_new - x.mean()), t.ppf(0.975, n - 2) * s * np.sqrt(1 + leverage)


def _sentences(draft: Draft, numbers: dict[str, dict]) -> dict[str, str]:
    n_sizes = draft.heads.sizes["n_params"].n_unique()
    params = next(iter(numbers.values()))["n_params"]
    formats = {"onset": "its onset at step {fit:,.0f} ({lower:,.0f} to {upper:,.0f})"}
    said = [
        formats.get(outcome, f"a {outcome} of {{fit:.2f}} ({{lower:.2f}} to {{upper:.2f}})").format(**row)
        for outcome, row in numbers.items()
    ]
    size = f"{params / 1e6:,.3g} million parameters" if params < 1e9 else f"{params / 1e9:,.3g} billion parameters"
    return {
        "says": f"If the straight lines went on, a size of {size} would have {listed(said)} "
        f"(95 % prediction intervals from {n_sizes} sizes).",
        "does_not_say": "It does not say that they go on: this size is outside what was measured, a "
        "score with an upper limit cannot grow for ever, and no onset comes before the first step.",
        "warning": "Extrapolated: the interval allows for the scatter of sizes around a straight line, not for a bend.",
    }

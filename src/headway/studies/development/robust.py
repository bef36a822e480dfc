"""The published models beside robust ones, in which sizes are the units, and what the few sizes leave open."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headway.errors import StatisticsError
from headway.stats.distributions import f_p, t_p, t_quantile
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.final import layer_maxima
from headway.studies.development.seeds import outcomes

Array = NDArray[np.float64]

_TABLES = ("published_robust", "without_size", "size_checks")
_SIZE = "log10(n_params)"
_PUBLISHED_TERMS = {
    "onset": _SIZE,
    "peak": _SIZE,
    "slope": _SIZE,
    "growth": "log10(step_modded)",
    "final_layer_by_size": f"{_SIZE}:Layer",
}
_ROUNDING = 1e-12  # of the largest mean
_BY_DEPTH = f"max_attention ~ {_SIZE} * prop_layer + (1 | run) + (1 | model:Layer)"


def robust(draft: ResultBuilder) -> None:
    """Adds a robust line for each published model of runs, its checks over sizes, and each without one of the sizes."""
    found: dict[str, dict[str, Any] | None] = {
        "growth": growth_over_sizes(draft.tables["slopes"]),
        "final_layer_by_size": _by_depth(draft),
    }
    checks, without = [], []
    for outcome, frame in outcomes(draft.tables).items():
        frame = frame.filter(pl.col("n_params") > 0)
        found[outcome] = line_over_sizes(frame)
        if found[outcome] is not None:
            checks.append({"outcome": outcome} | line_checks(frame))
            without += [{"outcome": outcome} | row for row in without_one(frame)]
    rows = [row for model in _PUBLISHED_TERMS for row in _pair(draft, model, found[model])]
    for model, line in found.items():
        draft.put(f"beyond.robust.{model}", line)
    absent = [name for name, rows in zip(_TABLES, (rows, without, checks), strict=True) if not rows]
    if absent:
        draft.say_left_out(
            "beyond.robust", "a line over sizes with an error needs three sizes, without one of them four", absent
        )
    if rows:
        draft.tables["published_robust"] = pl.DataFrame(rows, schema=_PAIR)
    if without:
        draft.tables["without_size"] = pl.DataFrame(without, schema=_WITHOUT)
    if checks:
        draft.tables["size_checks"] = pl.DataFrame(checks, schema=_CHECKS)


_NUMBERS = {name: pl.Float64() for name in ("estimate", "std_error", "df", "t", "p")}
_PAIR = {
    "model": pl.String(),
    "kind": pl.String(),
    "formula": pl.String(),
    "term": pl.String(),
    **_NUMBERS,
    "why": pl.String(),
}
_WITHOUT = {"outcome": pl.String(), "model": pl.String(), "size": pl.String(), **_NUMBERS}
_CHECKS = {
    "outcome": pl.String(),
    "n_sizes": pl.Int64(),
    "lack_f": pl.Float64(),
    "lack_df1": pl.Int64(),
    "lack_df2": pl.Int64(),
    "lack_p": pl.Float64(),
    "line_share": pl.Float64(),
    "step_share": pl.Float64(),
    "step_after": pl.String(),
}


def line_over_sizes(frame: pl.DataFrame) -> dict[str, Any] | None:
    """The line of the sizes' mean `y` on log10(n_params): a size is one observation. None with fewer than three sizes.

    t has two degrees of freedom less than sizes. The variance of sizes about the line is taken to be no smaller than their runs
    alone give: three sizes can lie on a line by luck. With equally many runs of each size this is the estimate and the
    standard error of the mixed model with `(1 | model)`. Its Satterthwaite df would jump to the number of runs where the
    variance of sizes is estimated as 0, and the test then rejects too often.
    """
    line = _fit_means(frame)
    if line is None:
        return None
    words = {"formula": f"mean of each size ~ {_SIZE}", "term": _SIZE}
    return words | _t_test(line.slope, line.slope_error, line.n - 2) | {"n_sizes": line.n}


def line_at(frame: pl.DataFrame, x: Array) -> pl.DataFrame | None:
    """The line over sizes at `x`, in log10(parameters), with its 95% t interval: fit, lower, upper. None as above."""
    line = _fit_means(frame)
    if line is None:
        return None
    fit = line.mean_y + line.slope * (x - line.mean_x)
    error = np.sqrt(line.variance / line.n + (line.slope_error * (x - line.mean_x)) ** 2)
    half = t_quantile(0.975, line.n - 2) * error
    return pl.DataFrame({"fit": fit, "lower": fit - half, "upper": fit + half})


class _Line(NamedTuple):
    """A line through the means of `n` sizes; `variance` is that of a size's mean about it."""

    mean_x: float
    mean_y: float
    slope: float
    slope_error: float
    variance: float
    n: int


def _fit_means(frame: pl.DataFrame) -> _Line | None:
    means = _means(frame)
    x, y = np.log10(means["n_params"].to_numpy().astype(float)), means["y"].to_numpy()
    n = len(x)
    if n < 3 or np.ptp(x) == 0:
        return None
    slope, error, _ = line_tests(x, y[None], np.array([_variance_by_runs(means)]))
    dx = x - x.mean()
    variance = float(error[0] ** 2 * (dx @ dx))
    return _Line(float(x.mean()), float(y.mean()), float(slope[0]), float(error[0]), variance, n)


def line_tests(x: np.ndarray, y: np.ndarray, variance_by_runs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slope, standard error and p of a line through sizes' means, for many sets of means at once.

    Args:
        x: (S,) log10 of the sizes' parameters.
        y: (sets, S) means.
        variance_by_runs: (sets,) what the scatter of runs gives the variance of a mean: the error is never below it.
    """
    dx = x - x.mean()
    slope = y @ dx / (dx @ dx)
    residual = y - y.mean(axis=1, keepdims=True) - slope[:, None] * dx
    variance = np.maximum((residual**2).sum(axis=1) / (len(x) - 2), variance_by_runs)
    error = np.sqrt(variance / (dx @ dx))
    with np.errstate(divide="ignore", invalid="ignore"):
        return slope, error, t_p(slope / error, len(x) - 2)


def _means(frame: pl.DataFrame) -> pl.DataFrame:
    """A row per size: size, n_params, the mean `y`, its number of runs `n`, and their sum of squares about it, `ss`."""
    y = pl.col("y")
    return frame.group_by("model", maintain_order=True).agg(
        pl.first("size", "n_params"), y.mean(), n=pl.len(), ss=((y - y.mean()) ** 2).sum()
    )


def _variance_by_runs(means: pl.DataFrame) -> float:
    """The variance of a size's mean that the scatter of its runs gives, averaged over sizes; 0 with one run of each."""
    df = int(means["n"].sum()) - means.height
    return float(means["ss"].sum()) / df * float((1 / means["n"].to_numpy()).mean()) if df else 0.0


def _t_test(estimate: float, error: float, df: int) -> dict[str, float | None]:
    if not error > 0:  # without scatter there is no test
        return {"estimate": estimate, "std_error": error, "df": df, "t": None, "p": None}
    ratio = estimate / error
    return {"estimate": estimate, "std_error": error, "df": df, "t": ratio, "p": float(t_p(ratio, df))}


def line_checks(frame: pl.DataFrame) -> dict[str, Any]:
    """Whether the sizes lie on a line.

    `lack_f`, `lack_p`: F test of the sizes' distances from their line against the scatter of runs within sizes.
    `line_share`, `step_share`: of the variance between sizes' means, what a line and what the best single step explain.
    """
    means = _means(frame).sort("n_params", maintain_order=True)
    x, y = np.log10(means["n_params"].to_numpy().astype(float)), means["y"].to_numpy()
    runs = means["n"].to_numpy().astype(float)
    found: dict[str, Any] = {"n_sizes": len(y), "lack_df1": len(y) - 2, "lack_df2": frame.height - len(y)}
    weighted = np.sqrt(runs)[:, None] * np.stack([np.ones_like(x), x - x.mean()], axis=1)
    target = np.sqrt(runs) * y
    off = target - weighted @ np.linalg.lstsq(weighted, target, rcond=None)[0]
    within = float(means["ss"].sum())
    least = len(y) * (_ROUNDING * float(np.abs(y).max())) ** 2  # smaller sums of squares are rounding
    if found["lack_df2"] > 0 and within > least:
        found["lack_f"] = float(off @ off / found["lack_df1"] / (within / found["lack_df2"]))
        found["lack_p"] = float(f_p(found["lack_f"], found["lack_df1"], found["lack_df2"]))
    total = np.sum((y - y.mean()) ** 2)
    if total > least:
        left = [np.sum((part - part.mean()) ** 2) for k in range(1, len(y)) for part in (y[:k], y[k:])]
        steps = np.array(left).reshape(-1, 2).sum(axis=1)
        found["line_share"] = float(np.corrcoef(x, y)[0, 1] ** 2)
        found["step_share"] = float(1 - steps.min() / total)
        found["step_after"] = means["size"][int(steps.argmin())]
    return dict.fromkeys(set(_CHECKS) - {"outcome"}) | found


def without_one(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The line over sizes without each of them in turn; none with fewer than four sizes."""
    rows = []
    for model, size in _means(frame).select("model", "size").rows():
        line = line_over_sizes(frame.filter(pl.col("model") != model))
        if line is not None:
            rows.append({"model": model, "size": size} | {name: line[name] for name in _NUMBERS})
    return rows


def growth_over_sizes(slopes: pl.DataFrame) -> dict[str, Any] | None:
    """The mean rise per decade: each run's own line, averaged within sizes, then over sizes. None with one size.

    Errors of a run are alike at neighbouring steps. A run's line is one number, so this does not matter here.
    """
    frame = slopes.filter(pl.col("estimate").is_finite()).with_columns(y="estimate")
    means = _means(frame)
    y = means["y"].to_numpy()
    if len(y) < 2:
        return None
    error = float(np.sqrt(max(y.var(ddof=1), _variance_by_runs(means)) / len(y)))
    words = {"formula": "mean of each size's runs' slopes ~ 1", "term": "slope on log10(step_modded)"}
    return words | _t_test(float(y.mean()), error, len(y) - 1) | {"n_sizes": len(y)}


def _by_depth(draft: ResultBuilder) -> dict[str, Any] | None:
    """The interaction of size and depth, layers compared at equal depth, with a random effect of each run and layer."""
    from headway import stats

    frame = layer_maxima(draft.heads).rename({"max_z": "max_attention"}).filter(pl.col("n_params") > 0)
    frame = frame.filter(pl.col("max_attention").is_finite())
    if frame["n_params"].n_unique() < 3 or frame["run"].n_unique() < 4:
        return None
    try:
        fit = stats.lmm(_BY_DEPTH, frame)
    except StatisticsError:
        return None
    row = next((row for row in fit.fixed.to_dicts() if row["term"] == f"{_SIZE}:prop_layer"), None)
    return None if row is None else {"formula": _BY_DEPTH} | row | {"n_sizes": frame["model"].n_unique()}


def _pair(draft: ResultBuilder, model: str, line: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The published and the robust row, and why they differ; nothing where one of them does not exist."""
    published = draft.values.get("lmm", {}).get(model)
    term = (published or {}).get("fixed", {}).get(_PUBLISHED_TERMS[model])
    if published is None or term is None or line is None:
        return []
    names = {"model": model, "why": _why(model, published["n_obs"], line)}
    return [
        names | {"kind": "robust"} | {name: line[name] for name in ("formula", "term", *_NUMBERS)},
        names
        | {"kind": "published", "formula": published["formula"], "term": _PUBLISHED_TERMS[model]}
        | {name: term[name] for name in _NUMBERS},
    ]


def _why(model: str, n: int, line: dict[str, Any]) -> str:
    """One sentence on why the two differ."""
    if model == "growth":
        return (
            f"The published model takes {n:,} steps as independent, though errors of a run persist from step to step."
        )
    if model == "final_layer_by_size":
        return f"The published model takes {n:,} layers as independent, and compares layer numbers of networks of unequal depth."
    return f"The published model counts {n} runs of {line['n_sizes']} sizes as if they were {n} sizes."

"""When clusters arise, and whether they jump or grow: the published rule beside a test of change.

The published rule takes the largest change of the silhouette between neighbouring checkpoints, and calls it sudden if it is
above 0.2. It asks neither whether the silhouette is beyond that of noise, nor how far apart the checkpoints are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.studies.weight_clusters.timeline import LEVEL, main_series

SUDDEN = 0.2
_PLACE = ("model", "size", "layer", "kind", "feature")
_LEAST_BOOTSTRAPS = 99

_SCHEMA: dict[str, pl.DataType] = {
    "run": pl.String(),
    "model": pl.String(),
    "size": pl.String(),
    "layer": pl.Int32(),
    "kind": pl.String(),
    "feature": pl.String(),
    "n_runs": pl.Int32(),
    "published_from": pl.Int64(),
    "published_to": pl.Int64(),
    "published_before": pl.Float64(),
    "published_after": pl.Float64(),
    "published_change": pl.Float64(),
    "published_sudden": pl.Boolean(),
    "beyond_from": pl.Int64(),
    "beyond_after": pl.Int64(),
    "last_beyond": pl.Boolean(),
    "last_outliers": pl.List(pl.Int32()),
    "change": pl.String(),
    "p_change": pl.Float64(),
    "p_gradual": pl.Float64(),
    "p_abrupt": pl.Float64(),
    "change_from": pl.Float64(),
    "change_to": pl.Float64(),
    "change_low": pl.Float64(),
    "change_high": pl.Float64(),
    "too_coarse": pl.Boolean(),
    "verdict": pl.String(),
}


def transitions(lines: pl.DataFrame, *, bootstraps: int, seed: int) -> pl.DataFrame:
    """One row per run, layer, kind and feature, for two clusters by k-means, and, where a size has several runs, one with
    `run` null for their mean, whose interval comes from resampling runs.

    All but the published rule is about groups: clusters of which no head is alone, or those of the heads that are left
    without the lone ones. `beyond_from` is the first step from which they stay beyond every null (p <= 0.05, uncorrected) to
    the end, `beyond_after` the step before it in the grid; `last_beyond` says whether they are at the last step, corrected.
    `change` is the verdict of `stats.change_points` on their silhouette, its places those of the largest change; it is only
    asked where they are beyond every null, corrected, at some step.
    """
    rows = []
    for place in main_series(lines).partition_by(_PLACE, maintain_order=True):
        runs = [run.sort("step") for run in place.partition_by("run", maintain_order=True)]
        rows += [_row([run], bootstraps, seed) for run in runs]
        if len(runs) > 1:
            rows.append(_row(runs, bootstraps, seed) | {"run": None})
    return pl.DataFrame(rows, schema=_SCHEMA)


def _row(runs: list[pl.DataFrame], bootstraps: int, seed: int) -> dict[str, Any]:
    """The transition of one run, or of the mean of several over the steps that they share."""
    steps = sorted(set.intersection(*(set(run["step"]) for run in runs)))
    row = {name: runs[0][name][0] for name in ("run", *_PLACE)} | {"n_runs": len(runs)}
    row |= published_rule(steps, _values(runs, steps, "silhouette").mean(axis=0))
    if len(runs) == 1:
        row |= _beyond(runs[0])
    else:
        row["last_beyond"] = all(run["groups"][-1] for run in runs) if runs[0]["groups"].null_count() == 0 else None
    words = ""
    if any(run["groups"].any() for run in runs) and bootstraps >= _LEAST_BOOTSTRAPS:
        row |= (change := _change(steps, _values(runs, steps, "silhouette_groups"), bootstraps, seed))
        words = change["words"]
    return row | {"verdict": _verdict(row, runs, words)}


def _values(runs: list[pl.DataFrame], steps: list[int], column: str) -> np.ndarray:
    """(runs, steps)"""
    return np.array([run.filter(pl.col("step").is_in(steps))[column] for run in runs]).reshape(len(runs), -1)


def published_rule(steps: list[int], silhouettes: np.ndarray) -> dict[str, Any]:
    """Study 1's rule: the largest absolute change between neighbouring checkpoints, sudden if above 0.2."""
    if len(steps) < 2 or not np.isfinite(silhouettes).any():
        return {}
    changes = np.diff(silhouettes)
    at = int(np.nanargmax(np.abs(changes))) if np.isfinite(changes).any() else 0
    return {
        "published_from": steps[at],
        "published_to": steps[at + 1],
        "published_before": float(silhouettes[at]),
        "published_after": float(silhouettes[at + 1]),
        "published_change": float(changes[at]),
        "published_sudden": bool(abs(changes[at]) > SUDDEN),
    }


def _beyond(run: pl.DataFrame) -> dict[str, Any]:
    """From which step on groups stay beyond the nulls."""
    last: dict[str, Any] = {"last_beyond": run["groups"][-1], "last_outliers": run["outliers"][-1].to_list()}
    steps, beyond = run["step"].to_list(), (run["p_groups"] <= LEVEL).fill_null(False).to_list()
    if not beyond[-1]:
        return last
    first = next(at for at in range(len(steps)) if all(beyond[at:]))
    return last | {"beyond_from": steps[first], "beyond_after": steps[first - 1] if first else None}


def _change(steps: list[int], values: np.ndarray, bootstraps: int, seed: int) -> dict[str, Any]:
    from headway.stats import change_points

    try:
        found = change_points(steps, values, n_boot=bootstraps, seed=seed)
    except StatisticsError as error:
        return {"words": f"Whether it jumped or grew cannot be asked: {error}."}
    row: dict[str, Any] = {
        "change": found.verdict,
        "p_change": found.p_change,
        "p_gradual": found.p_gradual,
        "p_abrupt": found.p_abrupt,
        "too_coarse": found.too_coarse,
        "words": found.words,
    }
    if len(found.places):
        # Of several steps, the one across which the mean changes most.
        mean = dict(zip(steps, values.mean(axis=0), strict=True))
        places = found.places.to_dicts()
        largest = max(places, key=lambda place: abs(mean[int(place["after"])] - mean[int(place["before"])]))
        row |= {
            "change_from": largest["before"],
            "change_to": largest["after"],
            "change_low": largest["lower"],
            "change_high": largest["upper"],
        }
    return row


def _verdict(row: dict[str, Any], runs: list[pl.DataFrame], words: str) -> str:
    """The transition in words."""
    if len(runs) > 1:
        n_beyond = sum(bool(run["groups"][-1]) for run in runs)
        return " ".join(
            filter(None, [f"Groups beyond every null at the last step in {n_beyond} of {len(runs)} runs.", words])
        )
    if runs[0]["p"].null_count() == len(runs[0]):
        return "No nulls were drawn: nothing says whether the silhouette is more than noise gives."
    return " ".join(filter(None, [_where_beyond(row, runs[0]), _outliers(row, runs[0]), words]))


def _where_beyond(row: dict[str, Any], run: pl.DataFrame) -> str:
    if row.get("beyond_from") is None:
        if (run["p_groups"] <= LEVEL).any():
            return "No groups beyond the nulls at the last step, though at some before it."
        return "No groups: at no step are clusters more than heads without clusters give."
    since = f"since step {row['beyond_from']:,}"
    if row["beyond_after"] is not None:
        since += f" (not yet at {row['beyond_after']:,}, the step before it in this grid)"
    if not row["last_beyond"]:
        return f"Groups beyond every null {since}, but not after correction for all that was looked at."
    return f"Groups beyond every null {since}."


def _outliers(row: dict[str, Any], run: pl.DataFrame) -> str:
    """Of the last step: which heads are alone, and what the others do."""
    outliers = row["last_outliers"]
    if not outliers:
        return ""
    several = len(outliers) > 1
    named = f"heads {', '.join(map(str, outliers))} are" if several else f"head {outliers[0]} is"
    alone = f"At the last step {named} alone in {'clusters' if several else 'its cluster'}: "
    alone += "outliers, not clusters of heads." if several else "an outlier, not a cluster of heads."
    if row.get("beyond_from") is None:
        return f"{alone} The other heads form no groups beyond the nulls."
    return f"{alone} The groups are those of the other heads, with a silhouette of {run['silhouette_groups'][-1]:.2f}."

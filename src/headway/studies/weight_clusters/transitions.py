"""When clusters arise, and whether they jump or grow: the published rule beside a test of change.

The published rule takes the largest change of the silhouette between neighbouring checkpoints, and calls it sudden if it is
above 0.2. It asks neither whether the silhouette is beyond that of noise, nor how far apart the checkpoints are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.stats.corrections import LEVEL
from headway.studies.weight_clusters.timeline import main_series
from headway.text import count

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
    "last_sizes": pl.List(pl.Int32()),
    "q_series": pl.Float64(),
    "undecided": pl.Boolean(),
    "needed_draws": pl.Int64(),
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

    All but the published rule is about groups of directions. `beyond_from` is the first step from which they stay beyond every
    null (p <= 0.05, uncorrected) to the end, `beyond_after` the step before it in the grid; `last_beyond` says whether they
    are there at the last step, corrected, and `last_sizes` how large they are. `q_series`, `undecided` and `needed_draws` are
    those of the timeline. `change` is the verdict of `stats.change_points` on the silhouette of the final groups, followed back
    through training, its places those of the largest change. It is only asked where there are groups at some step, corrected.
    """
    rows = []
    for place in main_series(lines).partition_by(_PLACE, maintain_order=True):
        runs = [run.sort("step") for run in place.partition_by("run", maintain_order=True)]
        rows += [_row([run], bootstraps, seed) for run in runs]
        if len(runs) > 1:
            rows.append(_row(runs, bootstraps, seed) | {"run": None})
    return pl.DataFrame(rows, schema=_SCHEMA)


def _row(runs: list[pl.DataFrame], bootstraps: int, seed: int) -> dict[str, Any]:
    """The row of one run, or of the mean of several runs over the steps that they share."""
    steps = sorted(set.intersection(*(set(run["step"]) for run in runs)))
    row = {name: runs[0][name][0] for name in ("run", *_PLACE)} | {"n_runs": len(runs)}
    row |= published_rule(steps, _values(runs, steps, "silhouette").mean(axis=0))
    if len(runs) == 1:
        row |= _beyond(runs[0])
    else:
        row["last_beyond"] = all(run["groups"][-1] for run in runs) if runs[0]["groups"].null_count() == 0 else None
    words = ""
    with_groups = [run for run in runs if run["groups"].any()]
    if with_groups and bootstraps >= _LEAST_BOOTSTRAPS:
        row |= (change := _change(steps, _values(with_groups, steps, "silhouette_final"), bootstraps, seed))
        words = change["words"]
    return row | {"verdict": _verdict(row, runs, words)}


def _values(runs: list[pl.DataFrame], steps: list[int], column: str) -> np.ndarray:
    """Values of the runs at the shared steps: (runs, steps)."""
    own = [run.filter(pl.col("step").is_in(steps))[column].to_numpy() for run in runs]
    return np.array(own, dtype=float).reshape(len(runs), -1)


def published_rule(steps: list[int], silhouettes: np.ndarray) -> dict[str, Any]:
    """The published study's rule: the largest absolute change between neighbouring checkpoints, sudden if above 0.2."""
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
    """The step from which groups stay beyond the nulls to the end."""
    labels = run["group_labels"][-1]
    sizes = [] if labels is None else labels.drop_nulls().value_counts()["count"].sort(descending=True).to_list()
    last = {"last_beyond": run["groups"][-1], "last_sizes": sizes}
    last |= {name: run[name][-1] for name in ("q_series", "undecided", "needed_draws")}
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
    return row | {"words": _change_words(row)}


_CHANGES = {"abrupt": "They arose abruptly", "gradual": "They grew gradually, fastest",
            "undecided": "Whether they arose abruptly or grew cannot be told; they changed most"}  # fmt: skip


def _change_words(row: dict[str, Any]) -> str:
    """Describe the largest change. Smaller ones are seldom more than noise."""
    if row["change"] == "none":
        return f"Their silhouette does not change in training (p = {row['p_change']:.2g} for noise alone)."
    words = f"{_CHANGES[row['change']]} between steps {row['change_from']:,.0f} and {row['change_to']:,.0f}"
    words += f" (95% interval {row['change_low']:,.0f} to {row['change_high']:,.0f}; p = {row['p_gradual']:.2g} for a gradual "
    words += f"change, {row['p_abrupt']:.2g} for an abrupt one)."
    if row["too_coarse"]:
        words += " The checkpoints are too far apart to tell a jump from growth between them."
    return words


def _verdict(row: dict[str, Any], runs: list[pl.DataFrame], words: str) -> str:
    """Describe the transition."""
    if len(runs) > 1:
        n_groups = sum(bool(run["groups"][-1]) for run in runs)
        return " ".join(filter(None, [f"Groups of heads at the last step in {n_groups} of {len(runs)} runs.", words]))
    run = runs[0]
    if run["p_groups"].null_count() == len(run):
        if run["group_draws"].null_count() == len(run) and run["p"].null_count() < len(run):
            return "Too few heads for two groups."
        return "No nulls were drawn: nothing says whether the heads form groups."
    return " ".join(filter(None, [_where(row, run), _copies(run), words]))


def _where(row: dict[str, Any], run: pl.DataFrame) -> str:
    if row["undecided"]:
        return (
            f"Undecidable with {count(max(run['group_draws'].drop_nulls().to_list()), 'draw')}: none of them reaches the "
            f"observed value, but p does not survive correction. {row['needed_draws']:,} draws can decide."
        )
    if row["last_beyond"]:
        since = f" since step {row['beyond_from']:,}" if row.get("beyond_from") is not None else ""
        if row.get("beyond_after") is not None:
            since += f" (not yet at {row['beyond_after']:,}, the step before it in this grid)"
        return f"Groups of {' and '.join(map(str, row['last_sizes']))} heads{since}.{_left_out(run)}"
    if run["groups"].any():
        there = run.filter("groups")["step"].to_list()
        return f"No groups at the last step, but at {count(len(there), 'step')} from {there[0]:,} to {there[-1]:,}."
    return "No groups: at no step do heads part better than heads without groups, corrected for all that was looked at."


def _left_out(run: pl.DataFrame) -> str:
    """Name the heads that are in none of the last step's groups."""
    alone = [head for head, label in enumerate(run["group_labels"][-1]) if label is None]
    if not alone:
        return ""
    return f" In none of them: {'heads' if len(alone) > 1 else 'head'} {', '.join(map(str, alone))}."


def _copies(run: pl.DataFrame) -> str:
    distinct, n_heads = run["n_distinct"][-1], len(run["labels"][-1])
    return "" if distinct == n_heads else f"The {n_heads} heads are copies of {distinct}: the others are equal to them."

"""When each role arises in each run, and which one comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from headway.stats.corrections import holm, over

RUN = ("run", "size", "seed")
_PLACE = ("layer", "head")
FIRSTS_SCHEMA = {
    **dict.fromkeys((*RUN, "role"), pl.String()),
    **dict.fromkeys(("lower", "upper", "seen", "last"), pl.Int64()),
    "complete": pl.Boolean(),
    "censoring": pl.String(),
    **dict.fromkeys(_PLACE, pl.Int64()),
}
ORDER_SCHEMA = {
    **dict.fromkeys(("first", "second", "size"), pl.String()),
    **dict.fromkeys(("n", "n_first", "n_second", "n_tie", "n_unknown"), pl.Int64()),
    **dict.fromkeys(("n_complete", "n_first_complete", "n_second_complete"), pl.Int64()),
    **dict.fromkeys(("p", "lag_lower", "lag_upper"), pl.Float64()),
}


def firsts(roles: pl.DataFrame) -> pl.DataFrame:
    """The onset of each role in each run: it lies in (lower, upper].

    A role has arisen at the first step from which some head holds it at every later measured step. `lower` is the last step
    without any holder, null if there is none (`censoring` left); `upper` the step after it, null if no head holds it at
    the last step (right). `seen` is the first step at which any head passes the level, even for a while; `last` the last
    measured step, and `complete` whether that is the last one of the size. `layer` and `head` are of the largest head at `upper`.
    """
    keys = [*RUN, "role"]
    steps = roles.group_by(*keys, "step", maintain_order=True).agg(there=pl.col("holds").any())
    courses = steps.group_by(keys, maintain_order=True).agg(pl.col("step", "there").sort_by("step"))
    rows = [{name: of[name] for name in keys} | _onset(of["step"], of["there"]) for of in courses.iter_rows(named=True)]
    found = pl.DataFrame(rows, schema={name: of for name, of in FIRSTS_SCHEMA.items() if name not in _PLACE})
    at_onset = found.drop_nulls("upper").select(*keys, step="upper")
    tops = (
        roles.join(at_onset, on=[*keys, "step"], how="semi", nulls_equal=True)
        .sort("value", nulls_last=False, maintain_order=True)
        .group_by(keys)
        .agg(pl.last(*_PLACE).cast(pl.Int64))
    )
    placed = found.join(tops, on=keys, how="left", nulls_equal=True, maintain_order="left")
    complete = pl.col("last") == pl.col("last").max().over("size")
    return placed.with_columns(complete=complete).select(*FIRSTS_SCHEMA)


def _onset(step: Sequence[int], there: Sequence[bool]) -> dict[str, Any]:
    """The onset of a role that is `there` at some of a run's steps, which ascend."""
    row: dict[str, Any] = {"last": step[-1], "seen": step[there.index(True)] if any(there) else None}
    absent = [place for place, held in enumerate(there) if not held]
    if not absent:
        return row | {"lower": None, "upper": step[0], "censoring": "left"}
    if absent[-1] == len(step) - 1:
        return row | {"lower": step[-1], "upper": None, "censoring": "right"}
    return row | {"lower": step[absent[-1]], "upper": step[absent[-1] + 1], "censoring": "interval"}


def in_half(onsets: pl.DataFrame) -> dict[str, int]:
    """The step by which at least half of the runs have reached each `role`, by role, the earliest first.

    Roles that fewer runs reach are left out.
    """
    steps = {}
    for (role,), of in onsets.group_by("role", maintain_order=True):
        reached, needed = of["upper"].drop_nulls().sort(), -(-of.height // 2)
        if len(reached) >= needed:
            steps[str(role)] = int(reached[needed - 1])
    return dict(sorted(steps.items(), key=lambda item: item[1]))


def order(onsets: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """For each pair of roles, which comes first within a run: a row for all runs (`size` null), and one per size.

    `n_first` and `n_second` count runs in which the first, or the second, is known to arise earlier; `n_tie` those in
    which the gaps between checkpoints cannot tell; `n_unknown` those in which neither arises; `n_complete`
    and the next two those in which both roles were measured up to the size's last step. p is of the exact sign test
    over the runs that can tell, and `p_holm` corrects it over the pairs. The mean lag from the first to the second, in decades of
    step + 1, lies between `lag_lower` and `lag_upper`; null where it has no end.
    """
    by_run: dict[str, dict[str, dict[str, Any]]] = {}
    for row in onsets.iter_rows(named=True):
        by_run.setdefault(row["run"], {})[row["role"]] = row
    rows = []
    for first, second in combinations(names, 2):
        both = [(of[first], of[second]) for of in by_run.values() if first in of and second in of]
        if both:
            rows.append({"first": first, "second": second, "size": None} | counted(both))
            for size in dict.fromkeys(one["size"] for one, _ in both):
                own = [pair for pair in both if pair[0]["size"] == size]
                rows.append({"first": first, "second": second, "size": size} | counted(own))
    frame = pl.DataFrame(rows, schema=ORDER_SCHEMA)
    p = frame.with_columns(pl.when(pl.col("size").is_null()).then("p").alias("p"))["p"]
    return frame.with_columns(p_holm=over(p, holm))


def counted(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, Any]:
    which = [earlier(one, other) for one, other in pairs]
    whole = [found for (one, other), found in zip(pairs, which, strict=True) if one["complete"] and other["complete"]]
    n_first, n_second = which.count("first"), which.count("second")
    known = [lag(one, other) for (one, other), found in zip(pairs, which, strict=True) if found != "unknown"]
    low, high = (np.array(ends, dtype=float) for ends in zip(*known, strict=True)) if known else (np.array([]),) * 2
    return {
        "n": len(pairs),
        "n_first": n_first,
        "n_second": n_second,
        "n_tie": which.count("tie"),
        "n_unknown": which.count("unknown"),
        "n_complete": len(whole),
        "n_first_complete": whole.count("first"),
        "n_second_complete": whole.count("second"),
        "p": sign_test(n_first, n_second),
        "lag_lower": float(low.mean()) if len(low) and np.isfinite(low).all() else None,
        "lag_upper": float(high.mean()) if len(high) and np.isfinite(high).all() else None,
    }


def earlier(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """`first`, `second`, `tie` (the intervals overlap), or `unknown` (neither arises while both were measured)."""
    if one["upper"] is None and other["upper"] is None:
        return "unknown"
    if one["upper"] is not None and other["lower"] is not None and one["upper"] <= other["lower"]:
        return "first"
    if other["upper"] is not None and one["lower"] is not None and other["upper"] <= one["lower"]:
        return "second"
    return "tie"


def lag(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[float, float]:
    """The least and the greatest log10((t_other + 1) / (t_one + 1)) that the two intervals allow; infinite without an end."""

    def ends(row: Mapping[str, Any]) -> tuple[float, float]:
        low = 0.0 if row["lower"] is None else np.log10(row["lower"] + 1)
        return low, np.inf if row["upper"] is None else np.log10(row["upper"] + 1)

    (low_one, high_one), (low_other, high_other) = ends(one), ends(other)
    return low_other - high_one, high_other - low_one


def sign_test(n_first: int, n_second: int) -> float | None:
    """Two-sided exact p of so uneven a split of untied runs, each way as likely; None without any."""
    from scipy.special import bdtr

    n = n_first + n_second
    return min(1.0, 2 * float(bdtr(min(n_first, n_second), n, 0.5))) if n else None

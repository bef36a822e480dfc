"""Heads that hold roles: how many there are, whether they stay, hold several, or change from one to another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headway.stats.corrections import holm, over
from headway.studies.roles.onsets import RUN

NONE = "no role"
_HEAD = ("run", "layer", "head")
_TESTED = {
    **dict.fromkeys(("n", "n_one", "n_other"), pl.Int64()),
    **dict.fromkeys(("expected", "p"), pl.Float64()),
}


def holders(roles: pl.DataFrame) -> pl.DataFrame:
    """Heads that hold each role: run…, step, role, n_heads, n (of them measured), share."""
    counted = roles.group_by(*RUN, "step", "role", maintain_order=True)
    return counted.agg(n_heads=pl.col("holds").sum().cast(pl.Int64), n=pl.len().cast(pl.Int64)).with_columns(
        share=pl.col("n_heads") / pl.col("n")
    )


def holder_means(counted: pl.DataFrame) -> pl.DataFrame:
    """The means of `holders` over the runs of a size: size, step, role, n_heads, share, n_runs."""
    return counted.group_by("size", "step", "role", maintain_order=True).agg(
        pl.col("n_heads", "share").mean(), n_runs=pl.len().cast(pl.Int64)
    )


def by_layer(roles: pl.DataFrame) -> pl.DataFrame:
    """Mean number of holders by size, step, role and layer, over the size's runs."""
    of_run = roles.group_by(*RUN, "step", "role", "layer", maintain_order=True).agg(pl.col("holds").sum())
    return of_run.group_by("size", "step", "role", "layer", maintain_order=True).agg(
        mean=pl.col("holds").mean(), n_runs=pl.len().cast(pl.Int64)
    )


def stays(roles: pl.DataFrame) -> pl.DataFrame:
    """Of the heads that held a role before the last measured step, how many hold it there: run…, role, n_before, n_kept, n_last."""
    last = pl.col("step") == pl.col("step").max().over("run", "role")
    of_head = roles.with_columns(at_last=last).group_by(*RUN, "role", "layer", "head", maintain_order=True)
    found = of_head.agg(
        before=(pl.col("holds") & ~pl.col("at_last")).any(), now=(pl.col("holds") & pl.col("at_last")).any()
    )
    return found.group_by(*RUN, "role", maintain_order=True).agg(
        n_before=pl.col("before").sum().cast(pl.Int64),
        n_kept=(pl.col("before") & pl.col("now")).sum().cast(pl.Int64),
        n_last=pl.col("now").sum().cast(pl.Int64),
    )


def stays_by_size(kept: pl.DataFrame) -> pl.DataFrame:
    """The sums of `stays` over the runs of a size: size, role, n_before, n_kept, n_last."""
    return kept.group_by("size", "role", maintain_order=True).agg(pl.col("n_before", "n_kept", "n_last").sum())


def main_roles(roles: pl.DataFrame) -> pl.DataFrame:
    """The role that a head holds at a step by the largest excess, and how many: run…, step, layer, head, role, n_roles.

    Every head attends somewhere and writes something. Where it attends comes first: another role, such as copying, is only
    that of heads without a role of attention. Heads without any have no row.
    """
    there = roles.filter("holds").with_columns(n_roles=pl.len().over("run", "step", "layer", "head").cast(pl.Int64))
    best = there.sort("attends", "excess", descending=True, maintain_order=True)
    return (
        best.unique(["run", "step", "layer", "head"], keep="first", maintain_order=True)
        .select(*RUN, "step", "layer", "head", "role", "value", "n_roles")
        .sort("size", "run", "step", "layer", "head")
    )


def several(roles: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """For each pair of roles, heads that hold both at some step, against chance: one, other, n, expected, p, p_holm.

    By chance the heads of the other role are any of the same layers (exact: a sum of hypergeometric counts, two-sided).
    """
    ever = roles.filter("holds").select(*_HEAD, "role").unique()
    heads = roles.select(*_HEAD).unique()
    rows = []
    for one, other in combinations(names, 2):
        sets = [
            ever.filter(pl.col("role") == name).select(*_HEAD, pl.lit(True).alias(at))
            for name, at in ((one, "a"), (other, "b"))
        ]
        rows.append({"one": one, "other": other} | _against_chance(heads, *sets))
    schema = {"one": pl.String(), "other": pl.String(), **_TESTED}
    frame = pl.DataFrame(rows, schema=schema)
    return frame.with_columns(p_holm=over(frame["p"], holm))


def changes(roles: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """From the first role of a head to its role at the last step (by the largest excess), against chance: a row per pair.

    `before` is the role at the first step at which the head held any; heads that had none before the last step do not
    count. By chance heads of the same layer exchange what they are at the end. `n` counts heads over all runs.
    """
    main = main_roles(roles).with_columns(last=pl.col("step") == pl.col("step").max().over("run"))
    first = main.filter(~pl.col("last")).sort("step").unique(_HEAD, keep="first", maintain_order=True)
    start = first.select(*_HEAD, before="role")
    end = main.filter("last").select(*_HEAD, after="role")
    heads = start.join(end, on=list(_HEAD), how="left").with_columns(pl.col("after").fill_null(NONE))
    rows = []
    for before in names:
        for after in (*names, NONE):
            own = [
                heads.filter(pl.col(name) == role).select(*_HEAD, pl.lit(True).alias(at))
                for name, role, at in (("before", before, "a"), ("after", after, "b"))
            ]
            rows.append({"before": before, "after": after} | _against_chance(heads.select(*_HEAD), *own))
    schema = {"before": pl.String(), "after": pl.String(), **_TESTED}
    frame = pl.DataFrame(rows, schema=schema)
    return frame.with_columns(p_holm=over(frame["p"], holm))


def _against_chance(heads: pl.DataFrame, one: pl.DataFrame, other: pl.DataFrame) -> dict[str, Any]:
    """Heads in both sets, and what sets of the same sizes within each run and layer have in common by chance."""
    joined = heads.join(one, on=list(_HEAD), how="left").join(other, on=list(_HEAD), how="left")
    counts = (
        joined.with_columns(pl.col("a", "b").fill_null(False))
        .group_by("run", "layer")
        .agg(n=pl.len(), a=pl.col("a").sum(), b=pl.col("b").sum(), both=(pl.col("a") & pl.col("b")).sum())
        .sort("run", "layer")  # the law is rounded in the order in which it is made
    )
    observed = int(counts["both"].sum())
    law = overlap_law(counts.select("n", "a", "b").iter_rows())
    return {
        "n": observed,
        "n_one": int(counts["a"].sum()),
        "n_other": int(counts["b"].sum()),
        "expected": float(law @ np.arange(len(law))),
        "p": _two_sided(law, observed),
    }


def overlap_law(layers: Iterable[tuple[int, int, int]]) -> NDArray[np.float64]:
    """Probabilities of 0, 1, … heads in common, summed over layers of n heads of which a and b are chosen independently."""
    law = np.ones(1)
    for n, a, b in layers:
        if a and b:
            law = np.convolve(law, _hypergeometric(n, a, b))
    return law


def _hypergeometric(n: int, a: int, b: int) -> NDArray[np.float64]:
    from scipy.special import gammaln

    k = np.arange(min(a, b) + 1)
    possible = b - k <= n - a

    def log_choose(m: Any, j: Any) -> Any:
        return gammaln(m + 1) - gammaln(j + 1) - gammaln(m - j + 1)

    law = np.zeros(len(k))
    at = k[possible]
    law[possible] = np.exp(log_choose(a, at) + log_choose(n - a, b - at) - log_choose(n, b))
    return law


def _two_sided(law: NDArray[np.float64], observed: int) -> float | None:
    """Twice the smaller tail, the observed count in both; None where only one count is possible."""
    if np.count_nonzero(law > 0) < 2:
        return None
    lower, upper = law[: observed + 1].sum(), law[observed:].sum()
    return float(min(1.0, 2 * min(lower, upper)))

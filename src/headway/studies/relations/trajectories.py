"""Composition of the heads of two roles over training, and when the first pair of them beats random heads."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import polars as pl

from headway.stats.corrections import holm, over
from headway.stats.distributions import t_p, t_quantile
from headway.studies.prose import LEVEL
from headway.studies.roles.onsets import RUN

_OF = ("kind", "first", "second")


def relation(kind: str, first: str, second: str) -> str:
    """The name of a relation beside those of roles."""
    return f"{kind.upper()}-composition of {first} and {second}"


def final_holders(roles: pl.DataFrame) -> pl.DataFrame:
    """The heads that hold each role at the last step of their run: run, role, layer, head."""
    last = pl.col("step") == pl.col("step").max().over("run", "role")
    return roles.filter(last, pl.col("holds")).select("run", "role", pl.col("layer", "head").cast(pl.Int32))


def _of_pairs(table: pl.DataFrame, final: pl.DataFrame) -> pl.DataFrame:
    """The rows of `compositions` from a final holder of a role `first` to one of another role `second`."""
    writing = final.select("run", first="role", from_layer="layer", from_head="head")
    reading = final.select("run", "layer", "head", second="role")
    joined = table.join(writing, on=["run", "from_layer", "from_head"]).join(reading, on=["run", "layer", "head"])
    return joined.filter(pl.col("first") != pl.col("second"))


def trajectories(table: pl.DataFrame, final: pl.DataFrame) -> pl.DataFrame:
    """Composition of all pairs of final holders, by run, step, kind and ordered pair of roles.

    Columns: run…, step, step_modded, kind, first, second, n_pairs, n_edges, mean, largest, chance, others. `others` is the mean over all
    pairs of heads of the same two layers, as many times as these have pairs of holders: what the layers explain.
    """
    layers = table.group_by("run", "step", "kind", "from_layer", "layer").agg(others=pl.mean("composition"))
    pairs = _of_pairs(table, final).join(layers, on=["run", "step", "kind", "from_layer", "layer"], how="left")
    found = pairs.group_by(*RUN, "step", *_OF, maintain_order=True).agg(
        n_pairs=pl.len().cast(pl.Int64),
        n_edges=(pl.col("p_holm") <= LEVEL).sum().cast(pl.Int64),
        mean=pl.mean("composition"),
        largest=pl.max("composition"),
        chance=pl.first("chance"),
        others=pl.mean("others"),
    )
    order = table.select("run").unique(maintain_order=True).with_row_index("_order")
    sorted_ = found.join(order, on="run", maintain_order="left").sort("_order", *_OF, "step").drop("_order")
    return sorted_.with_columns(step_modded=pl.col("step") + 1)


def means(followed: pl.DataFrame) -> pl.DataFrame:
    """The means of `trajectories` over the runs of a size, with a 95% t interval of the mean (null for one run)."""
    found = followed.group_by("size", "step", "step_modded", *_OF, maintain_order=True).agg(
        pl.col("mean", "largest", "chance", "others").mean(),
        error=pl.std("mean") / pl.len().sqrt(),
        n_runs=pl.len().cast(pl.Int64),
        n_pairs=pl.sum("n_pairs"),
    )
    n = found["n_runs"].to_numpy()
    half = pl.Series(np.where(n > 1, t_quantile(0.975, np.maximum(n - 1, 1)), np.nan)) * found["error"]
    bounded = found.with_columns(
        lower=(pl.col("mean") - half).fill_nan(None), upper=(pl.col("mean") + half).fill_nan(None)
    )
    return bounded.drop("error").sort("size", *_OF, "step", maintain_order=True)


def beyond(followed: pl.DataFrame) -> pl.DataFrame:
    """At the last step of each run, composition of final holders less that of all heads of the same layers, over runs.

    Columns: kind, first, second, n_runs, n_pairs, n_edges, mean, chance, others, difference, lower, upper, p, p_holm. Runs are the units:
    bounds and p are of a t test of their differences (null for one run), corrected over all rows.
    """
    last = followed.filter(pl.col("step") == pl.col("step").max().over("run"))
    found = (
        last.with_columns(difference=pl.col("mean") - pl.col("others"))
        .group_by(*_OF, maintain_order=True)
        .agg(
            pl.col("mean", "chance", "others", "difference").mean(),
            pl.col("n_pairs", "n_edges").sum(),
            error=pl.std("difference") / pl.len().sqrt(),
            n_runs=pl.len().cast(pl.Int64),
        )
        .sort(_OF, maintain_order=True)
    )
    n, error = found["n_runs"].to_numpy().astype(float), found["error"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    error = np.where(error > 0, error, np.nan)
    difference, half = found["difference"].to_numpy(), t_quantile(0.975, np.maximum(n - 1, 1)) * error
    numbers = {
        "lower": difference - half,
        "upper": difference + half,
        "p": t_p(difference / error, np.maximum(n - 1, 1)),
    }
    tested = found.with_columns(pl.Series(name, values).fill_nan(None) for name, values in numbers.items())
    columns = ("n_runs", "n_pairs", "n_edges", "mean", "chance", "others", "difference", *numbers)
    return tested.select(*_OF, *columns).with_columns(p_holm=over(tested["p"], holm))


def relation_held(table: pl.DataFrame, final: pl.DataFrame) -> pl.DataFrame:
    """A row per pair of final holders in the form of `criteria.held`: it holds if the pair is an edge.

    `layer` and `head` are those of the reading head, `value` is z.
    """
    pairs = _of_pairs(table, final)
    names = pl.concat_str(
        pl.col("kind").str.to_uppercase(), pl.lit("-composition of "), "first", pl.lit(" and "), "second"
    )
    return pairs.select(
        *RUN, "step", "layer", "head", role=names, value=pl.col("z"), holds=pl.col("p_holm") <= LEVEL
    ).sort("role", maintain_order=True)


def in_order(main: tuple[str, str], firsts: pl.DataFrame) -> list[str]:
    """The names whose order is told: both roles of `main` and K-composition of them, as far as there are such onsets."""
    there = set(firsts["role"])
    return [name for name in (main[0], relation("k", *main), main[1]) if name in there]


def ordered_pairs(final: pl.DataFrame) -> list[tuple[str, str]]:
    """All ordered pairs of roles that heads hold at the end."""
    return list(permutations(final["role"].unique(maintain_order=True), 2))

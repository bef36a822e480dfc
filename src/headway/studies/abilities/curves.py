"""Abilities over training: their values, and when each has made half of its way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from headway.studies.roles.onsets import FIRSTS_SCHEMA, RUN

LEVELS_SCHEMA = {
    **dict.fromkeys(("run", "size", "ability"), pl.String()),
    **dict.fromkeys(("start", "best", "level"), pl.Float64()),
    **dict.fromkeys(("rising", "whole"), pl.Boolean()),
}


def curves(abilities: pl.DataFrame) -> pl.DataFrame:
    """One row per run, step and ability with a finite value: run, size, seed, step, ability, value, std_error."""
    return (
        abilities.filter(pl.col("value").is_finite())
        .select(*RUN, "step", "ability", "value", "std_error")
        .sort("ability", "size", "run", "step", maintain_order=True)
    )


def levels(values: pl.DataFrame, better: dict[str, bool | None]) -> pl.DataFrame:
    """Half of the way of each ability in each run: run, size, ability, start (first value), best, level, rising, whole.

    Whether an ability rises is what `better` says (higher is better), or, without it, what it does from first to last in most runs.
    An ability that does not get better than its start in a run has no level there. A run that ends before the longest one with that
    ability (`whole` false) may not have gone half of its way: its level is the median of the whole runs of its size, or of all.
    """
    rows = []
    for of in values.partition_by("ability", maintain_order=True):
        rising = better.get(of["ability"][0])
        ends = of.sort("step").group_by("run", maintain_order=True).agg(
            pl.first("size", "ability"), start=pl.col("value").first(), last=pl.col("value").last(),
            low=pl.col("value").min(), high=pl.col("value").max(), whole=pl.col("step").max() == of["step"].max(),
        )  # fmt: skip
        if rising is None:
            rising = float(np.median((ends["last"] - ends["start"]).to_numpy())) >= 0
        better_than_start = pl.col("best") > pl.col("start") if rising else pl.col("best") < pl.col("start")
        rows.append(
            ends.with_columns(best="high" if rising else "low", rising=pl.lit(rising)).with_columns(
                level=pl.when(better_than_start).then((pl.col("start") + pl.col("best")) / 2)
            )
        )
    frame = pl.concat(rows).with_columns(known=pl.when("whole").then("level"))
    of_others = pl.coalesce(pl.col("known").median().over("ability", "size"), pl.col("known").median().over("ability"))
    level = pl.when("whole").then("level").otherwise(of_others)
    return frame.with_columns(level=level).select(LEVELS_SCHEMA.keys()).cast(LEVELS_SCHEMA)  # type: ignore[arg-type]


def onsets(values: pl.DataFrame, half: pl.DataFrame) -> pl.DataFrame:
    """When each ability passes its level for the first time: as `roles.onsets.firsts`, with the ability as the role.

    Abilities waver more than the number of holders, so the first passing counts, not the last absence.
    """
    rows = []
    joined = values.join(half.select("run", "ability", "level", "rising", "whole"), on=["run", "ability"])
    for of in joined.partition_by("ability", "run", maintain_order=True):
        of = of.sort("step")
        step, first = of["step"].to_list(), of.row(0, named=True)
        row: dict[str, Any] = {name: first[name] for name in RUN}
        row |= {"role": first["ability"], "last": step[-1], "complete": first["whole"]}
        passed = of["value"] >= of["level"] if first["rising"] else of["value"] <= of["level"]
        places = np.flatnonzero(passed.fill_null(False).to_numpy())
        if len(places):
            place = int(places[0])
            row |= {"seen": step[place], "upper": step[place], "lower": step[place - 1] if place else None}
            row["censoring"] = "interval" if place else "left"
        else:
            row |= {"lower": step[-1], "censoring": "right"}
        rows.append(row)
    return pl.DataFrame(rows, schema=FIRSTS_SCHEMA)


def timeline(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Means over the runs of a size of abilities and, if they are there, of the largest head of roles: what, name, size, step, value, scaled.

    `scaled` goes from 0 at the least to 1 at the most mean of a name in any size, turned over for abilities that fall as they
    get better. Abilities of runs with roles come first.
    """
    beside_roles = tables["order"]["ability"].unique(maintain_order=True).to_list() if "order" in tables else []
    abilities = tables["curves"].select("size", "step", "value", name="ability", what=pl.lit("ability"))
    parts = [
        abilities.filter(pl.col("name").is_in(beside_roles)),
        abilities.filter(~pl.col("name").is_in(beside_roles)),
    ]
    if "role_curves" in tables:
        roles = tables["role_curves"].select(
            "size", "step", "value", name=pl.col("role") + " heads", what=pl.lit("role")
        )
        parts.append(roles)
    means = pl.concat(parts).group_by("what", "name", "size", "step", maintain_order=True).agg(pl.col("value").mean())
    falling = tables["ability_levels"].filter(~pl.col("rising"))["ability"].unique().to_list()
    low, high = pl.col("value").min().over("name"), pl.col("value").max().over("name")
    scaled = pl.when(high > low).then((pl.col("value") - low) / (high - low))
    return means.with_columns(scaled=pl.when(pl.col("name").is_in(falling)).then(1 - scaled).otherwise(scaled))

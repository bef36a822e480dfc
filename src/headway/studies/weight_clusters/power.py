"""How far apart two groups of heads must lie to be found, by simulation: what a null result could have missed."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headway.clusters.groups import FEWEST_HEADS, find_groups
from headway.clusters.spaces import raw_space
from headway.stats.corrections import LEVEL
from headway.studies.result import Result
from headway.text import count

DISTANCES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
LAYERS = 20  # simulated for each distance
_COLUMNS = (4, 64)  # 256 weights a head: with more, chance separates heads less, and the power is larger
_DRAWS = 99
_POWER = 0.8
_MOST_HEADS = 64  # more take long, and are easier to part
_SCHEMA = {
    "size": pl.String(),
    "n_heads": pl.Int64(),
    "norm_spread": pl.Float64(),
    "distance": pl.Float64(),
    "share": pl.Float64(),
    "std_error": pl.Float64(),
    "n_layers": pl.Int64(),
}


def power(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    """One row per size and distance: the share of simulated layers whose two equal groups have p <= 0.05, before correction.

    The layers have the size's number of heads and the median spread (standard deviation) of its heads' log norms at the last
    step. Groups lie `distance` apart in units of a head's own variation: at 1, the difference of their means is as long as
    what is a head's own. Sizes whose heads are too few for groups have no rows.
    """
    raw = table.filter(pl.col("k") == 1, pl.col("feature") == "raw", pl.col("group_p").is_not_null())
    last = raw.filter(pl.col("step") == pl.col("step").max().over("run"))
    rows = []
    for (size,), of in last.group_by("size", maintain_order=True):
        norms = [np.array(one) for one in of["norms"]]
        n_heads = min(_MOST_HEADS, int(np.median([len(one) for one in norms])))
        spread = float(np.median([np.log(one[one > 0]).std(ddof=1) for one in norms if (one > 0).sum() > 1] or [0.0]))
        if n_heads < FEWEST_HEADS:
            continue
        for place, distance in enumerate(DISTANCES):
            random = np.random.default_rng([seed, n_heads, place])
            found = np.mean([_p_of_two_groups(n_heads, spread, distance, random) <= LEVEL for _ in range(LAYERS)])
            row = {"size": size, "n_heads": n_heads, "norm_spread": spread, "distance": distance, "share": float(found)}
            rows.append(row | {"std_error": float(np.sqrt(found * (1 - found) / LAYERS)), "n_layers": LAYERS})
            if found == 1:
                break  # groups further apart are found, too
    return pl.DataFrame(rows, schema=_SCHEMA)


def _p_of_two_groups(n_heads: int, spread: float, distance: float, random: np.random.Generator) -> float:
    sign = np.where(np.arange(n_heads) % 2, -0.5, 0.5)[:, None, None]
    weights = random.normal(size=(n_heads, *_COLUMNS)) + distance * sign * random.normal(size=(1, *_COLUMNS))
    weights *= np.exp(random.normal(0, spread, (n_heads, 1, 1)))
    (found,) = find_groups([raw_space(weights)], 2, _DRAWS, _DRAWS, [random])
    return max(found.p.values()) if found else 1.0


def say(result: Result) -> None:
    """Add the finding: the smallest distance that is found in most layers, by size."""
    table = result.tables["power"]
    said: list[str] = []
    least: dict[str, Any] = {}
    for of in table.partition_by("size", maintain_order=True):
        size = of["size"][0]
        n_heads, spread = of.row(0, named=True)["n_heads"], of.row(0, named=True)["norm_spread"]
        able = of.filter(pl.col("share") >= _POWER)
        least[size] = able["distance"].min()
        layers = f"{size} ({count(n_heads, 'head')} a layer, log norms with an SD of {spread:.2g})"
        if len(able):
            said.append(f"{least[size]:g} of a head's own variation in {layers}")
        else:
            said.append(f"more than {DISTANCES[-1]:g} in {layers}")
    result.find(
        "groups",
        "power",
        f"Two groups of heads are found in {_POWER:.0%} of layers or more if they lie far enough apart.",
        *(f"The distance needed is {one}." for one in said),
        f"This is a simulation of {LAYERS} layers a distance, at p of at most {LEVEL:g} before correction.",
        "Corrected for many layers and kinds, groups must lie further apart.",
        key=False,
        least=least,
    )

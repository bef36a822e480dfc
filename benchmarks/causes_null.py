"""How often the comparison of two levels' onsets finds an effect that is not there, and one that is: `python benchmarks/causes_null.py`.

Six runs of each level, log-normal onsets, the steps of nano's preset `quick`.
"""

import sys

import numpy as np
import polars as pl

from headway.nano import PRESETS
from headway.studies.causes.shifts import shift

GRID = np.array(PRESETS["quick"].steps) + 1.0


def intervals(rng: np.random.Generator, sd: float, mean: float, effect: float, n: int = 6) -> pl.DataFrame:
    times = np.exp(rng.normal(mean, sd, 2 * n) + effect * np.repeat([0, 1], n))
    place = np.searchsorted(GRID, times)
    by = np.where(place < len(GRID), GRID[np.minimum(place, len(GRID) - 1)], np.nan)
    after = np.where(place > 0, GRID[place - 1], 0.0)
    return pl.DataFrame({"f": ["a"] * n + ["b"] * n, "after": after, "by": by}).with_columns(
        pl.col("by").fill_nan(None)
    )


def main(draws: int) -> None:
    rng = np.random.default_rng(0)
    for mean, sd in ((5.2, 0.05), (5.2, 0.15), (5.2, 0.3), (6.0, 0.2)):
        for effect in (0.0, 0.2, 0.4):
            p = np.array([shift(intervals(rng, sd, mean, effect), "f", "b", "a").p for _ in range(draws)])
            found = (p < 0.05).mean()
            print(
                f"median {np.exp(mean):5.0f}, sd of log {sd:4}, factor {np.exp(effect):.2f}: p < 0.05 in {found:.1%} of {draws}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)

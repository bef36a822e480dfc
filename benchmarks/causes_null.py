"""How often the comparison of two levels' onsets finds an effect that is not there, and one that is: `python benchmarks/causes_null.py`.

Six runs of each level, log-normal onsets, 16 steps, 32 apart where most onsets lie.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from headway.studies.causes.shifts import shift
from table import Row, main

GRID = np.array([0, 1, 8, *range(32, 385, 32), 448]) + 1.0


def intervals(rng: np.random.Generator, sd: float, mean: float, effect: float, n: int = 6) -> pl.DataFrame:
    times = np.exp(rng.normal(mean, sd, 2 * n) + effect * np.repeat([0, 1], n))
    place = np.searchsorted(GRID, times)
    by = np.where(place < len(GRID), GRID[np.minimum(place, len(GRID) - 1)], np.nan)
    after = np.where(place > 0, GRID[place - 1], 0.0)
    return pl.DataFrame({"f": ["a"] * n + ["b"] * n, "after": after, "by": by}).with_columns(
        pl.col("by").fill_nan(None)
    )


def rows(quick: bool = False) -> Iterator[Row]:
    rng, draws = np.random.default_rng(0), 5 if quick else 2000
    for mean, sd in ((5.2, 0.05), (5.2, 0.15), (5.2, 0.3), (6.0, 0.2)):
        for effect in (0.0, 0.2, 0.4):
            p = np.array([shift(intervals(rng, sd, mean, effect), "f", "b", "a").p for _ in range(draws)])
            work = f"onsets about step {np.exp(mean):.0f}, sd of log {sd}, factor {np.exp(effect):.2f}: p < 0.05"
            yield Row(work, f"{(p < 0.05).mean():.1%}", f"{draws} draws", "" if effect else "at most 5%")


if __name__ == "__main__":
    main(rows, __doc__)

"""How often prediction intervals of a mixed model hold a new response: `python benchmarks/prediction.py`.

Rows come from groups of six with random intercepts. New responses are those of the same groups, or of new ones.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from headway import stats
from table import Row, main

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "stats"))


def rows(quick: bool = False) -> Iterator[Row]:
    from test_prediction import groups

    n_sets = 3 if quick else 300
    for n_groups in (6, 12, 30):
        rng, held = np.random.default_rng(3), []
        for _ in range(n_sets):
            data, effects, _ = groups(rng, n_groups=n_groups)
            fit = stats.lmm("y ~ x + (1 | g)", data)
            x = rng.normal(size=n_groups)
            new = pl.DataFrame({"x": x, "g": [f"g{i:02}" for i in range(n_groups)]})
            shares = []
            for random, level in ((True, effects), (False, rng.normal(0, 0.8, n_groups))):
                y = 1 + x + level + rng.normal(size=n_groups)
                band = fit.predict(new, random=random, interval="prediction")
                shares.append(np.mean((band["lower"].to_numpy() <= y) & (y <= band["upper"].to_numpy())))
            held.append(shares)
        mean, error = np.mean(held, axis=0), np.std(held, axis=0) / np.sqrt(n_sets)
        for place, which in enumerate(("known", "new")):
            work = f"95% prediction interval of a mixed model, {n_groups} groups: responses of {which} ones"
            yield Row(work, f"{mean[place]:.1%} ± {error[place]:.1%} held", f"{n_sets} sets", "95%")


if __name__ == "__main__":
    main(rows, __doc__)

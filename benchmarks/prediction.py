"""How often prediction intervals of a mixed model hold a new response: `python benchmarks/prediction.py [SETS]`.

Rows come from groups of six with random intercepts. New responses are those of the same groups, or of new ones.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from headway import stats

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "stats"))


def main(n_sets: int) -> None:
    from test_prediction import groups

    print("groups  known groups  new groups")
    for n_groups in (6, 12, 30):
        rng, held = np.random.default_rng(3), []
        for _ in range(n_sets):
            data, effects, _ = groups(rng, n_groups=n_groups)
            fit = stats.lmm("y ~ x + (1 | g)", data)
            x = rng.normal(size=n_groups)
            rows = pl.DataFrame({"x": x, "g": [f"g{i:02}" for i in range(n_groups)]})
            shares = []
            for random, level in ((True, effects), (False, rng.normal(0, 0.8, n_groups))):
                y = 1 + x + level + rng.normal(size=n_groups)
                band = fit.predict(rows, random=random, interval="prediction")
                shares.append(np.mean((band["lower"].to_numpy() <= y) & (y <= band["upper"].to_numpy())))
            held.append(shares)
        mean, error = np.mean(held, axis=0), np.std(held, axis=0) / np.sqrt(n_sets)
        print(f"{n_groups:6}  {mean[0]:6.1%} ± {error[0]:.1%}  {mean[1]:6.1%} ± {error[1]:.1%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)

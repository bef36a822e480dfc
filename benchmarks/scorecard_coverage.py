"""How often the intervals of scorecards cover the truth, in simulated suites: `python benchmarks/scorecard_coverage.py`.

In a suite each run is regular with probability p: its head lies in the common layer, or its onset in the common gap. The
others have theirs anywhere. Two runs then agree beyond chance with probability p², which is the value that is true. A share of runs, or a
mean over runs, has the true value p. Chance is drawn as the study draws it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headway.studies.scorecard import agreements, scale
from table import Row, main

LAYERS, GAPS, DRAWS = 6, 8, 199
SHAPES = ((1, 3), (1, 5), (1, 9), (1, 20), (3, 3))  # sizes, and runs of each
REGULAR = (0.0, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0)


def layers(p: float, groups: np.ndarray, random: np.random.Generator) -> scale.Scaled | None:
    regular = random.random(len(groups)) < p
    at = np.where(regular, groups % LAYERS, random.integers(LAYERS, size=len(groups)))
    every = np.full(LAYERS, 4)
    shares = [agreements.dealt(np.bincount([layer], minlength=LAYERS), every, DRAWS, random) for layer in at]
    return scale.within(agreements.places(shares, groups))


def onsets(p: float, groups: np.ndarray, random: np.random.Generator) -> scale.Scaled | None:
    ends = np.stack([np.arange(GAPS), np.arange(GAPS) + 1], axis=1).astype(float)
    at = np.where(random.random(len(groups)) < p, 3, random.integers(GAPS, size=len(groups)))
    return scale.within(agreements.onsets([ends] * len(groups), ends[at], groups, DRAWS, random))


def trajectories(p: float, groups: np.ndarray, random: np.random.Generator) -> scale.Scaled | None:
    """Changes that share a part p of their standard deviation, over the same gaps in all suites."""
    return scale.within(agreements.trajectories(changes(p, len(groups), random), groups, DRAWS, random))


def changes(p: float, runs: int, random: np.random.Generator) -> np.ndarray:
    common = np.sin(np.arange(3.0 * GAPS)) * np.sqrt(2)
    return p * common + np.sqrt(1 - p**2) * random.normal(size=(runs, 3 * GAPS))


def correlation(p: float) -> float:
    """The mean correlation of two runs of `trajectories`, from 20,000 pairs: over few gaps it is not quite p²."""
    pairs = changes(p, 40_000, np.random.default_rng(0)).reshape(2, 20_000, -1)
    x, y = (rows - rows.mean(1, keepdims=True) for rows in pairs)
    return float(((x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1))).mean())


def shares(p: float, groups: np.ndarray, random: np.random.Generator) -> scale.Scaled | None:
    """Runs that pass though untrained: one in ten."""
    passed = (random.random(len(groups)) < p) | (random.random(len(groups)) < 0.1)
    return scale.of_shares(int(passed.sum()), len(groups), 0.1)


def ranks(p: float, groups: np.ndarray, random: np.random.Generator) -> scale.Scaled | None:
    """Percentiles among 20 controls: 1 in regular runs, uniform in others."""
    n = len(groups)
    share = np.where(random.random(n) < p, 1.0, random.integers(21, size=n) / 20)
    return scale.of_runs(share, np.full(n, 0.5), float(np.sqrt(22 / 60 / n)))


LINES = {
    "layers": (layers, np.square),
    "onsets": (onsets, np.square),
    "trajectories": (trajectories, correlation),
    "criterion": (shares, float),
    "ablation": (ranks, float),
}


def coverage(name: str, p: float, sizes: int, runs: int, suites: int, seed: int = 0) -> tuple[float, float, float]:
    """The share of suites whose interval covers the truth, that whose p is at most 0.05, and the mean width."""
    make, true = LINES[name]
    random = np.random.default_rng([seed, int(1000 * p), sizes, runs])
    groups = np.repeat(np.arange(sizes), runs)
    found = [one for _ in range(suites) if (one := make(p, groups, random)) is not None]
    ends = np.array([(one.lower, one.upper) for one in found], float)
    truth = true(p)
    covered = (ends[:, 0] - 1e-9 <= truth) & (truth <= ends[:, 1] + 1e-9)
    small = [one.p is not None and one.p <= 0.05 for one in found]
    return float(covered.mean()), float(np.mean(small)), float((ends[:, 1] - ends[:, 0]).mean())


def rows(quick: bool = False) -> Iterator[Row]:
    suites = 4 if quick else 400
    for name in LINES:
        for sizes, runs in [(3, 3)] if quick else SHAPES:
            for p in REGULAR[:2] if quick else REGULAR:
                covered, small, width = coverage(name, p, sizes, runs, suites)
                yield Row(
                    f"scorecard, {name}: {sizes} x {runs} runs, regular with probability {p:g}",
                    f"{covered:.1%} covered",
                    f"{suites} suites",
                    "at least 90%",
                    f"p at most 0.05 in {small:.1%}, mean width {width:.2f}",
                )


if __name__ == "__main__":
    main(rows, __doc__)

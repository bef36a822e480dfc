"""Losses of an audit, false alarms and wrong steps that are found: `python benchmarks/loss_alarms.py`.

Thresholds: the 99 % quantile, over simulated runs with Gaussian noise about a constant loss, of the largest excess in
units of the estimated noise. Steps are those of Pythia, or every n-th of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headway.integrity.losses import excess, loss_findings, noise, threshold
from table import Row, main

PYTHIA = np.array([0, *(2**i for i in range(10)), *range(1000, 144_000, 1000)])
COUNTS = (10, 12, 16, 24, 40, 80, 154, 300)


def grid(n: int) -> np.ndarray:
    """`n` steps that are spread like Pythia's."""
    if n > len(PYTHIA):
        return np.unique(np.round(np.geomspace(1, 143_000, 4 * n)).astype(int))[:n]
    return PYTHIA[np.linspace(0, len(PYTHIA) - 1, n).round().astype(int)]


def largest(n: int, runs: int, rng: np.random.Generator, df: float = np.inf) -> np.ndarray:
    """The largest excess of sound runs, in units of their estimated noise."""
    steps = grid(n)
    draws = rng.standard_normal((runs, n)) if np.isinf(df) else rng.standard_t(df, (runs, n))
    return excess(draws).max(axis=-1) / noise(steps, draws)


def curve(steps: np.ndarray) -> np.ndarray:
    """A loss that stays, falls steeply after some hundred steps, and then slowly."""
    return 2.5 + 8.3 / (1 + (steps / 150) ** 0.7)


def found(n: int, runs: int, rng: np.random.Generator, sd: float, late: bool) -> float:
    """Share of runs in which a step with the last (or first) step's loss is found, and no other step is suspected."""
    steps, hits = grid(n), 0
    for _ in range(runs):
        losses = curve(steps) + sd * rng.standard_normal(n)
        wrong = int(rng.integers(0, n // 4) if late else rng.integers(n // 2, n))
        losses[wrong] = losses[-1] if late else losses[0]
        findings = list(loss_findings("run", zip(steps.tolist(), losses.tolist(), strict=True)))
        hits += [finding.steps for finding in findings] == [(int(steps[wrong]),)]
    return hits / runs


def rows(quick: bool = False) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    for n in (24,) if quick else COUNTS:
        drawn = largest(n, 500 if quick else 4_000_000 // n, rng)
        heavy = largest(n, 500 if quick else 1_000_000 // n, rng, df=5)
        yield Row(
            f"sound runs of {n} steps in which a loss is suspected",
            f"{100 * np.mean(drawn > threshold(n)):.2g}%",
            aim="≤ 1%",
            note=f"99% quantile {np.quantile(drawn, 0.99):.2f}; with t noise of 5 degrees of freedom "
            f"{100 * np.mean(heavy > threshold(n)):.2g}%",
        )
    for n in (24,) if quick else (12, 24, 154):
        for sd in (0.01, 0.05):
            early, late = (found(n, 20 if quick else 1000, rng, sd, late=late) for late in (True, False))
            yield Row(
                f"a wrong step among {n} found by its loss, and no other, noise {sd} nats",
                f"{100 * early:.0f}%",
                note=f"the last weights under an early name; the first under a late name: {100 * late:.0f}%",
            )


if __name__ == "__main__":
    main(rows, __doc__)

"""Heads whose clusters are known, for the tests of clusters and of their study."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

HIDDEN, HEAD_DIM = 48, 6


def noise(random: np.random.Generator, n_heads: int = 12, shape: tuple[int, int] = (HEAD_DIM, HIDDEN)) -> np.ndarray:
    """Heads of independent normal weights, as a fresh model has them."""
    return random.normal(0, 0.02, (n_heads, *shape)).astype(np.float32)


def two_groups(random: np.random.Generator, strength: float, n_heads: int = 12) -> np.ndarray:
    """Even and odd heads pulled apart; at strength 1 as much as one head's weights vary."""
    away = noise(random, 1)
    sign = np.where(np.arange(n_heads) % 2, -1, 1)[:, None, None]
    return (noise(random, n_heads) + strength * sign * away).astype(np.float32)


def one_outlier(random: np.random.Generator, times: float = 4, head: int = 6) -> np.ndarray:
    weights = noise(random)
    weights[head] *= times
    return weights


def shared_directions(random: np.random.Generator, rank: int = 5, n_heads: int = 12) -> np.ndarray:
    """Heads without clusters from one Gaussian: half their variance lies in `rank` directions that all share."""
    shared = random.normal(0, 0.02, (rank, HEAD_DIM * HIDDEN))
    weights = random.normal(size=(n_heads, rank)) @ shared / np.sqrt(rank)
    return (weights.reshape(n_heads, HEAD_DIM, HIDDEN) + noise(random, n_heads)).astype(np.float32)


def column_scales(random: np.random.Generator) -> np.ndarray:
    """Heads without clusters whose weights are larger in some columns, the same for all: the j-th by 1/j."""
    return (noise(random) / np.arange(1, HIDDEN + 1)).astype(np.float32)


@dataclass
class PlantedWeights:
    """Weights of one layer under the face of `HeadWeights`; what is not planted is noise from `seed`."""

    planted: dict[str, np.ndarray] = field(default_factory=dict)
    seed: int = 0
    n_heads: int = 12
    n_kv_heads: int | None = None

    @property
    def geometry(self) -> SimpleNamespace:
        return SimpleNamespace(n_layers=1, n_heads=self.n_heads, n_params=1000)

    def get(self, kind: str, layer: int) -> np.ndarray:
        if kind in self.planted:
            return self.planted[kind]
        heads = self.n_kv_heads or self.n_heads if kind in "kv" else self.n_heads
        return noise(np.random.default_rng([self.seed, "qkvo".index(kind), layer]), heads)


def planted_checkpoint(run: str, step: int) -> SimpleNamespace:
    return SimpleNamespace(
        suite="planted", run=run, model="toy", size="1k", seed=run[-1], step=step, key=f"{run}@{step}"
    )


def planted_sweep(rundir, plant, *, runs=("toy-seed1",), steps, nulls, **options):
    """The clusters table of runs whose weights at a step are `plant(random, step)`, by kind."""
    from headway.clusters import GivenLabels, WeightClusters
    from headway.clusters.job import ClusterInput

    job = WeightClusters(features=("raw",), nulls=nulls, ks=(2, 3), labels=(GivenLabels("even_odd"),), **options)
    for run in runs:
        before = None
        for at, step in enumerate(steps):
            planted = plant(np.random.default_rng([at, int(run[-1])]), step)
            weights = PlantedWeights(planted, seed=int(run[-1]) * 100 + at)
            previous_step = steps[at - 1] if at else None
            frame = job.compute(planted_checkpoint(run, step), ClusterInput(weights, {}, before, previous_step))
            rundir.write_part(job.table, run, step, frame, {})
            before = weights
    return rundir

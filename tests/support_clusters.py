"""Heads whose clusters are known, for the tests of clusters and of their study."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from headway.models import Geometry
from headway.suites import Checkpoint, FolderSource

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
    def geometry(self) -> Geometry:
        return Geometry(
            architecture="planted",
            n_layers=1,
            n_heads=self.n_heads,
            n_kv_heads=self.n_kv_heads or self.n_heads,
            head_dim=HEAD_DIM,
            hidden_size=HIDDEN,
            rotary_dim=0,
            n_params=1000,
            context_length=8,
            vocab_size=8,
        )

    @property
    def stacks(self) -> list[PlantedWeights]:
        return [self]

    def get(self, kind: str, layer: int) -> np.ndarray:
        if kind in self.planted:
            return self.planted[kind]
        heads = self.n_kv_heads or self.n_heads if kind in "kv" else self.n_heads
        return noise(np.random.default_rng([self.seed, "qkvo".index(kind), layer]), heads)


def planted_checkpoint(run: str, step: int) -> Checkpoint:
    return Checkpoint("planted", run, "toy", "1k", run[-1], step, f"step{step}", FolderSource(Path(run)))


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
            rundir.write_partition(job.table, run, step, frame, {})
            before = weights
    return rundir


# Suites whose truth is known ------------------------------------------------------------------------------

TRUTH_STEPS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TRUTH_AT = 32  # the step at which what is abrupt happens
SPREADS = (0.0, 0.15, 0.3)


def _abrupt(random: np.random.Generator, step: int) -> dict[str, np.ndarray]:
    return {"q": two_groups(random, 0.8 if step >= TRUTH_AT else 0.0)}


def _gradual(random: np.random.Generator, step: int) -> dict[str, np.ndarray]:
    return {"q": two_groups(random, 0.1 * np.log2(step + 1))}


def _three(random: np.random.Generator, step: int) -> dict[str, np.ndarray]:
    centres = noise(random, 3)[np.arange(12) % 3]
    return {"q": noise(random) + (centres if step >= TRUTH_AT else 0)}


def _outlier(random: np.random.Generator, step: int) -> dict[str, np.ndarray]:
    return {"v": one_outlier(random, 4 if step >= TRUTH_AT else 1)}


def _circuit(random: np.random.Generator, step: int) -> dict[str, np.ndarray]:
    """Even and odd heads share circuits, each head in a basis of its own: nothing that raw weights show."""
    sides = {}
    bases = np.linalg.qr(random.normal(size=(12, HEAD_DIM, HEAD_DIM)))[0]
    for kind in "qk":
        own = noise(random, 2)[np.arange(12) % 2] if step >= TRUTH_AT else 0
        sides[kind] = (bases @ (noise(random) + own)).astype(np.float32)
    return sides


def _norms(random: np.random.Generator, step: int) -> dict[str, np.ndarray]:
    """Even heads grow: no groups but of norm."""
    return {"q": noise(random) * np.where((np.arange(12) % 2 == 0) & (step >= TRUTH_AT), 2, 1)[:, None, None]}


TRUTHS = {
    "abrupt": (_abrupt, ("Q in layer 0: 2 groups of 6 and 6 heads since step 32. They arose abruptly between steps 16 and 32",)),
    "gradual": (_gradual, ("Q in layer 0: 2 groups of 6 and 6 heads", "They grew gradually")),
    "three groups": (_three, ("Q in layer 0: 3 groups of 4, 4 and 4 heads since step 32",)),
    "outlier": (_outlier, ("Heads form no groups", "Head 6 of V in layer 0 departed from the others at step 32. Its norm is now ")),
    "circuit only": (_circuit, ("QK circuit's subspaces in layer 0: 2 groups of 6 and 6 heads since step 32",)),
    "norms only": (_norms, ("Heads form no groups", "differ in norm. They differ most in Q in layer 0, by a factor of ")),
    "nothing": (lambda random, step: {}, ("Heads form no groups",)),
}  # fmt: skip


def truth_suite(rundir, name: str, spread: float, seed: int, steps=TRUTH_STEPS, **options):
    """The clusters table of a suite of one run of which `TRUTHS` says what its headline must say.

    Heads' log norms differ by `spread` throughout training, as they do in trained models.
    """
    from headway.clusters import WeightClusters
    from headway.clusters.job import ClusterInput

    plant, _ = TRUTHS[name]
    job = WeightClusters(**options)
    of_run = np.random.default_rng([seed, list(TRUTHS).index(name)])
    norms = {kind: np.exp(of_run.normal(0, spread, (12, 1, 1))) for kind in "qkvo"}
    for at, step in enumerate(steps):
        random = np.random.default_rng([seed, at, list(TRUTHS).index(name)])
        heads = {kind: noise(random) for kind in "qkvo"} | plant(random, step)
        weights = PlantedWeights({kind: (heads[kind] * norms[kind]).astype(np.float32) for kind in "qkvo"})
        rundir.write_partition("clusters", "toy-seed1", step, job.compute(planted_checkpoint("toy-seed1", step),
                                                                     ClusterInput(weights, {})), {})  # fmt: skip
    return rundir


def untold(name: str, headline: list[str]) -> list[str]:
    """What of a suite's truth its headline does not say."""
    said = " ".join(headline)
    return [words for words in TRUTHS[name][1] if words not in said]

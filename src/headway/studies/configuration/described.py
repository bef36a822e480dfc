"""The described heads of one checkpoint as arrays, and which of them hold a role.

Shapes: h heads of a run in the order of layers, p weight features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headway.tables import HEAD_FEATURES

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
FEATURES = tuple(column.name for column in HEAD_FEATURES)
BY = ("attention", "outputs")


@dataclass(frozen=True, eq=False)
class Described:
    """The heads of a run at a step.

    Attributes:
        layers, heads: (h,) where they are.
        features: (h, p) weight features less the mean of their layer, over the run's standard deviation of what remains.
        vectors: for each of `BY`, (h, entries) of norm 1.
        holds: for each role, (h,) whether the head holds it at the run's last step.
    """

    run: str
    size: str
    seed: str
    step: int
    layers: Ints
    heads: Ints
    features: Floats
    vectors: dict[str, NDArray[np.float32]]
    holds: dict[str, Bools]

    @cached_property
    def order(self) -> Ints:
        """The place of the first head of each head's layer: (h,)."""
        found: Ints = np.searchsorted(self.layers, self.layers)
        return found

    def mixed(self, role: str) -> Bools:
        """(h,) heads of layers in which some hold the role and others do not."""
        held = self.holds[role]
        n_held, n = (np.bincount(self.layers, weights)[self.layers] for weights in (held.astype(float), None))
        found: Bools = (n_held > 0) & (n_held < n)
        return found

    def exchanged(self, role: str, draws: int, seed: int) -> Bools:
        """(1 + draws, h) the holders, then holders that are exchanged within their layers at random.

        The draws of a run and role are the same at every step and in every test.
        """
        random = np.random.default_rng([seed, *f"{self.run} {role}".encode()])
        held = self.holds[role]
        found = np.tile(held, (1 + draws, 1))
        for layer in np.unique(self.layers):
            of = np.flatnonzero(self.layers == layer)
            if 0 < held[of].sum() < len(of):
                found[1:, of] = held[of][random.random((draws, len(of))).argsort(1)]
        return found


def described(table: pl.DataFrame, final: pl.DataFrame, roles: Sequence[str]) -> list[Described]:
    """The checkpoints of the table `descriptions`, in its order.

    Args:
        table: the rows of the result's runs.
        final: the heads that hold each role at the last step: run, role, layer, head.
    """
    holders = {
        (str(run), str(role)): set(own.select("layer", "head").rows())
        for (run, role), own in final.group_by("run", "role")
    }
    found = []
    for (run, size, seed, step), own in table.group_by("run", "size", "seed", "step", maintain_order=True):
        rows = own.sort("layer", "head")
        places = rows.select("layer", "head").rows()
        layers = rows["layer"].to_numpy().astype(np.int64)
        found.append(
            Described(
                str(run),
                str(size),
                str(seed),
                int(step),
                layers,
                rows["head"].to_numpy().astype(np.int64),
                standardised(rows.select(FEATURES).to_numpy(), layers),
                {name: np.stack(rows[name].to_list()).astype(np.float32) for name in BY},
                {
                    role: np.array([place in holders.get((str(run), role), ()) for place in places], dtype=bool)
                    for role in roles
                },
            )
        )
    return found


def standardised(features: Floats, layers: Ints) -> Floats:
    """(h, p) less the mean of the heads' layer, over the standard deviation of what remains. Missing numbers are their layer's mean."""
    left = np.array(features, dtype=np.float64)
    for layer in np.unique(layers):
        of = layers == layer
        known = np.isfinite(left[of])
        n = np.maximum(known.sum(0), 1)
        mean = np.where(known, left[of], 0).sum(0) / n
        left[of] = np.where(known, left[of] - mean, 0)
    spread = left.std(0)
    return np.divide(left, spread, out=np.zeros_like(left), where=spread > 1e-12)


def by_size(checkpoints: Sequence[Described], step: int | None = None) -> dict[str, list[Described]]:
    """The checkpoints of each size at `step`, or at the last described step of each run."""
    last: dict[str, int] = {}
    for one in checkpoints:
        last[one.run] = max(one.step, last.get(one.run, 0))
    found: dict[str, list[Described]] = {}
    for one in checkpoints:
        if one.step == (last[one.run] if step is None else step):
            found.setdefault(one.size, []).append(one)
    return found

"""Describe a layer's heads by features of their weights: the kinds of weights, the features, and their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from headway import options
from headway.clusters.circuits import Side, shared, side_of, spectra, spectrum_space, subspace_space
from headway.clusters.kmeans import Floats
from headway.clusters.spaces import HeadSpace, raw_space

KINDS = ("q", "k", "v", "o")
CIRCUITS = {"qk": ("q", "k"), "ov": ("o", "v")}  # the side of the query heads comes first
FEATURES = options.FEATURES.choices


class Weights(Protocol):
    """Source of the weights of a kind in a layer: `models.HeadWeights`, or an object with the same method."""

    def get(self, kind: str, layer: int) -> NDArray[np.float32]: ...


class Change(NamedTuple):
    """Changes of heads since another checkpoint, in the columns of the feature.

    For subspaces, a head's change is the distance from its earlier subspaces, between 0 and 1.
    """

    head_changes: Floats
    relative_changes: Floats | None
    mean_change: float
    largest_change: float


class Described(NamedTuple):
    """A layer's heads under one kind and feature."""

    kind: str
    feature: str
    space: HeadSpace
    change: Change | None


def describe_layer(
    weights: Weights, layer: int, features: Sequence[str], before: Weights | None = None
) -> Iterator[Described]:
    """Yield the layer's heads under each kind and feature, with their changes since `before`, an earlier checkpoint."""
    if "raw" in features:
        for kind in KINDS:
            yield _raw(kind, layer, weights, before)
    if "circuit" in features:
        for kind, (own, common) in CIRCUITS.items():
            now = _sides(weights, layer, own, common)
            changes = (None, None) if before is None else _changes(now, before, layer, (own, common))
            yield Described(kind, "spectrum", spectrum_space(*now), changes[0])
            yield Described(kind, "subspace", subspace_space(*now), changes[1])


def _raw(kind: str, layer: int, weights: Weights, before: Weights | None) -> Described:
    now = weights.get(kind, layer)
    space = raw_space(now, f"layer {layer}, kind {kind}")
    change = None
    if before is not None:
        change = _change(now.reshape(len(now), -1), before.get(kind, layer).reshape(len(now), -1))
    return Described(kind, "raw", space, change)


def _change(now: NDArray[np.floating], before: NDArray[np.floating]) -> Change:
    difference = np.abs(now - before)
    norms = np.linalg.norm(before, axis=1)
    relative = np.full(len(now), np.nan)
    np.divide(np.linalg.norm(difference, axis=1), norms, out=relative, where=norms > 0)
    heads = difference.mean(axis=1, dtype=np.float64)
    return Change(heads, relative, float(heads.mean()), float(difference.max()))


class _Sides(NamedTuple):
    own: Side
    common: Side
    n_kv_heads: int


def _sides(weights: Weights, layer: int, own: str, common: str) -> _Sides:
    first, second = side_of(weights.get(own, layer)), side_of(weights.get(common, layer))
    return _Sides(first, shared(second, len(first.norms)), len(second.norms))


def _changes(now: _Sides, before: Weights, layer: int, kinds: tuple[str, str]) -> tuple[Change, Change]:
    """The changes of spectra and of subspaces. For subspaces: the root of the mean squared sine of a head's principal angles.

    The earlier weights are read and released one kind after the other: in a large model each takes a hundred megabytes.
    """
    roots, shares = [], []
    for side, kind in zip(now[:2], kinds, strict=True):
        old = shared(side_of(before.get(kind, layer)), len(side.norms))
        shares.append(_rotated(side, old))
        roots.append(old.without_weights())
        del old  # or it would stay while the next kind is read
    heads = np.sqrt(np.maximum((shares[0] + shares[1]) / 2, 0))
    rotations = Change(heads, None, float(heads.mean()), float(heads.max()))
    return _change(spectra(*now[:2]), spectra(*roots)), rotations


def _rotated(side: Side, old: Side) -> Floats:
    """(H,) mean squared sine of the principal angles between each head's subspace and its earlier one."""
    n_heads, d, _ = side.shape
    found = np.empty(n_heads)
    for head in range(n_heads):
        frame, before = side.frame(head), old.frame(head)
        shared_part = ((frame @ before.T) ** 2).sum()
        found[head] = ((frame**2).sum() + (before**2).sum() - 2 * shared_part) / (2 * d)
    return found

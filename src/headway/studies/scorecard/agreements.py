"""What pairs of runs have in common: changes of a trajectory, an onset, places, edges; and the same by chance.

Chance keeps what each run has (its changes, its number of heads, its edges) and deals out anew where it has it, in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headway.studies.scorecard.scale import Floats, Pairs

_FEWEST_STEPS = 3  # two points always correlate by 1 or -1
Ints = NDArray[np.int64]


class Edges(NamedTuple):
    """The strongest edges of one run.

    Attributes:
        kinds: (edges,); 0 to 2 for queries, keys and values.
        writes, reads: (edges,); the number of the head over all layers.
        labels: (heads,); the number of each head's main role, -1 for none.
        own: (heads,); whether it holds the role that is asked about.
        layers: (heads,); the layer of each head.
    """

    kinds: Ints
    writes: Ints
    reads: Ints
    labels: Ints
    own: NDArray[np.bool_]
    layers: Ints


def trajectories(changes: Floats, groups: Ints, draws: int, random: np.random.Generator) -> Pairs:
    """Pearson's correlation of the changes of two runs, over the gaps between steps that both have.

    By chance, each run has its changes in another order: the expected correlation is 0, exactly.

    Args:
        changes: (runs, gaps); NaN where a run was not measured.
    """
    shuffled = np.repeat(changes[None], draws, axis=0)
    for run, own in enumerate(np.isfinite(changes)):
        shuffled[:, run, own] = random.permuted(shuffled[:, run, own], axis=1)
    whole = np.concatenate([changes[None], shuffled])

    def agree(one: int, other: int) -> Floats:
        both = np.isfinite(changes[one]) & np.isfinite(changes[other])
        return _pearson(whole[:, one, both], whole[:, other, both])

    return _pairs(agree, groups, draws)._replace(least=-1.0)


def _pearson(x: Floats, y: Floats) -> Floats:
    """Correlations of rows (draws, gaps); NaN where a row does not change."""
    if x.shape[1] < _FEWEST_STEPS:
        return np.full(len(x), np.nan)
    x, y = (rows - rows.mean(axis=1, keepdims=True) for rows in (x, y))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = (x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return found


def onsets(gaps: Sequence[Floats], at: Floats, groups: Ints, draws: int, random: np.random.Generator) -> Pairs:
    """Whether the gaps between checkpoints in which two onsets lie have a step in common: 0 or 1.

    By chance, each onset lies in any gap of its own run.

    Args:
        gaps: of each run, (gaps, 2): after which step, and by which step.
        at: (runs, 2); the gap of the onset.
    """
    if len(groups) < 2:
        return _pairs(_alone, groups, draws)
    dealt = np.stack([own[random.integers(len(own), size=draws)] for own in gaps], axis=1)  # (draws, runs, 2)
    whole = np.concatenate([at[None], dealt])

    def agree(one: int, other: int) -> Floats:
        ends = whole[:, [one, other]]
        return (ends[..., 0].max(1) < ends[..., 1].min(1)).astype(float)

    return _pairs(agree, groups, draws)


def places(shares: Sequence[Floats], groups: Ints) -> Pairs:
    """The overlap of where two runs have their heads of a role: the share of heads in the same layer, from 0 to 1.

    Args:
        shares: of each run, `dealt`. Runs of one size have the same layers.
    """

    def agree(one: int, other: int) -> Floats:
        if shares[one].shape != shares[other].shape:
            return np.full(len(shares[one]), np.nan)
        overlap: Floats = np.minimum(shares[one], shares[other]).sum(axis=1)
        return overlap

    return _pairs(agree, groups, len(shares[0]) - 1 if shares else 0)


def depths(shares: Sequence[Floats], groups: Ints) -> Pairs:
    """How near in depth two runs have their heads of a role: 1 less the distance (Wasserstein) of their heads' depths.

    The first layer lies at 0 and the last one at 1. Layers of runs with other numbers of layers rarely
    have exactly the same depth.

    Args:
        shares: of each run, `dealt`, with two layers at least.
    """

    summed = [np.cumsum(own, axis=1) for own in shares]

    def agree(one: int, other: int) -> Floats:
        ends = [np.arange(shares[run].shape[1]) / (shares[run].shape[1] - 1) for run in (one, other)]
        grid = np.unique(np.concatenate(ends))
        until = [
            summed[run][:, np.searchsorted(own, grid, side="right") - 1]
            for run, own in zip((one, other), ends, strict=True)
        ]
        near: Floats = 1 - np.abs(until[0] - until[1])[:, :-1] @ np.diff(grid)
        return near

    return _pairs(agree, groups, len(shares[0]) - 1 if shares else 0)


def dealt(holders: Ints, heads: Ints, draws: int, random: np.random.Generator) -> Floats:
    """The share of a run's heads of the role that lies in each layer, and the same with as many heads at random places.

    Args:
        holders: heads of the role in each layer: (layers,), one at least.
        heads: all heads in each layer: (layers,).

    Returns:
        (1 + draws, layers).
    """
    drawn = random.multivariate_hypergeometric(heads, holders.sum(), size=draws)
    shares: Floats = np.concatenate([holders[None], drawn]) / holders.sum()
    return shares


def edges(runs: Sequence[Edges], n_roles: int, groups: Ints, draws: int, random: np.random.Generator) -> Pairs:
    """The overlap of two runs' edges between heads of the role and heads of other roles, from 0 to 1.

    Edges are counted by what reads (queries, keys, values), by which end holds the role, and by the role at the other end.
    The overlap of two counts is the sum of the smaller ones over the sum of the larger ones. By chance, heads exchange their roles
    within their layers, in each run anew.
    """
    whole = [_counted(run, n_roles, draws, random) for run in runs]

    def agree(one: int, other: int) -> Floats:
        both = np.stack([whole[one], whole[other]])
        most = both.max(0).sum(1)
        return np.where(most > 0, both.min(0).sum(1) / np.maximum(most, 1), 0.0)

    return _pairs(agree, groups, draws)


def _counted(run: Edges, n_roles: int, draws: int, random: np.random.Generator) -> Ints:
    """Edges by kind, end and the other end's role, as the heads are and as they are exchanged: (1 + draws, features)."""
    order = np.repeat(np.arange(len(run.layers))[None], 1 + draws, axis=0)
    for layer in np.unique(run.layers):
        at = np.flatnonzero(run.layers == layer)
        order[1:, at] = random.permuted(order[1:, at], axis=1)
    labels, own = run.labels[order], run.own[order]  # (1 + draws, heads)
    counts = np.zeros((1 + draws, 3 * 2 * n_roles), dtype=np.int64)
    for end, (here, there) in enumerate(((run.reads, run.writes), (run.writes, run.reads))):
        named = own[:, here] & (labels[:, there] >= 0)
        feature = (run.kinds * 2 + end) * n_roles + labels[:, there]
        draw, edge = np.nonzero(named)
        np.add.at(counts, (draw, feature[draw, edge]), 1)
    return counts


def nothing(draws: int) -> Pairs:
    """No runs that could be compared."""
    return _pairs(_alone, np.zeros(0, dtype=np.int64), draws)


def n_with_edges(runs: Sequence[Edges]) -> int:
    """The number of runs in which an edge joins a head of the role and a head of some role."""
    return sum(
        bool(
            (
                (run.own[run.reads] & (run.labels[run.writes] >= 0))
                | (run.own[run.writes] & (run.labels[run.reads] >= 0))
            ).any()
        )
        for run in runs
    )


def _alone(one: int, other: int) -> Floats:
    raise AssertionError("one run is no pair")


def _pairs(agree: Callable[[int, int], Floats], groups: Ints, draws: int) -> Pairs:
    """Compare every pair of runs. `agree` gives the observed number and that of each draw: (1 + draws,)."""
    n = len(groups)
    whole = np.full((1 + draws, n, n), np.nan)
    for one, other in combinations(range(n), 2):
        whole[:, one, other] = whole[:, other, one] = agree(one, other)
    return Pairs(np.asarray(groups), whole[0], whole[1:])


def numbered(names: Sequence[str]) -> Mapping[str, int]:
    """Each name's place in the order of first appearance."""
    return {name: place for place, name in enumerate(dict.fromkeys(names))}

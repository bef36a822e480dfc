"""Do the heads of a layer fall into groups, norms aside, and how many?

Heads whose norms differ are never parted into groups by k-means: in thousands of dimensions they are nearly orthogonal, and
the head of the largest norm is the best cluster of its own. Groups are therefore sought among the heads' directions:

1. Heads without a norm, or with more than twice the median norm, are set aside. One such head would rule the covariance.
2. k-means parts the directions of the others in two. A head that is alone in its cluster is set aside as well, and the
   search is repeated until none is.
3. The silhouette, of two or of three groups, is compared with draws of heads without groups, which go through the same
   search, lone heads and all:

    directions   heads in random directions: is there anything that heads share?
    permutation  heads permuted within each block of columns: do heads differ in the same way all over their weights?
    covariance   heads mixed by a random rotation before their norms are set aside: is there more than directions in which
                 heads vary much, without a gap between them?

   All of them must be beaten: `p` is the largest of theirs. Draws are added as long as few of them reach the observed
   silhouette (Besag & Clifford 1991, Biometrika 78, 301-304), so that p is fine where it is small and cheap where not.
4. A further group must improve the parting by more than it does in 5 % of draws that have the groups found so far and
   nothing else, heads rotated about the means of their groups (after McLachlan 1987, Appl. Stat. 36, 318-324), and the
   silhouette must rise (Rousseeuw 1987), since residuals of subspaces are not as even as a rotation makes them.
5. A head that was set aside for its norm joins a group if it is no farther from it than its members are.

Legend: B problems, H heads, k clusters, n draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headway.clusters.kmeans import Floats, Ints, kmeans
from headway.clusters.quality import dispersion, silhouette
from headway.clusters.spaces import HeadSpace, Units, permuted, rotated, unit_distances

LEVEL = 0.05
_LEAST_SIZE = 2  # heads of a group
FEWEST_HEADS = 2 * _LEAST_SIZE
_TOO_LARGE = 2.0  # norm by the median one
_ASIDE = -1
_STARTS = 5  # of k-means with three clusters, half of the usual: a worse optimum is one in the draws as well
_ENOUGH = 20  # draws that reach the observed silhouette: with so many p is not small
_ROUNDING = 1e-12

Draw = Callable[[int], Mapping[str, Floats]]  # n -> squared distances (n, H, H) by null


class Parted(NamedTuple):
    """`labels` (B, H) of two clusters, -1 for heads that were alone, and the larger `silhouette` (B,) of two or three
    clusters of the others: 0 where too few are left."""

    labels: Ints
    silhouette: Floats


@dataclass(frozen=True)
class Groups:
    """The groups of the heads of one layer.

    Attributes:
        labels: (H,) each head's group, -1 where the head is set aside.
        k: how many groups there are; 1 if p > 0.05.
        silhouette: of the best two groups, by directions.
        p: by null; the claim rests on the largest.
        n_draws: of each null.
    """

    labels: Ints
    k: int
    silhouette: float
    p: Mapping[str, float]
    n_draws: int


def find_groups(
    space: HeadSpace, most_groups: int, fewest: int, most: int, random: np.random.Generator
) -> Groups | None:
    """The groups of a layer's heads, or None where there are fewer than four heads.

    Args:
        most_groups: the largest number of groups to look for.
        fewest, most: draws of each null.
    """
    if space.n_heads < FEWEST_HEADS:
        return None
    kept = usual_norms(space.gram)
    labels = np.full(space.n_heads, _ASIDE)
    names = ("directions", "covariance") if space.blocks is None else ("directions", "permutation", "covariance")
    nothing = Groups(labels, 1, 0.0, dict.fromkeys(names, 1.0), 0)
    if len(kept) < FEWEST_HEADS:
        return nothing
    d = unit_distances(_among(space.gram, kept))
    found = part(d[None])
    labels[kept] = found.labels[0]
    observed = float(found.silhouette[0])
    if observed <= 0:
        return nothing
    p, n_draws = sequential_p(observed, _draws(space, kept, most, random), fewest, most)
    k = 1
    if max(p.values()) <= LEVEL:
        of_usual_norm, kept = kept, np.flatnonzero(labels != _ASIDE)
        labels[kept] = _refined(_among(space.gram, kept), labels[kept], most_groups, fewest, random)
        k = int(labels.max()) + 1
        _join(space.gram, labels, np.setdiff1d(np.arange(space.n_heads), of_usual_norm))
    return Groups(labels, k, observed, p, n_draws)


def usual_norms(gram: Floats) -> Ints:
    """Heads that have a norm, and at most twice the median one."""
    norms = np.sqrt(np.diag(gram))
    return np.flatnonzero((norms > 0) & (norms <= _TOO_LARGE * np.median(norms)))


def _among(pairs: Floats, heads: Ints) -> Floats:
    return pairs[..., heads[:, None], heads]


def part(squared_distances: Floats) -> Parted:
    """Two clusters of (B, H, H) heads each, searched anew without the lone heads until no head is alone."""
    n_problems, n_heads, _ = squared_distances.shape
    labels = np.full((n_problems, n_heads), _ASIDE)
    values = np.zeros(n_problems)
    left = [(np.arange(n_problems), np.tile(np.arange(n_heads), (n_problems, 1)))]
    while left:  # problems with as many heads left are searched together
        at, heads = left.pop()
        if heads.shape[1] < FEWEST_HEADS:
            continue
        d = squared_distances[at[:, None, None], heads[:, :, None], heads[:, None, :]]
        found = kmeans(d, 2).labels
        second = found.sum(axis=1)
        alone = ((found == 1) & (second == 1)[:, None]) | ((found == 0) & (second == heads.shape[1] - 1)[:, None])
        alone |= (second == 0)[:, None]  # copies of one head, of which nothing can be told
        done = ~alone.any(axis=1)
        labels[at[done, None], heads[done]] = found[done]
        if done.any():
            values[at[done]] = _best_silhouette(d[done], found[done])
        n_alone = alone.sum(axis=1)
        for n in np.unique(n_alone[~done]):
            which = n_alone == n
            left.append((at[which], heads[which][~alone[which]].reshape(which.sum(), -1)))
    return Parted(labels, values)


def _best_silhouette(d: Floats, two: Ints) -> Floats:
    """(B,) of the two clusters, or of three where these are better and none of their heads is alone."""
    best = silhouette(d, two)
    if d.shape[-1] < 3 * _LEAST_SIZE:
        return best
    three = kmeans(d, 3, starts=_STARTS).labels
    least = (three[..., None] == np.arange(3)).sum(axis=1).min(axis=1)
    return np.where(least >= _LEAST_SIZE, np.maximum(best, silhouette(d, three)), best)


def _draws(space: HeadSpace, kept: Ints, most: int, random: np.random.Generator) -> Callable[[int], dict[str, Floats]]:
    """Gives the silhouettes of the next n draws of each null."""
    gram = _among(space.gram, kept)
    norms = np.sqrt(np.diag(gram))
    blocks = None
    if space.blocks is not None:  # joined two by two, which halves the time of the permutations
        joined = np.add.reduceat(space.blocks, np.arange(0, len(space.blocks), 2))
        blocks = _among(joined, kept) / np.outer(norms, norms)
    which = tuple(range(len(kept))) if space.units.exchangeable else tuple(kept.tolist())
    in_random_directions = _of_units(space.units, which, most)
    done = 0

    def draw(n: int) -> dict[str, Floats]:
        nonlocal done
        found = {"directions": in_random_directions[done : done + n]}
        done += n
        if blocks is not None:
            found["permutation"] = part(unit_distances(permuted(blocks, random, n))).silhouette
        found["covariance"] = part(unit_distances(rotated(gram, random, n))).silhouette
        return found

    return draw


@lru_cache(maxsize=64)
def _of_units(units: Units, heads: tuple[int, ...], n: int) -> Floats:
    """(n,) silhouettes of heads in random directions: the same draws for all spaces of one shape."""
    d = units.draw(np.random.default_rng(0), n)
    return part(_among(d, np.array(heads))).silhouette


class Sequential(NamedTuple):
    p: dict[str, float]
    n_draws: int


def sequential_p(observed: float, draw: Callable[[int], dict[str, Floats]], fewest: int, most: int) -> Sequential:
    """p of each null, from `fewest` to `most` draws: no more are made once 20 draws of any null reach `observed`.

    With the 20th at draw l, p = 20 / l; with e of N draws at the end, p = (e + 1) / (N + 1). Both are at most α with
    probability at most α where there is nothing to find.
    """
    reached: dict[str, NDArray[np.bool_]] = {}
    n, batch = 0, fewest
    while n < most:
        batch = min(batch, most - n)
        for null, values in draw(batch).items():
            hits = values >= observed - _ROUNDING
            reached[null] = np.concatenate([reached[null], hits]) if n else hits
        n += batch
        batch = n
        if any(hits.sum() >= _ENOUGH for hits in reached.values()):
            break
    return Sequential({null: _p(hits) for null, hits in reached.items()}, n)


def _p(hits: NDArray[np.bool_]) -> float:
    at = np.flatnonzero(hits)
    if len(at) >= _ENOUGH:
        return _ENOUGH / (int(at[_ENOUGH - 1]) + 1)
    return (len(at) + 1) / (len(hits) + 1)


def _refined(gram: Floats, labels: Ints, most: int, n: int, random: np.random.Generator) -> Ints:
    """More than two groups, while each further one parts the heads better than it does where there is none."""
    d = unit_distances(gram)[None]
    for k in range(2, most):
        finer = kmeans(d, k + 1).labels
        small = np.bincount(finer[0], minlength=k + 1).min() < _LEAST_SIZE
        if small or silhouette(d, finer)[0] <= silhouette(d, labels[None])[0]:
            break
        drawn = unit_distances(rotated(gram, random, n, labels))
        improved = _improvement(drawn, kmeans(drawn, k).labels, kmeans(drawn, k + 1).labels)
        reached = improved >= _improvement(d, labels[None], finer)[0] - _ROUNDING
        if (1 + reached.sum()) / (1 + n) > LEVEL:
            break
        labels = finer[0]
    return labels


def _join(gram: Floats, labels: Ints, aside: Ints) -> None:
    """Labels the heads of unusual norm that lie within a group."""
    members = labels[:, None] == np.arange(labels.max() + 1)
    for head in aside:
        if gram[head, head] > 0:
            of_norm = np.flatnonzero((labels != _ASIDE) | (np.arange(len(labels)) == head))
            d = np.sqrt(unit_distances(_among(gram, of_norm)))
            own = members[of_norm].astype(np.float64)
            sums = d @ own  # (heads, k) of distances to each group
            size = own.sum(axis=0)
            mine = int(np.flatnonzero(of_norm == head)[0])
            nearest = int((sums[mine] / size).argmin())
            farthest = (sums[own[:, nearest] > 0, nearest] / (size[nearest] - 1)).max()
            if sums[mine, nearest] / size[nearest] <= farthest:
                labels[head] = nearest


def _improvement(d: Floats, labels: Ints, finer: Ints) -> Floats:
    """(B,) share of the dispersion within clusters that the finer ones take away."""
    return 1 - dispersion(d, finer) / dispersion(d, labels)

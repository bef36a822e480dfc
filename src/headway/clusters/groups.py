"""Find groups among the heads of a layer by their directions, and the number of groups.

k-means hardly ever splits heads of different norms into groups. In thousands of dimensions heads are nearly orthogonal, and
the head of the largest norm alone is the best cluster. So groups are searched among the heads' directions:

1. Heads with norm 0, or more than twice the median norm, are set aside. One such head would dominate the covariance.
2. k-means splits the directions of the other heads in two. A head that is alone in its cluster is set aside too, and the
   search is repeated until no head is alone.
3. The silhouette, of two or three groups, is compared with draws of heads without groups. They go through the same search,
   including lone heads:

    directions   heads in random directions: do heads have anything in common?
    permutation  heads permuted within each block of columns: do heads differ in the same way across their weights?
    covariance   heads mixed by a random rotation before their norms are removed: are there gaps between heads, beyond
                 directions in which heads vary much?

   A claim needs all of them, so `p` is the largest of their p-values. Sampling stops once enough draws reach the observed
   silhouette (Besag & Clifford 1991, Biometrika 78, 301-304). Small p-values are thus precise, and large ones cheap.
4. Another group must pass two tests. It must improve the split by more than in 95% of draws that have only the groups found
   so far, with heads rotated about the means of their groups (after McLachlan 1987, Appl. Stat. 36, 318-324). And the
   silhouette must rise (Rousseeuw 1987), because residuals of subspaces are less even than a rotation makes them.
   There are no more groups than distinct heads: copies differ by rounding.
5. A head that was set aside for its norm joins a group if its distance to the group is at most that of a member.

Legend: B problems, H heads, k clusters, n draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from headway.clusters.kmeans import Floats, Ints, kmeans
from headway.clusters.quality import dispersion, silhouette
from headway.clusters.spaces import HeadSpace, Units, permuted, rotated, unit_distances
from headway.clusters.stacks import at_once
from headway.stats.sequential import ROUNDING, sequential_ps

LEVEL = 0.05
_LEAST_SIZE = 2  # heads in a group
FEWEST_HEADS = 2 * _LEAST_SIZE
_TOO_LARGE = 2.0  # norm over the median norm
_ASIDE = -1
_STARTS = 5  # of k-means with three clusters, half of the usual: draws are equally affected by worse optima


class Parted(NamedTuple):
    """Result of `part`.

    Attributes:
        labels: (B, H) of two clusters; -1 for heads that were alone.
        silhouette: (B,) the larger silhouette of two or three clusters of the other heads; 0 if too few are left.
    """

    labels: Ints
    silhouette: Floats


@dataclass(frozen=True)
class Groups:
    """Groups of the heads of one layer.

    Attributes:
        labels: (H,) group of each head; -1 if the head is set aside.
        k: number of groups; 1 if p > 0.05.
        silhouette: silhouette of the best two groups, by directions.
        p: p-value by null. The claim rests on the largest.
        n_draws: number of draws of each null.
    """

    labels: Ints
    k: int
    silhouette: float
    p: Mapping[str, float]
    n_draws: int


def find_groups(
    spaces: Sequence[HeadSpace], most_groups: int, fewest: int, most: int, randoms: Sequence[np.random.Generator]
) -> list[Groups | None]:
    """Find the groups of the heads of each space, all spaces side by side; None for fewer than four heads.

    Args:
        most_groups: largest number of groups to search for.
        fewest, most: bounds on the number of draws of each null.
        randoms: a generator for each space.
    """
    searches = [_Search(space, random) for space, random in zip(spaces, randoms, strict=True)]
    able = [one for one in searches if len(one.kept) >= FEWEST_HEADS]
    parted = at_once(part, ((unit_distances(one.gram)[None],) for one in able))
    for one, (labels, silhouettes) in zip(able, parted, strict=True):
        one.labels[one.kept] = labels[0]
        one.silhouette = float(silhouettes[0])
    tested = [one for one in able if one.silhouette > 0]
    tests = sequential_ps(
        [one.silhouette for one in tested], lambda which, n: _draws([tested[at] for at in which], n, most), fewest, most
    )
    for one, (p, n_draws) in zip(tested, tests, strict=True):
        one.p, one.n_draws = p, n_draws
        if max(p.values()) <= LEVEL:
            one.refine(most_groups, fewest)
    return [one.groups if one.space.n_heads >= FEWEST_HEADS else None for one in searches]


class _Search:
    """The search for groups in one space.

    Attributes:
        kept: heads whose norms are not unusual.
        gram: their inner products.
        blocks: the same within blocks of columns, of directions; None as in `HeadSpace`.
        others: as in `Groups`.
    """

    def __init__(self, space: HeadSpace, random: np.random.Generator) -> None:
        self.space, self.random = space, random
        self.kept = usual_norms(space.gram)
        self.gram = _among(space.gram, self.kept)
        self.labels = np.full(space.n_heads, _ASIDE)
        self.k, self.silhouette, self.n_draws = 1, 0.0, 0
        self.blocks: Floats | None = None
        if space.blocks is not None:  # pairs of blocks are joined, which halves the time of the permutations
            norms = np.sqrt(np.diag(self.gram))
            joined = np.add.reduceat(space.blocks, np.arange(0, len(space.blocks), 2))
            self.blocks = _among(joined, self.kept) / np.outer(norms, norms)
        names = ("directions", "covariance", *(() if self.blocks is None else ("permutation",)))
        self.p: Mapping[str, float] = dict.fromkeys(names, 1.0)

    @property
    def groups(self) -> Groups:
        return Groups(self.labels, self.k, self.silhouette if self.n_draws else 0.0, self.p, self.n_draws)

    def in_random_directions(self, n: int, most: int) -> Floats:
        """(n,) silhouettes of the next draws of the kept heads in random directions."""
        which = tuple(range(len(self.kept))) if self.space.units.exchangeable else tuple(self.kept.tolist())
        return _of_units(self.space.units, which, most)[self.n_draws : self.n_draws + n]

    def refine(self, most_groups: int, n: int) -> None:
        """Search for further groups, and for heads of unusual norm that join one."""
        kept = np.flatnonzero(self.labels != _ASIDE)
        most = min(most_groups, self.space.n_distinct_among(kept))  # copies differ by rounding alone, which is no group
        self.labels[kept] = _refined(_among(self.space.gram, kept), self.labels[kept], most, n, self.random)
        self.k = int(self.labels.max()) + 1
        _join(self.space.gram, self.labels, np.setdiff1d(np.arange(self.space.n_heads), self.kept))


def usual_norms(gram: Floats) -> Ints:
    """Indices of heads whose norm is above 0 and at most twice the median norm."""
    norms = np.sqrt(np.diag(gram))
    return np.flatnonzero((norms > 0) & (norms <= _TOO_LARGE * np.median(norms)))


def _among(pairs: Floats, heads: Ints) -> Floats:
    return pairs[..., heads[:, None], heads]


def part(squared_distances: Floats) -> Parted:
    """Split heads (B, H, H) into two clusters. Lone heads are removed and the search is repeated until there are none."""
    n_problems, n_heads, _ = squared_distances.shape
    labels = np.full((n_problems, n_heads), _ASIDE)
    values = np.zeros(n_problems)
    left = [(np.arange(n_problems), np.tile(np.arange(n_heads), (n_problems, 1)))]
    while left:  # problems with equally many remaining heads are searched together
        at, heads = left.pop()
        if heads.shape[1] < FEWEST_HEADS:
            continue
        d = squared_distances[at[:, None, None], heads[:, :, None], heads[:, None, :]]
        found = kmeans(d, 2).labels
        second = found.sum(axis=1)
        alone = ((found == 1) & (second == 1)[:, None]) | ((found == 0) & (second == heads.shape[1] - 1)[:, None])
        alone |= (second == 0)[:, None]  # all heads are copies of one, so there is nothing to split
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
    """(B,) silhouette of the two clusters, or of three if that is higher and each has at least two heads."""
    best = silhouette(d, two)
    if d.shape[-1] < 3 * _LEAST_SIZE:
        return best
    three = kmeans(d, 3, starts=_STARTS).labels
    least = (three[..., None] == np.arange(3)).sum(axis=1).min(axis=1)
    return np.where(least >= _LEAST_SIZE, np.maximum(best, silhouette(d, three)), best)


def _draws(searches: Sequence[_Search], n: int, most: int) -> list[dict[str, Floats]]:
    """The silhouettes of the next n draws of each null, for each search."""
    found = [{"directions": one.in_random_directions(n, most)} for one in searches]
    for one in searches:
        one.n_draws += n
    blocks = [(of, one.blocks, one.random) for of, one in zip(found, searches, strict=True) if one.blocks is not None]
    permutations = ((unit_distances(permuted(of_one, random, n)),) for _, of_one, random in blocks)
    rotations = ((unit_distances(rotated(one.gram, one.random, n)),) for one in searches)
    for (of, *_), silhouettes in zip(blocks, at_once(_part_silhouettes, permutations), strict=True):
        of["permutation"] = silhouettes
    for of, silhouettes in zip(found, at_once(_part_silhouettes, rotations), strict=True):
        of["covariance"] = silhouettes
    return found


def _part_silhouettes(squared_distances: Floats) -> Floats:
    return part(squared_distances).silhouette


@lru_cache(maxsize=64)
def _of_units(units: Units, heads: tuple[int, ...], n: int) -> Floats:
    """(n,) silhouettes of heads in random directions. Spaces of the same shape share these draws."""
    d = units.draw(np.random.default_rng(0), n)
    return part(_among(d, np.array(heads))).silhouette


def _refined(gram: Floats, labels: Ints, most: int, n: int, random: np.random.Generator) -> Ints:
    """Add groups while each further one improves the split by more than in draws without it."""
    d = unit_distances(gram)[None]
    for k in range(2, most):
        finer = kmeans(d, k + 1).labels
        small = np.bincount(finer[0], minlength=k + 1).min() < _LEAST_SIZE
        if small or silhouette(d, finer)[0] <= silhouette(d, labels[None])[0]:
            break
        drawn = unit_distances(rotated(gram, random, n, labels))
        improved = _improvement(drawn, kmeans(drawn, k).labels, kmeans(drawn, k + 1).labels)
        reached = improved >= _improvement(d, labels[None], finer)[0] - ROUNDING
        if (1 + reached.sum()) / (1 + n) > LEVEL:
            break
        labels = finer[0]
    return labels


def _join(gram: Floats, labels: Ints, aside: Ints) -> None:
    """Label set-aside heads of unusual norm that are within a group, in place."""
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
    """(B,) share of the dispersion within clusters that the finer clusters remove."""
    return 1 - dispersion(d, finer) / dispersion(d, labels)

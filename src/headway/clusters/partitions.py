"""Ways to split the heads of one layer into clusters: k-means, Ward's linkage, and labels given by the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headway import options
from headway.clusters.kmeans import Floats, Ints, kmeans

METHODS = options.METHODS.choices


@dataclass(frozen=True)
class Partition:
    """H heads in k clusters.

    Attributes:
        name: the method, or the name of given labels.
        labels: (H,) from 0 to k - 1. Every cluster has a head.
        given: whether the labels were given instead of found in the weights.
        names: names of the clusters of given labels.
    """

    name: str
    k: int
    labels: Ints
    given: bool = False
    names: tuple[str, ...] = ()

    @property
    def lone_heads(self) -> Ints:
        """Heads that are alone in their cluster: outliers."""
        size = np.bincount(self.labels, minlength=self.k)
        return np.flatnonzero(size[self.labels] == 1)


def search(name: str, squared_distances: Floats, ks: Sequence[int]) -> dict[int, Ints]:
    """Cluster with one method for every k: (B, H) labels from (B, H, H) squared distances."""
    if name == "kmeans":
        return {k: kmeans(squared_distances, k).labels for k in ks}
    return ward(squared_distances, ks)


def ward(squared_distances: Floats, ks: Sequence[int]) -> dict[int, Ints]:
    """Cluster by Ward's linkage for every k: (B, H) labels, numbered in the order of their first heads.

    The two nearest clusters i and j merge until k are left. Their distance to a cluster l is (Lance & Williams 1967)

        D(l, i + j) = ((n_l + n_i) D(l, i) + (n_l + n_j) D(l, j) - n_l D(i, j)) / (n_l + n_i + n_j)

    as in `scipy.cluster.hierarchy.linkage`, which is not used because it takes one problem at a time.
    """
    n_problems, n_heads, _ = squared_distances.shape
    problem, heads = np.arange(n_problems), np.arange(n_heads)
    d = squared_distances.copy()
    d[:, heads, heads] = np.inf
    size = np.ones((n_problems, n_heads))
    groups = np.tile(heads, (n_problems, 1))  # for each head, the first head of its cluster
    found = {}
    for k in range(n_heads, min(ks) - 1, -1):
        if k in ks:
            number = (groups == heads).cumsum(axis=1) - 1
            found[k] = np.take_along_axis(number, groups, axis=1)
        if k > min(ks):
            i, j = np.divmod(d.reshape(n_problems, -1).argmin(axis=1), n_heads)  # the first minimum has i < j
            n_i, n_j = (size[problem, one][:, None] for one in (i, j))
            merged = (size + n_i) * d[problem, i] + (size + n_j) * d[problem, j] - size * d[problem, i, j][:, None]
            merged /= size + n_i + n_j
            d[problem, i] = d[problem, :, i] = merged
            d[problem, j] = d[problem, :, j] = d[problem, i, i] = np.inf
            size[problem, i] += size[problem, j]
            groups = np.where(groups == j[:, None], i[:, None], groups)
    return found

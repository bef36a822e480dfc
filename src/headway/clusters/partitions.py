"""Ways to part the heads of one layer into clusters: k-means, Ward's linkage, and labels that the user gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headway.clusters.kmeans import Floats, Ints, kmeans

METHODS = ("kmeans", "ward")


@dataclass(frozen=True)
class Partition:
    """H heads in k clusters.

    Attributes:
        name: the method that found it, or the name of labels that were given.
        labels: (H,) from 0 to k - 1, every one used.
        given: the labels were given, not found in the weights.
    """

    name: str
    k: int
    labels: Ints
    given: bool = False

    @property
    def lone_heads(self) -> Ints:
        """Heads that are a cluster of their own: outliers."""
        size = np.bincount(self.labels, minlength=self.k)
        return np.flatnonzero(size[self.labels] == 1)


def search(name: str, squared_distances: Floats, ks: Sequence[int]) -> dict[int, Ints]:
    """(B, H) labels of the clusters that a method finds in (B, H, H) squared distances, for every k."""
    if name == "kmeans":
        return {k: kmeans(squared_distances, k).labels for k in ks}
    return ward(squared_distances, ks)


def ward(squared_distances: Floats, ks: Sequence[int]) -> dict[int, Ints]:
    """(B, H) labels of k clusters by Ward's linkage for every k, numbered in the order of their first heads."""
    from scipy.cluster.hierarchy import linkage

    n_problems, n_heads, _ = squared_distances.shape
    upper = np.triu_indices(n_heads, 1)
    distances = np.sqrt(squared_distances[:, upper[0], upper[1]])
    merges = np.stack([linkage(problem, "ward") for problem in distances])
    groups = np.tile(np.arange(n_heads), (n_problems, 1))
    found = {}
    for number in range(n_heads - min(ks) + 1):
        if n_heads - number in ks:
            found[n_heads - number] = _numbered_by_first_head(groups)
        if number < n_heads - 1:
            left, right = merges[:, number, 0, None], merges[:, number, 1, None]
            groups = np.where((groups == left) | (groups == right), n_heads + number, groups)
    return found


def _numbered_by_first_head(groups: Ints) -> Ints:
    same = groups[:, :, None] == groups[:, None, :]
    first = same.argmax(axis=2)  # of each head, the first head of its group
    starts = (first == np.arange(groups.shape[1])).cumsum(axis=1) - 1
    return np.take_along_axis(starts, first, axis=1)

"""The clusters of heads that are intervened on, and random ones of the same sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from headway.errors import UsageError
from headway.interventions.controls import random_groups

Heads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Grouping:
    """Clusters of the heads of one layer, or of several layers that are intervened on at once.

    Attributes:
        kind: the weights that were clustered: q, k, v, o, or a circuit.
        clustering: how, such as kmeans.
        labels: for each layer, each head's cluster.
    """

    kind: str
    clustering: str
    labels: Mapping[int, tuple[int, ...]]

    def __post_init__(self) -> None:
        if not self.labels:
            raise UsageError("a grouping needs at least one layer")
        for layer, labels in self.labels.items():
            if len(set(labels)) < 2:
                raise UsageError(f"layer {layer}: all heads are in one cluster; there is nothing to tell apart")

    @property
    def layers(self) -> list[int]:
        return sorted(self.labels)

    @property
    def clusters(self) -> list[int]:
        return sorted({label for labels in self.labels.values() for label in labels})

    def heads(self, cluster: int) -> Heads:
        """The (layer, head) pairs of `cluster`."""
        return tuple(
            (layer, head) for layer in self.layers for head, label in enumerate(self.labels[layer]) if label == cluster
        )

    def shuffled(self, most: int, seed: int) -> Iterator[Mapping[int, tuple[int, ...]]]:
        """Labels of the same sizes in the same layers by chance: all ways of two clusters of one layer where there
        are at most `most`, else `most` draws; its own labels are among them only by chance.
        """
        if len(self.layers) == 1 and len(self.clusters) == 2:
            [(layer, labels)] = self.labels.items()
            first, second = self.clusters
            for group in random_groups(len(labels), labels.count(first), most, seed):
                yield {layer: tuple(first if head in group else second for head in range(len(labels)))}
            return
        random = np.random.default_rng([seed, *self.layers])
        for _ in range(most):
            yield {layer: tuple(random.permutation(self.labels[layer]).tolist()) for layer in self.layers}


def named(heads: Heads) -> str:
    """Heads as people write them: L3H1 L3H4."""
    return " ".join(f"L{layer}H{head}" for layer, head in heads)

"""Clusters of heads for interventions, and random clusters of the same sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from headway import options
from headway.errors import UsageError
from headway.interventions.controls import Labels, orders_by_chance

Heads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Grouping:
    """Clusters of the heads of one layer, or of several layers that are changed together.

    Attributes:
        kind: the clustered weights: q, k, v, o, or a circuit.
        clustering: the method, such as kmeans.
        labels: for each layer, the cluster of each clustered head.
        shared_by: number of query heads that share one clustered head. It is above 1 for keys and values of grouped
            queries.
    """

    kind: str
    clustering: str
    labels: Mapping[int, Labels]
    shared_by: int = 1

    def __post_init__(self) -> None:
        if not self.labels:
            raise UsageError("a grouping needs at least one layer")
        for layer, labels in self.labels.items():
            if len(set(labels)) < 2:
                raise UsageError(f"layer {layer}: all heads are in one cluster. Give labels with at least two clusters")

    @property
    def layers(self) -> list[int]:
        return sorted(self.labels)

    @property
    def clusters(self) -> list[int]:
        return sorted({label for labels in self.labels.values() for label in labels})

    def of_query_heads(self, layer: int) -> Labels:
        """Cluster of each query head. Query heads that share a key or value head have its cluster."""
        return tuple(label for label in self.labels[layer] for _ in range(self.shared_by))

    def heads(self, cluster: int) -> Heads:
        """The (layer, query head) pairs of `cluster`."""
        return tuple(
            (layer, head)
            for layer in self.layers
            for head, label in enumerate(self.of_query_heads(layer))
            if label == cluster
        )

    def shuffled(self, most: int = options.CONTROLS.default, seed: int = 0) -> list[Grouping]:
        """Random clusters of the same sizes in the same layers. Query heads that share a head stay together.

        These are all such groupings, including this one, or a sample of `most` distinct ones if there are more.
        """
        by_chance = orders_by_chance([self.labels[layer] for layer in self.layers], most, [seed, *self.layers])
        return [replace(self, labels=dict(zip(self.layers, labels, strict=True))) for labels in by_chance]

    @property
    def partition(self) -> frozenset[Heads]:
        """The clusters as sets of heads, without their numbers. Equal for groupings that split the heads alike."""
        return frozenset(map(self.heads, self.clusters))


def named(heads: Iterable[tuple[int, int]]) -> str:
    """Format heads for people, such as L3H1 L3H4."""
    return " ".join(f"L{layer}H{head}" for layer, head in heads)

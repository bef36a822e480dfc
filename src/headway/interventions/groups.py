"""The clusters of heads that are intervened on, and random ones of the same sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from headway import options
from headway.errors import UsageError
from headway.interventions.controls import Labels, orders_by_chance

Heads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Grouping:
    """Clusters of the heads of one layer, or of several layers that are intervened on at once.

    Attributes:
        kind: the weights that were clustered: q, k, v, o, or a circuit.
        clustering: how, such as kmeans.
        labels: for each layer, the cluster of each head that was clustered.
        shared_by: how many query heads share one of these heads: more than one for keys and values of grouped queries.
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
                raise UsageError(f"layer {layer}: all heads are in one cluster; there is nothing to tell apart")

    @property
    def layers(self) -> list[int]:
        return sorted(self.labels)

    @property
    def clusters(self) -> list[int]:
        return sorted({label for labels in self.labels.values() for label in labels})

    def of_query_heads(self, layer: int) -> Labels:
        """Each query head's cluster: that of the head which it shares with others, if it does."""
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
        """Clusters of the same sizes in the same layers by chance: all that there are, this one among them, where
        they are at most `most`, else `most` different ones. Query heads that share a head stay together.
        """
        by_chance = orders_by_chance([self.labels[layer] for layer in self.layers], most, [seed, *self.layers])
        return [replace(self, labels=dict(zip(self.layers, labels, strict=True))) for labels in by_chance]

    @property
    def partition(self) -> frozenset[Heads]:
        """The clusters without their numbers: equal where two groupings part the heads in the same way."""
        return frozenset(map(self.heads, self.clusters))


def named(heads: Iterable[tuple[int, int]]) -> str:
    """Heads as people write them: L3H1 L3H4."""
    return " ".join(f"L{layer}H{head}" for layer, head in heads)

"""Select clusters for interventions from the table `clusters`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from headway.errors import UsageError
from headway.interventions.controls import Labels
from headway.interventions.groups import Grouping
from headway.text import listed


class Found(NamedTuple):
    """Clusters of a run, and the reason for each requested kind and layer that has none."""

    groupings: list[Grouping]
    left_out: list[str]


@dataclass(frozen=True)
class Choice:
    """Selects clusters of a run's raw weights for interventions.

    Attributes:
        kinds: the clustered weights.
        clustering: `kmeans`, `ward`, or the name of given labels.
        k: number of clusters; None for given labels, whose number is fixed.
        layers: counted from 0; all if None.
        together: whether all layers are changed at once. The cluster numbers of an algorithm have no meaning across
            layers, so its clusters are matched by size (see `by_size`). Given labels are matched by name and must be the
            same in all layers.
    """

    kinds: Sequence[str]
    clustering: str = "kmeans"
    k: int | None = 2
    layers: Sequence[int] | None = None
    together: bool = False

    def identity(self) -> dict[str, Any]:
        """Settings that are the same for all runs, as JSON."""
        return {
            "kinds": list(dict.fromkeys(self.kinds)),
            "clustering": self.clustering,
            "k": self.k,
            "layers": None if self.layers is None else sorted(set(self.layers)),
            "together": self.together,
        }

    def of(self, clusters: pl.DataFrame, run: str, step: int) -> Found:
        """Select the clusters of `run` at `step` from the table `clusters`.

        Raises:
            UsageError: a layer or kind was not clustered, no selected layer has such clusters, or layers that are changed
                together have different labels.
        """
        where = f"{run} at step {step}"
        own = clusters.filter(pl.col("run") == run, pl.col("step") == step, pl.col("feature") == "raw")
        if own.is_empty():
            raise UsageError(f"no raw weights of {where} were clustered: run `headway cluster` for this step first")
        _require("layer", self.layers or (), own["layer"], where)
        _require("kind of weight", self.kinds, own["kind"], where)
        layers = sorted(own["layer"].unique()) if self.layers is None else sorted(set(self.layers))
        left_out: list[str] = []
        one_by_one = [
            grouping
            for kind in dict.fromkeys(self.kinds)
            for layer in layers
            if (grouping := self._grouping(own, kind, layer, left_out)) is not None
        ]
        if not one_by_one:
            raise UsageError(f"{where} has no clusters to intervene on: {left_out[0]}")
        if self.together and self.k is None:
            self._require_shared_labels(own.filter(pl.col("layer").is_in(layers)), where)
        return Found(self._joined(one_by_one) if self.together else one_by_one, left_out)

    def _require_shared_labels(self, own: pl.DataFrame, where: str) -> None:
        """Check that the layers have the same label names. Cluster numbers stand for names only within a layer."""
        if "label_names" not in own.columns:  # older tables lack the names; then at least the numbers must agree
            own = own.with_columns(label_names=pl.lit(None, pl.List(pl.String)))
        given = own.filter(pl.col("clustering") == self.clustering, pl.col("kind").is_in(list(self.kinds)))
        first: dict[str, tuple[int, list[str]]] = {}
        for kind, layer, names, labels in given.select("kind", "layer", "label_names", "labels").rows():
            called = names or [str(label) for label in sorted(set(labels))]
            first_layer, expected = first.setdefault(kind, (layer, called))
            if called != expected:
                raise UsageError(
                    f"{where}: the labels {self.clustering!r} of {kind} are {listed(expected)} in layer {first_layer}, "
                    f"but {listed(called)} in layer {layer}. --together joins layers by label: "
                    "give all layers the same labels, choose other --layers, or leave --together out"
                )

    def _grouping(self, own: pl.DataFrame, kind: str, layer: int, left_out: list[str]) -> Grouping | None:
        rows = own.filter(pl.col("kind") == kind, pl.col("layer") == layer)
        fits = pl.lit(True) if self.k is None else pl.col("k") == self.k
        chosen = rows.filter(pl.col("clustering") == self.clustering, fits)
        if chosen.is_empty():
            left_out.append(f"layer {layer}, {kind}: {self._why_none(rows)}")
            return None
        labels, n_heads = chosen.select("labels", "n_heads").row(0)
        return Grouping(kind, self.clustering, {layer: tuple(labels)}, n_heads // len(labels))

    def _why_none(self, rows: pl.DataFrame) -> str:
        if rows["all_equal"].any():
            return "all heads are equal" if len(rows["labels"][0]) > 1 else "there is a single head"
        there = rows.filter(pl.col("k") > 1).select("clustering", "k").rows()
        made = ", ".join(f"{clustering} with k = {k}" for clustering, k in there) or "none"
        asked = self.clustering if self.k is None else f"{self.clustering} with k = {self.k}"
        return f"there are no clusters {asked}, only {made}"

    def _joined(self, groupings: Sequence[Grouping]) -> list[Grouping]:
        """Join the groupings of all layers of each kind."""
        labels: dict[tuple[str, int], dict[int, Labels]] = {}
        for grouping in groupings:
            numbered = labels.setdefault((grouping.kind, grouping.shared_by), {})
            for layer, own in grouping.labels.items():
                numbered[layer] = own if self.k is None else by_size(own)
        return [Grouping(kind, self.clustering, own, shared_by) for (kind, shared_by), own in labels.items()]


def by_size(labels: Labels) -> Labels:
    """Number clusters from the smallest to the largest. Ties are ordered by their first heads."""
    sizes = Counter(labels)
    order = sorted(sizes, key=lambda label: (sizes[label], labels.index(label)))
    return tuple(map(order.index, labels))


def _require(what: str, asked: Sequence[object], there: pl.Series, where: str) -> None:
    known = there.unique(maintain_order=True).to_list()
    for one in asked:
        if one not in known:
            raise UsageError(
                f"the clusters of {where} have no {what} {one!r}: choose from {', '.join(map(str, known))}"
            )

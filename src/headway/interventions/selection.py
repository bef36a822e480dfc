"""From the table `clusters` to the clusters that are intervened on."""

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
    """The clusters of a run, and which kinds of which layers that were asked for have none, and why."""

    groupings: list[Grouping]
    left_out: list[str]


@dataclass(frozen=True)
class Choice:
    """Which of the clusters of a run's raw weights are intervened on.

    Attributes:
        kinds: the weights that were clustered.
        clustering: `kmeans`, `ward`, or the name of labels that were given.
        k: how many clusters; None for labels that were given, which are as many as they are.
        layers: counted from 0; all if None.
        together: whether all the layers are changed at once. Numbers of clusters that were found mean nothing across
            layers; then they go by size (see `by_size`). Labels that were given keep theirs,
            which must be the same in all the layers.
    """

    kinds: Sequence[str]
    clustering: str = "kmeans"
    k: int | None = 2
    layers: Sequence[int] | None = None
    together: bool = False

    def identity(self) -> dict[str, Any]:
        """What is the same for all runs, as JSON."""
        return {
            "kinds": list(dict.fromkeys(self.kinds)),
            "clustering": self.clustering,
            "k": self.k,
            "layers": None if self.layers is None else sorted(set(self.layers)),
            "together": self.together,
        }

    def of(self, clusters: pl.DataFrame, run: str, step: int) -> Found:
        """The clusters in the table `clusters` of `run` at `step`.

        Raises:
            UsageError: a layer or kind was not clustered there, or nothing of what is asked for has such clusters; or
                layers to be changed together have labels that differ.
        """
        where = f"{run} at step {step}"
        own = clusters.filter(pl.col("run") == run, pl.col("step") == step, pl.col("feature") == "raw")
        if own.is_empty():
            raise UsageError(f"no raw weights of {where} were clustered: run `headway cluster` on that step first")
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
        """Numbers stand for labels within a layer, so that they join layers only where these have the same labels."""
        if "label_names" not in own.columns:  # a table of before they were stored: numbers at least must agree
            own = own.with_columns(label_names=pl.lit(None, pl.List(pl.String)))
        given = own.filter(pl.col("clustering") == self.clustering, pl.col("kind").is_in(list(self.kinds)))
        first: dict[str, tuple[int, list[str]]] = {}
        for kind, layer, names, labels in given.select("kind", "layer", "label_names", "labels").rows():
            called = names or [str(label) for label in sorted(set(labels))]
            first_layer, expected = first.setdefault(kind, (layer, called))
            if called != expected:
                raise UsageError(
                    f"{where}: the labels {self.clustering!r} of {kind} are {listed(expected)} in layer {first_layer}, "
                    f"but {listed(called)} in layer {layer}, and layers that are changed together are joined by label: "
                    "label them alike, choose --layers that are, or leave --together out"
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
            return "all its heads are equal" if len(rows["labels"][0]) > 1 else "it has a single head"
        there = rows.filter(pl.col("k") > 1).select("clustering", "k").rows()
        made = ", ".join(f"{clustering} with k = {k}" for clustering, k in there) or "none"
        asked = self.clustering if self.k is None else f"{self.clustering} with k = {self.k}"
        return f"no clusters {asked} were made, but {made}"

    def _joined(self, groupings: Sequence[Grouping]) -> list[Grouping]:
        """One grouping a kind, of all its layers."""
        labels: dict[tuple[str, int], dict[int, Labels]] = {}
        for grouping in groupings:
            numbered = labels.setdefault((grouping.kind, grouping.shared_by), {})
            for layer, own in grouping.labels.items():
                numbered[layer] = own if self.k is None else by_size(own)
        return [Grouping(kind, self.clustering, own, shared_by) for (kind, shared_by), own in labels.items()]


def by_size(labels: Labels) -> Labels:
    """The clusters numbered from the smallest to the largest; of equally large ones that with the first head leads."""
    sizes = Counter(labels)
    order = sorted(sizes, key=lambda label: (sizes[label], labels.index(label)))
    return tuple(map(order.index, labels))


def _require(what: str, asked: Sequence[object], there: pl.Series, where: str) -> None:
    known = there.unique(maintain_order=True).to_list()
    for one in asked:
        if one not in known:
            raise UsageError(
                f"there is no {what} {one!r} among the clusters of {where}; there are {', '.join(map(str, known))}"
            )

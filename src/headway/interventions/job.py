"""The job that intervenes on clusters of a checkpoint's heads and measures the effect on predictions.

Every effect is compared with that of random groups of equally many heads in the same layers.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from headway import options, suites, tables
from headway.corpora import Corpus, tokenize
from headway.errors import CheckpointError
from headway.interventions.controls import percentile, share_at_least
from headway.interventions.groups import Grouping, Heads, named
from headway.options import documented
from headway.suites import Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headway.interventions.objects import Intervention, Substitutes
    from headway.interventions.text_effects import Effect, Tops
    from headway.models import Geometry, Tokenizer

# Included in every partition's fingerprint. Raise it if numbers or columns change, so that partitions are recomputed.
DEFINITIONS_VERSION = 2
# The most probable tokens are stored for the first few texts. Each text is named by its last tokens.
TEXTS_WITH_TOPS = 4
LAST_TOKENS = 12
# Name of the operation and its heads. For `swap`, the order of heads in each layer instead.
Operation = tuple[str, tuple[Any, ...]]
Orders = tuple[tuple[int, tuple[int, ...]], ...]  # of each layer
Clusters = tuple[int, ...]  # the cluster that is ablated, or the two that are swapped


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model of a checkpoint with its tokenizer."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    geometry: Geometry
    identities: dict[str, str]


NEEDS = frozenset({"config", "weights", "tokenizer"})


@contextmanager
def language_model(
    checkpoint: Checkpoint, dtype: str, device: str, keep_files: bool, clusters: Mapping[str, str]
) -> Iterator[LanguageModel]:
    """Provide the checkpoint's causal language model while the block runs.

    Args:
        clusters: hashes of all runs' clusters, as returned by `hashes_of`. The checkpoint's own hash becomes an input of
            its partition, like its files.
    """
    from headway import models

    with suites.files(checkpoint, NEEDS, keep=keep_files) as files:
        model = models.load(files.folder, dtype=dtype, device=models.choose_device(device), lm_head=True)
        tokenizer = models.load_tokenizer(files.tokenizer_folder)
        own = f"clusters of {checkpoint.run}"
        identities = {checkpoint.key: files.identity, own: clusters[own]}
        yield LanguageModel(model, tokenizer, models.read_geometry(files.folder), identities)


def checkpoint_columns(checkpoint: Checkpoint, geometry: Geometry) -> dict[str, Any]:
    """Columns that identify the checkpoint in a table."""
    return {
        **checkpoint.columns,
        "n_params": geometry.n_params,
        "n_layers": geometry.n_layers,
        "n_heads": geometry.n_heads,
    }


def groupings_of(
    checkpoint: Checkpoint, groupings: Mapping[str, Sequence[Grouping]], lacking: Mapping[str, str]
) -> Sequence[Grouping]:
    """Return the groupings of the checkpoint's run.

    Raises:
        CheckpointError: there are none.
    """
    if checkpoint.run not in groupings:
        why = lacking.get(checkpoint.run, "cluster its weights first")
        raise CheckpointError(f"the run {checkpoint.run} has no clusters of heads: {why}")
    return groupings[checkpoint.run]


def not_finite(dtype: str) -> CheckpointError:
    """The error for predictions that are not finite. Comparisons with NaN would make everything look like an effect."""
    return CheckpointError(f"the model's predictions are not finite in {dtype}: try another --dtype, such as float32")


def hashes_of(groupings: Mapping[str, Sequence[Grouping]]) -> dict[str, str]:
    """A hash of each run's labels, by `clusters of RUN`."""
    plain = {
        run: [(g.kind, g.clustering, sorted(g.labels.items()), g.shared_by) for g in own]
        for run, own in groupings.items()
    }
    return {
        f"clusters of {run}": hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
        for run, own in plain.items()
    }


class OnClusters:
    """What the jobs share that intervene on the clusters of a run."""

    groupings: Mapping[str, Sequence[Grouping]]
    lacking: Mapping[str, str]
    dtype: str
    device: str
    keep_files: bool

    needs = NEEDS

    @property
    def given(self) -> dict[str, str]:
        return hashes_of(self.groupings)

    @contextmanager
    def read(self, checkpoint: Checkpoint) -> Iterator[LanguageModel]:
        groupings_of(checkpoint, self.groupings, self.lacking)  # fail before anything is downloaded
        with language_model(checkpoint, self.dtype, self.device, self.keep_files, self.given) as read:
            yield read


@documented(options.INTERVENE)
@dataclass(frozen=True)
class ClusterEffects(OnClusters):
    """The job that ablates or swaps clusters of heads and compares next-token predictions, table `interventions`.

    Attributes:
        {options}
        groupings: The clusters of each run. Those of a later step can be tried on the model at step 0.
        lacking: The reason for each run that has no clusters; its checkpoints fail with that message.
        choice: How the clusters were chosen, as JSON: the same for all runs, and part of the job's identity. Their
            labels are not part of it, but an input of the partitions of their run.
    """

    corpus: Corpus
    groupings: Mapping[str, Sequence[Grouping]]
    lacking: Mapping[str, str] = field(default_factory=dict)
    choice: Mapping[str, Any] = field(default_factory=dict)
    operations: tuple[str, ...] = options.OPERATIONS.default
    n_texts: int = options.N_TEXTS.default
    controls: int = options.CONTROLS.default
    seed: int = options.CONTROLS_SEED.default
    dtype: str = options.DTYPE.default
    device: str = options.DEVICE.default
    keep_files: bool = options.KEEP_FILES.default

    table = "interventions"

    def identity(self) -> dict[str, Any]:
        return {
            "corpus": {"name": self.corpus.name, "sha256": self.corpus.sha256},
            **self.choice,
            "operations": list(self.operations),
            "n_texts": self.n_texts,
            "controls": self.controls,
            "seed": self.seed,
            "dtype": self.dtype,
            "definitions": DEFINITIONS_VERSION,
        }

    def compute(self, checkpoint: Checkpoint, input: LanguageModel) -> pl.DataFrame:
        """Return one row per grouping, operation and cluster (or pair of clusters that are swapped).

        Raises:
            CheckpointError: predictions are not finite.
        """
        from headway.interventions.objects import Substitutes
        from headway.interventions.text_effects import effects, top_tokens

        geometry = input.geometry
        corpus = replace(self.corpus, texts=self.corpus.texts[: self.n_texts])
        read = tokenize(corpus, input.tokenizer, context_length=geometry.context_length, vocab_size=geometry.vocab_size)
        trials = [
            (grouping, operation, clusters)
            for grouping in groupings_of(checkpoint, self.groupings, self.lacking)
            for operation in self.operations
            for clusters in _clusters_to_change(grouping, operation)
        ]
        operations = [self._operations(*trial) for trial in trials]
        distinct = list(dict.fromkeys(operation for own, chance in operations for operation in (own, *chance)))
        substitutes = Substitutes(input.model, read.ids, self.seed)
        interventions = [self.intervention(operation, substitutes) for operation in distinct]
        found = dict(zip(distinct, effects(input.model, interventions, read.ids), strict=True))
        if not all(math.isfinite(effect.mean(name)) for effect in found.values() for name in ("kl", "loss_before")):
            raise not_finite(self.dtype)
        shown = read.ids[:TEXTS_WITH_TOPS]
        ends = [input.tokenizer.decode(ids[-LAST_TOKENS:].tolist()) for ids in shown]
        before = _named(input, [top_tokens(input.model, ids) for ids in shown])
        rows = []
        for (grouping, operation, clusters), (own, chance) in zip(trials, operations, strict=True):
            after = _named(input, [text.top_after for text in found[own].texts[:TEXTS_WITH_TOPS]])
            heads = self.heads_of(own, grouping, clusters)
            rows.append(
                {
                    **checkpoint_columns(checkpoint, geometry),
                    "layers": grouping.layers,
                    "kind": grouping.kind,
                    "clustering": grouping.clustering,
                    "operation": operation,
                    "cluster": clusters[0],
                    "other_cluster": clusters[1] if operation == "swap" else None,
                    "heads": " ↔ ".join(map(named, heads)),
                    "cluster_size": sum(map(len, heads)),
                    "n_texts": len(read.ids),
                    **_summary(found[own], [found[operation] for operation in chance], own in chance),
                    "n_controls": len(set(chance)),
                    "top_texts": ends,
                    "top_before": before.tokens,
                    "top_before_p": before.probabilities,
                    "top_after": after.tokens,
                    "top_after_p": after.probabilities,
                }
            )
        return pl.DataFrame(rows, schema=tables.schema(tables.INTERVENTIONS_COLUMNS, dict(checkpoint.axes)))

    def _operations(self, grouping: Grouping, operation: str, clusters: Clusters) -> tuple[Operation, list[Operation]]:
        """The operation, and the same operation on random groups. Different groups may give the same operation."""
        chance = grouping.shuffled(self.controls, self.seed)
        return self.operation(grouping, operation, clusters), [
            self.operation(other, operation, clusters) for other in chance
        ]

    def operation(self, grouping: Grouping, operation: str, clusters: Clusters) -> Operation:
        """What is done to which heads, or in which order the heads of each layer come."""
        if operation != "swap":
            return operation, grouping.heads(*clusters)
        return operation, swapped(grouping, clusters)

    def heads_of(self, operation: Operation, grouping: Grouping, clusters: Clusters) -> list[Heads]:
        """Heads of the cluster that is ablated, or of each of the two clusters that are swapped."""
        kind, what = operation
        if kind != "swap":
            return [what]
        moved = {(layer, head) for layer, order in what for head, comes in enumerate(order) if head != comes}
        return [tuple(head for head in grouping.heads(cluster) if head in moved) for cluster in clusters]

    def intervention(self, operation: Operation, substitutes: Substitutes) -> Intervention:
        """The object that does it to a model."""
        from headway.interventions.objects import Permute

        kind, what = operation
        return Permute(dict(what)) if kind == "swap" else substitutes.ablation(kind, what)


def swapped(grouping: Grouping, clusters: Clusters) -> Orders:
    """The order of heads in each layer that has both clusters, after they were swapped."""
    from headway.interventions.objects import swap_order

    labels = {layer: grouping.of_query_heads(layer) for layer in grouping.layers}
    meeting = {layer: own for layer, own in labels.items() if set(clusters) <= set(own)}
    return tuple((layer, tuple(swap_order(own, clusters))) for layer, own in meeting.items())


def _clusters_to_change(grouping: Grouping, operation: str) -> list[Clusters]:
    """Clusters that an operation applies to: each cluster, or for a swap each pair that shares a layer."""
    if operation != "swap":
        return [(cluster,) for cluster in grouping.clusters]
    pairs = combinations(grouping.clusters, 2)
    return [pair for pair in pairs if any(set(pair) <= set(labels) for labels in grouping.labels.values())]


def _summary(effect: Effect, controls: Sequence[Effect], among: bool) -> dict[str, Any]:
    """Columns of the effect: means, spread, and its rank among the controls."""
    row: dict[str, Any] = {"loss_before": effect.mean("loss_before")}
    for name in ("kl", "kl_last", "loss_change", "top_changed"):
        value = effect.mean(name)
        chance = [control.mean(name) for control in controls]
        low, median, high = np.quantile(chance, [0.05, 0.5, 0.95]) if chance else [None] * 3
        row |= {
            name: value,
            f"{name}_sd": effect.sd(name),
            f"{name}_control_low": low,
            f"{name}_control_median": median,
            f"{name}_control_high": high,
            f"{name}_percentile": percentile(value, chance),
            f"{name}_p": share_at_least(value, chance if among else [*chance, value]),
        }
    return row


class _Tops(NamedTuple):
    """The most probable next tokens after each text, most probable first, with their probabilities."""

    tokens: list[list[str]]
    probabilities: list[list[float]]


def _named(input: LanguageModel, tops: Sequence[Tops]) -> _Tops:
    words = [[input.tokenizer.decode([token]) for token in top.ids] for top in tops]
    return _Tops(words, [top.probabilities for top in tops])

"""The job that clusters a checkpoint's heads by their weights: one row per layer, kind, feature and clustering."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from headway import options, suites, tables
from headway.clusters.between import HeadValues, between, values_of
from headway.clusters.features import CIRCUITS, FEATURES, KINDS, Described, Weights, describe_layer
from headway.clusters.groups import Groups, find_groups
from headway.clusters.labels import GivenLabels
from headway.clusters.partitions import METHODS, Partition
from headway.clusters.reality import Row, describe, found_partitions, gap_statistic, null_draws
from headway.clusters.spaces import principal_coordinates
from headway.errors import CheckpointError, UsageError
from headway.options import documented
from headway.suites import Checkpoint

if TYPE_CHECKING:
    from headway.models import Geometry, HeadWeights

# Sorting and searching release Python's lock. More threads would hold more layers in memory.
_THREADS = min(4, os.cpu_count() or 1)
# Layers are computed at once only while their weights of one kind, in float32, take no more than this together.
_ROOM = 128 * 2**20
# Included in every partition's fingerprint. Raise it if numbers change, so that partitions are recomputed.
DEFINITIONS_VERSION = 4
_ORDER = (*KINDS, *CIRCUITS)


@dataclass(frozen=True)
class ClusterInput:
    """A checkpoint's weights and, if the sweep has one, the weights of the previous checkpoint of its run."""

    weights: HeadWeights
    identities: Mapping[str, str]
    before: HeadWeights | None = None
    previous_step: int | None = None


@documented(options.CLUSTER)
@dataclass(frozen=True)
class WeightClusters:
    """The job that clusters the heads of every layer, and tests whether the clusters are real.

    Layers with too few heads for a number of clusters leave that number out. With `nulls=0` there are no groups, no
    stability and no gap statistic. The p-value of groups uses at least `nulls` draws, even if `most_draws` is smaller.
    `seed` is for the nulls; k-means always has the published seed. Open labels with `open_labels`.

    Attributes:
        {options}
        previous: The checkpoint that changes are measured from, for each checkpoint's key (see `predecessors`). It is not
            part of the job's identity, because each row of the table names that step.
    """

    layout: str = options.LAYOUT.default
    features: tuple[str, ...] = options.FEATURES.default
    methods: tuple[str, ...] = options.METHODS.default
    ks: tuple[int, ...] = options.KS.default
    nulls: int = options.NULLS.default
    most_draws: int = options.MOST_DRAWS.default
    seed: int = options.CLUSTER_SEED.default
    layers: tuple[int, ...] | None = options.LAYERS.default
    labels: tuple[GivenLabels, ...] = ()
    previous: Mapping[str, Checkpoint] = field(default_factory=dict, compare=False)
    keep_files: bool = field(default=options.KEEP_FILES.default, compare=False)

    needs = frozenset({"config", "weights"})

    @property
    def table(self) -> str:
        """Name of the table. The published layout has a separate table."""
        return "clusters" if self.layout == "true" else "clusters_published"

    def __post_init__(self) -> None:
        _require_known("feature", self.features, FEATURES)
        _require_known("method", self.methods, METHODS)
        if not self.ks or min(self.ks) < 2 or len(set(self.ks)) < len(self.ks):
            raise UsageError(f"numbers of clusters {self.ks}: give each once, and at least 2")
        if self.nulls < 0 or 0 < self.nulls < 19:
            raise UsageError(f"{self.nulls} draws of a null cannot give p = 0.05: use 19 or more, or 0 for no nulls")
        if self.layers is not None and len(set(self.layers)) < len(self.layers):
            raise UsageError(f"layers {', '.join(map(str, self.layers))}: give each layer once")
        names = [given.name for given in self.labels]
        if len(set(names)) < len(names):
            raise UsageError(f"two sets of labels have the same name: {', '.join(names)}. Rename one of the files")

    def identity(self) -> dict[str, Any]:
        """All settings that affect the numbers."""
        return {
            "layout": self.layout,
            "features": list(self.features),
            "methods": list(self.methods),
            "ks": list(self.ks),
            "nulls": self.nulls,
            "most_draws": self.most_draws,
            "seed": self.seed,
            "layers": None if self.layers is None else list(self.layers),
            "labels": [given.identity() for given in self.labels],
            "definitions": DEFINITIONS_VERSION,
        }

    @contextmanager
    def read(self, checkpoint: Checkpoint) -> Iterator[ClusterInput]:
        """Open the weights of the checkpoint and of the previous one.

        If the previous checkpoint fails, changes are left out. Its own row in the sweep records the failure.
        """
        from headway.models import HeadWeights

        identities: dict[str, str] = {}

        def opened(one: Checkpoint, stack: ExitStack) -> HeadWeights:
            files = stack.enter_context(suites.files(one, need=self.needs, keep=self.keep_files))
            weights = HeadWeights(files.folder, layout=self.layout)
            identities[one.key] = files.identity
            return weights

        previous = self.previous.get(checkpoint.key)
        both = [one for one in (checkpoint, previous) if one is not None]
        with ExitStack() as stack:
            stack.enter_context(suites.room_for(both, self.keep_files))
            weights = opened(checkpoint, stack)
            before = None
            if previous is not None:
                try:
                    before = opened(previous, stack)
                except CheckpointError:
                    previous = None
            yield ClusterInput(weights, identities, before, None if previous is None else previous.step)

    def compute(self, checkpoint: Checkpoint, input: ClusterInput) -> pl.DataFrame:
        """Compute the table of `tables.CLUSTERS_COLUMNS`.

        Raises:
            CheckpointError: weights are missing or not finite, or no kind of weights has more heads than clusters.
            UsageError: a layer does not exist, or labels name a layer or head that does not exist, or say nothing of stacks.
        """
        stacks = input.weights.stacks
        if len(stacks) > 1 and self.labels:
            raise UsageError(
                f"{checkpoint.key} has several stacks of heads, and given labels do not say whose they are: leave --labels out"
            )
        before = input.before.stacks if input.before else [None] * len(stacks)
        frames = [self._frame(checkpoint, *one, input.previous_step) for one in zip(stacks, before, strict=True)]
        return pl.concat(frames)

    def _frame(
        self, checkpoint: Checkpoint, weights: HeadWeights, before: HeadWeights | None, previous_step: int | None
    ) -> pl.DataFrame:
        """The rows of one stack."""
        geometry = weights.geometry
        rows = self.rows(weights, geometry, before, previous_step)
        return (
            _frame(rows)
            .with_columns(
                pl.lit(geometry.stack).alias(tables.STACK.name),
                *(pl.lit(value).alias(name) for name, value in checkpoint.columns.items()),
                n_params=pl.lit(geometry.n_params),
                n_layers=pl.lit(geometry.n_layers),
                n_heads=pl.lit(geometry.n_heads),
            )
            .cast(_schema())
            .select(*tables.schema(tables.CLUSTERS_COLUMNS, dict(checkpoint.axes)))
        )

    def rows(
        self, weights: Weights, geometry: Geometry, before: Weights | None = None, previous_step: int | None = None
    ) -> list[Row]:
        """Rows of one model, without the columns that identify the checkpoint."""
        for given in self.labels:
            given.require_layers(geometry)

        def of_layer(layer: int) -> list[Row]:
            return [
                {"layer": layer, "kind": heads.kind, "feature": heads.feature} | row
                for heads in describe_layer(weights, layer, self.features, before)
                for row in self._describe(heads, layer, geometry.n_heads, previous_step)
            ]

        # Each layer has a separate random generator, so threads do not change the results. BLAS and torch get one core
        # for each of them, because for these sizes their own threads would cost more than they gain.
        at_once = min(_THREADS, max(1, _ROOM // (4 * geometry.n_heads * geometry.head_dim * geometry.hidden_size)))
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(at_once, initializer=_take_one_core) as pool:
            rows = [row for rows in pool.map(of_layer, self._layers(geometry)) for row in rows]
        if all(row["k"] == 1 and not row["all_equal"] for row in rows):
            raise CheckpointError(
                f"{geometry.n_heads} heads per layer are too few for {min(self.ks)} clusters. "
                "A silhouette needs more heads than clusters"
            )
        return rows

    def _layers(self, geometry: Geometry) -> Sequence[int]:
        if self.layers is None:
            return geometry.layers
        geometry.require_layers(self.layers)
        return self.layers

    def used(self, input: ClusterInput) -> dict[str, Any]:
        """What the manifest states of hybrids: the layers that are left out, because they have no heads."""
        return input.weights.geometry.gaps

    def _describe(self, heads: Described, layer: int, n_query_heads: int, previous_step: int | None) -> list[Row]:
        space = heads.space
        together = _together(heads, previous_step)
        # Copies of a head cannot be separated, so there are at most as many clusters as distinct heads.
        ks = [k for k in self.ks if k < space.n_heads and k <= space.n_distinct]
        if space.all_equal or not ks:  # with few key-value heads some kinds have no clusters, which is no error
            return [together]
        random = np.random.default_rng([self.seed, layer, _ORDER.index(heads.kind), len(heads.feature)])
        if self.nulls:
            together |= _group_row(
                find_groups(space, max(self.ks), self.nulls, max(self.nulls, self.most_draws), random)
            )
        given = [labels.partition(heads.kind, layer, space.n_heads, n_query_heads) for labels in self.labels]
        partitions = found_partitions(space, self.methods, ks) + [one for one in given if one is not None]
        nulls = null_draws(space, self.nulls, random) if self.nulls else None
        rows = describe(space, partitions, nulls, random)
        for row, partition in zip(rows, partitions, strict=True):
            row["label_names"] = list(partition.names) or None
        if heads.weights is not None:
            _compare_clusters(heads.weights, partitions, rows, random)
        if nulls is not None and "kmeans" in self.methods:
            gaps = gap_statistic(space, partitions, nulls)
            for row in (together, *rows):
                if row["clustering"] in ("all", "kmeans"):
                    at = row["k"] - 1
                    row |= {"gap": gaps.value[at], "gap_std_error": gaps.std_error[at], "gap_margin": gaps.margin[at]}
        return [together, *rows]


def _take_one_core() -> None:
    """Run the parallel loops that this thread starts in torch on one core. Other threads are not affected."""
    import torch

    torch.get_num_threads()  # torch sets a thread's number of cores when it is first asked
    threadpool_limits(1, user_api="openmp")


def _together(heads: Described, previous_step: int | None) -> Row:
    """The row of k = 1, with values of the heads as a whole."""
    space = heads.space
    principal = principal_coordinates(space.squared_distances)
    row: Row = {
        "clustering": "all",
        "k": 1,
        "labels": [0] * space.n_heads,
        "sizes": [space.n_heads],
        "within_variance": float(space.squared_distances.mean()) / 2 / space.n_columns,
        "all_equal": space.all_equal,
        "n_distinct": space.n_distinct,
        "norms": space.norms.tolist(),
        "coordinates": principal.coordinates.tolist(),
        "explained": principal.explained.tolist(),
    }
    if heads.change is not None:
        change = heads.change
        row |= {
            "previous_step": previous_step,
            "head_changes": change.head_changes.tolist(),
            "relative_changes": None if change.relative_changes is None else change.relative_changes.tolist(),
            "mean_change": change.mean_change,
            "largest_change": change.largest_change,
        }
    return row


def _group_row(found: Groups | None) -> Row:
    """Columns of groups; empty if there are too few heads."""
    if found is None:
        return {}
    return {
        "group_labels": [int(label) if label >= 0 else None for label in found.labels],
        "group_k": found.k,
        "group_silhouette": found.silhouette,
        "group_p": max(found.p.values()),
        "group_draws": found.n_draws,
        **{f"group_{null}_p": p for null, p in found.p.items()},
    }


def _compare_clusters(
    weights: np.ndarray, partitions: Sequence[Partition], rows: list[Row], random: np.random.Generator
) -> None:
    """Add the comparison of weights to the rows of two clusters. Equal clusters of several methods are compared once."""
    done: dict[bytes, Row] = {}
    heads: HeadValues | None = None
    for row, partition in zip(rows, partitions, strict=True):
        if partition.k == 2:
            heads = heads or values_of(weights)
            key = np.asarray(partition.labels, dtype=np.int64).tobytes()
            if key not in done:
                done[key] = between(weights, partition.labels, random, heads)._asdict()
            row.update(done[key])


def _schema() -> pl.Schema:
    return pl.Schema(tables.schema(tables.CLUSTERS_COLUMNS))


def _frame(rows: list[Row]) -> pl.DataFrame:
    here = {name: dtype for name, dtype in _schema().items() if name not in _checkpoint_names()}
    frame = pl.DataFrame([{name: row.get(name) for name in here} for row in rows], schema=here)
    # Undefined values, such as the ratio of two zeros or the log of zero, become null.
    return frame.with_columns(
        pl.when(pl.col(name).is_finite()).then(name) for name, dtype in here.items() if dtype == pl.Float64
    )


def _checkpoint_names() -> set[str]:
    return {column.name for column in (*tables.CHECKPOINT_COLUMNS, tables.STACK)}


def _require_known(what: str, asked: Sequence[str], known: Sequence[str]) -> None:
    if len(set(asked)) < len(asked):
        raise UsageError(f"{what}s {', '.join(asked)}: each must be given once")
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        named = f"unknown {what} {unknown[0]!r}" if unknown else f"no {what} is given"
        raise UsageError(f"{named}: use {' or '.join(known)}")


def predecessors(checkpoints: Sequence[Checkpoint]) -> dict[str, Checkpoint]:
    """For each checkpoint's key, the previous checkpoint of its run among `checkpoints`. First checkpoints have none."""
    runs: dict[str, list[Checkpoint]] = {}
    for checkpoint in sorted(checkpoints, key=lambda one: one.step):
        runs.setdefault(checkpoint.run, []).append(checkpoint)
    return {later.key: earlier for run in runs.values() for earlier, later in pairwise(run)}

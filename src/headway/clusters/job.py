"""The job that clusters a checkpoint's heads by their weights: one row per layer, kind, feature and clustering."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from headway import options, suites, tables
from headway.clusters.between import between, values_of
from headway.clusters.features import CIRCUITS, FEATURES, KINDS, Described, Weights, describe_layer
from headway.clusters.groups import Groups, find_groups
from headway.clusters.labels import GivenLabels
from headway.clusters.partitions import METHODS
from headway.clusters.reality import Cell, Row, comparisons, found_partitions, gap_statistics, null_draws, qualities
from headway.clusters.spaces import HeadSpace, principal_coordinates
from headway.errors import CheckpointError, UsageError
from headway.options import documented
from headway.suites import Checkpoint

if TYPE_CHECKING:
    from headway.models import Geometry, HeadWeights

# Sorting and searching release Python's lock. More threads would hold more layers in memory.
_THREADS = min(4, os.cpu_count() or 1)
# Layers are computed at once only while their weights of one kind, in float32, take no more than this together.
_ROOM = 128 * 2**20
# Kinds and features of a layer are clustered side by side while their null draws take no more than this together.
_ROOM_FOR_DRAWS = 64 * 2**20
# Included in every partition's fingerprint. Raise it if numbers change, so that partitions are recomputed.
DEFINITIONS_VERSION = 5
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
            described = describe_layer(weights, layer, self.features, before)
            found: list[Row] = []
            while heads := list(islice(described, side_by_side)):
                rows_of = self._describe(heads, weights, layer, geometry.n_heads, previous_step)
                for of, rows in zip(heads, rows_of, strict=True):
                    found += [{"layer": layer, "kind": of.kind, "feature": of.feature} | row for row in rows]
            return found

        # There are four nulls at most.
        side_by_side = max(1, _ROOM_FOR_DRAWS // (4 * 8 * max(1, self.nulls) * geometry.n_heads**2))
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

    def _describe(
        self, heads: Sequence[Described], weights: Weights, layer: int, n_query_heads: int, previous_step: int | None
    ) -> list[list[Row]]:
        """The rows of a layer's heads under some kinds and features, which are clustered side by side."""
        found = [[_together(one, previous_step)] for one in heads]
        # With few key-value heads some kinds have no clusters, which is no error.
        able = [at for at, one in enumerate(heads) if self._ks(one.space)]
        cells = self._cells([heads[at] for at in able], layer, n_query_heads)
        for at, rows in zip(able, qualities(cells), strict=True):
            found[at] += rows
        if self.nulls:
            self._add_nulls(cells, [found[at] for at in able])
        for at, cell in zip(able, cells, strict=True):
            if heads[at].feature == "raw":
                _compare_clusters(weights, heads[at].kind, layer, cell, found[at][1:])
        return found

    def _ks(self, space: HeadSpace) -> list[int]:
        """Numbers of clusters for these heads. Copies of a head cannot be separated, so they count once."""
        return [] if space.all_equal else [k for k in self.ks if k < space.n_heads and k <= space.n_distinct]

    def _cells(self, heads: Sequence[Described], layer: int, n_query_heads: int) -> list[Cell]:
        spaces = [one.space for one in heads]
        found = found_partitions(spaces, self.methods, [self._ks(space) for space in spaces])
        cells = []
        for one, partitions in zip(heads, found, strict=True):
            given = (labels.partition(one.kind, layer, one.space.n_heads, n_query_heads) for labels in self.labels)
            random = np.random.default_rng([self.seed, layer, _ORDER.index(one.kind), len(one.feature)])
            cells.append(Cell(one.space, [*partitions, *filter(None, given)], random))
        return cells

    def _add_nulls(self, cells: Sequence[Cell], rows: Sequence[list[Row]]) -> None:
        """Add groups, and the comparisons with null draws, to the rows of each cell. The first row is that of k = 1."""
        most = max(self.nulls, self.most_draws)
        spaces, randoms = [cell.space for cell in cells], [cell.random for cell in cells]
        for (together, *_), groups in zip(
            rows, find_groups(spaces, max(self.ks), self.nulls, most, randoms), strict=True
        ):
            together |= _group_row(groups)
        nulls = [null_draws(cell.space, self.nulls, cell.random) for cell in cells]
        for (_, *clustered), compared in zip(rows, comparisons(cells, nulls), strict=True):
            for row, comparison in zip(clustered, compared, strict=True):
                row |= comparison
        if "kmeans" in self.methods:
            for of_cell, gaps in zip(rows, gap_statistics(cells, nulls), strict=True):
                for row in of_cell:
                    if row["clustering"] in ("all", "kmeans"):
                        at = row["k"] - 1
                        row |= {
                            "gap": gaps.value[at],
                            "gap_std_error": gaps.std_error[at],
                            "gap_margin": gaps.margin[at],
                        }


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


def _compare_clusters(weights: Weights, kind: str, layer: int, cell: Cell, rows: Sequence[Row]) -> None:
    """Add the comparison of weights to the rows of two clusters. Equal clusters of several methods are compared once.

    The weights are read again, because those of all kinds side by side would take four times the memory.
    """
    done: dict[bytes, Row] = {}
    two = [(row, one.labels) for row, one in zip(rows, cell.partitions, strict=True) if one.k == 2]
    if two:
        flat = weights.get(kind, layer).reshape(cell.space.n_heads, -1)
        heads = values_of(flat)
        for row, labels in two:
            key = np.asarray(labels, dtype=np.int64).tobytes()
            if key not in done:
                done[key] = between(flat, labels, cell.random, heads)._asdict()
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

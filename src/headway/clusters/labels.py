"""Clusters given by the user: even and odd heads, or a table of heads and labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headway.clusters.features import CIRCUITS, KINDS
from headway.clusters.partitions import METHODS, Partition
from headway.errors import UsageError

if TYPE_CHECKING:
    from headway.models import Geometry

EVEN_ODD = "even_odd"
_READERS = {".csv": pl.read_csv, ".tsv": lambda path: pl.read_csv(path, separator="\t"), ".parquet": pl.read_parquet}


@dataclass(frozen=True)
class GivenLabels:
    """Named labels of heads.

    Attributes:
        name: value in the column `clustering`.
        rows: (kind, layer, head, label). Kind None stands for every kind with as many heads as query heads, and layer None
            for every layer. Without rows, even heads are compared with odd heads in every kind.
    """

    name: str
    rows: tuple[tuple[str | None, int | None, int, str], ...] = ()

    def identity(self) -> dict[str, str]:
        """Identity of the labels, as JSON."""
        return {"name": self.name, "sha256": hashlib.sha256(repr(self.rows).encode()).hexdigest()}

    def require_layers(self, geometry: Geometry) -> None:
        """Check that the model has every layer that the labels name, with heads.

        Raises:
            UsageError: one is missing, or has no attention heads.
        """
        named = [layer for _, layer, _, _ in self.rows if layer is not None]
        geometry.require_layers(named, f"labels {self.name!r}: ")

    def partition(self, kind: str, layer: int, n_heads: int, n_query_heads: int) -> Partition | None:
        """Return the labels of one layer and kind; None if there are none.

        Raises:
            UsageError: a head does not exist, has no label or two labels, or all heads have the same label.
        """
        if not self.rows:
            return Partition(self.name, 2, np.arange(n_heads) % 2, given=True, names=("even", "odd"))
        own = [row for row in self.rows if row[0] == kind or (row[0] is None and n_heads == n_query_heads)]
        pairs = {(head, label) for _, at, head, label in own if at in (None, layer)}
        if not pairs:
            return None
        where = f"labels {self.name!r}, layer {layer}, kind {kind}"
        labels = dict(sorted(pairs))
        other = next(((head, label) for head, label in sorted(pairs) if labels[head] != label), None)
        if other is not None:
            head, label = other
            raise UsageError(
                f"{where}: head {head} has two labels, {label!r} and {labels[head]!r}. Give every head one label"
            )
        unknown = sorted(set(labels) - set(range(n_heads)))
        absent = sorted(set(range(n_heads)) - set(labels))
        if unknown:
            raise UsageError(f"{where}: there is no head {unknown[0]}. The model has heads 0 to {n_heads - 1}")
        if absent:
            raise UsageError(f"{where}: head {absent[0]} has no label. Give every head of the layer one label")
        names = sorted(set(labels.values()))
        if len(names) < 2:
            raise UsageError(f"{where}: all heads have the label {names[0]!r}. Use at least two labels")
        codes = np.array([names.index(labels[head]) for head in range(n_heads)])
        return Partition(self.name, len(names), codes, given=True, names=tuple(names))


def open_labels(spec: str) -> GivenLabels:
    """Open the labels that `spec` names.

    Args:
        spec: `even_odd`, or a .csv, .tsv or .parquet file with columns `head` and `label`, and optionally `layer` and
            `kind`. The file's stem becomes the name.

    Raises:
        UsageError: there is no such file, it lacks a column, or it names an unknown kind of weights.
    """
    if spec == EVEN_ODD:
        return GivenLabels(EVEN_ODD)
    path = Path(spec)
    reader = _READERS.get(path.suffix)
    if reader is None or not path.is_file():
        kinds = ", ".join(_READERS)
        raise UsageError(f"labels {spec!r} are neither {EVEN_ODD!r} nor an existing file ({kinds})")
    if path.stem in ("all", *METHODS, EVEN_ODD):
        raise UsageError(f"{path}: {path.stem!r} is already the name of a clustering. Rename the file")
    try:
        frame = reader(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{path} cannot be read as a table of labels: {error}") from error
    return GivenLabels(path.stem, tuple(_rows(path, frame)))


def _rows(path: Path, frame: pl.DataFrame) -> Iterable[tuple[str | None, int | None, int, str]]:
    lacking = [name for name in ("head", "label") if name not in frame.columns]
    if lacking:
        raise UsageError(f"{path} has no column {lacking[0]!r}; it has {', '.join(frame.columns)}")
    if not len(frame):
        raise UsageError(f"{path} holds no labels: give one row per head")
    wanted = {"kind": pl.String, "layer": pl.Int64, "head": pl.Int64, "label": pl.String}
    columns = [
        pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in wanted.items()
    ]
    try:
        table = frame.select(columns)
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"{path}: layers and heads must be whole numbers, counted from 0 ({error})") from error
    known = (*KINDS, *CIRCUITS)
    unknown = [kind for kind in table["kind"].drop_nulls().unique(maintain_order=True) if kind not in known]
    if unknown:
        raise UsageError(
            f"{path}: there is no kind of weights {unknown[0]!r}. Use {', '.join(known)}, or leave it empty"
        )
    if table["head"].null_count() or table["label"].null_count():
        raise UsageError(f"{path}: every row needs a head and a label")
    return table.rows()

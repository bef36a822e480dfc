"""The job `compositions`: how far each head reads what each earlier one writes, from weights alone."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import polars as pl

from headway import options, tables
from headway.errors import CheckpointError
from headway.options import documented
from headway.stats.corrections import holm, over
from headway.suites import Checkpoint

if TYPE_CHECKING:
    from headway.models.opened import Opened

# Part of the job's identity. Raise it when the numbers change: then old partitions are not reused.
DEFINITIONS_VERSION = 1


@documented(options.RELATE)
@dataclass(frozen=True)
class HeadCompositions:
    """The job that computes composition of all pairs of heads of a checkpoint, table `compositions`.

    Attributes:
        {options}
    """

    device: str = field(default=options.DEVICE.default, compare=False)
    keep_files: bool = field(default=options.KEEP_FILES.default, compare=False)

    table = "compositions"
    needs = frozenset({"config", "weights", "tokenizer"})

    def identity(self) -> dict[str, Any]:
        """Return all settings that affect the numbers."""
        return {"definitions": DEFINITIONS_VERSION}

    def read(self, checkpoint: Checkpoint) -> AbstractContextManager[Opened]:
        """Fetch the files and read the weights."""
        from headway.models.opened import opened

        return opened(checkpoint, self.needs, dtype="float32", device=self.device, keep_files=self.keep_files)

    def compute(self, checkpoint: Checkpoint, input: Opened) -> pl.DataFrame:
        """Return one row per kind and pair of heads.

        Raises:
            CheckpointError: a weight is not finite, or the model has a single layer.
            UnsupportedModel: headway does not know the model's weights.
        """
        from headway.circuits.composition import compositions
        from headway.models.paths import Paths

        found = compositions(Paths(input.model))
        frame = pl.DataFrame({one.name: getattr(found, one.name) for one in fields(found)})
        if frame.is_empty():
            raise CheckpointError(f"{checkpoint.key} has one layer, so no head can read what another one writes")
        frame = frame.with_columns(pl.col("composition", "z", "p").fill_nan(None))
        if frame["composition"].null_count() == frame.height:
            raise CheckpointError(f"no composition of {checkpoint.key} is finite: its weights are zero or damaged")
        frame = frame.with_columns(
            excess=pl.col("composition") - pl.col("chance"),
            p_holm=over(frame["p"], holm),
            **{name: pl.lit(value) for name, value in input.columns(checkpoint).items()},
        )
        types = tables.schema(tables.COMPOSITIONS_COLUMNS, dict(checkpoint.axes))
        return frame.select(pl.col(name).cast(dtype) for name, dtype in types.items())

"""The job `texts`: the scores of every head on every text, whose means are the table `heads`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headway import tables
from headway.attention.job import HeadScores
from headway.attention.scores import DEFINITIONS
from headway.suites import Checkpoint
from headway.text import count, listed

if TYPE_CHECKING:
    from headway.models import Geometry, Tokenizer
    from headway.models.opened import Opened


@dataclass(frozen=True)
class TextScores:
    """The job that keeps a row per head and text, table `texts`. The scores are those that `heads` computes.

    In one sweep with that job, the texts are read once for both.
    """

    heads: HeadScores

    table = "texts"
    needs = HeadScores.needs

    @property
    def reads_logits(self) -> bool:
        """Whether a score needs the unembedding."""
        return self.heads.reads_logits

    def identity(self) -> dict[str, Any]:
        """Return all settings that affect the numbers: those of the means."""
        return self.heads.identity()

    def read(self, checkpoint: Checkpoint) -> AbstractContextManager[Opened]:
        """Fetch the files and read the weights."""
        return self.heads.read(checkpoint)

    def compute(self, checkpoint: Checkpoint, input: Opened) -> pl.DataFrame:
        """Return one row per head and text, ordered by layer, head and text; then those on repeated tokens.

        Raises:
            CheckpointError: a score is not finite, or the device has too little memory.
        """
        input.geometry.require_causal("the table texts")
        on_texts, on_repeated = self.heads.by_text(checkpoint, input)
        texts = input.texts(self.heads.corpus, self.heads.add_bos)
        numbers, of_window, windows = np.unique(texts.text, return_inverse=True, return_counts=True)
        means = {name: _averaged(values, of_window, len(numbers), windows) for name, values in on_texts.items()}
        parts = [
            _rows(means, numbers, repeated=False),
            _rows(on_repeated, np.arange(len(next(iter(on_repeated.values()), ()))), repeated=True),
        ]
        frame = pl.concat([part for part in parts if part.height], how="diagonal")
        frame = frame.filter(~pl.col("layer").is_in(input.geometry.without_heads))
        frame = frame.with_columns(run=pl.lit(checkpoint.run), step=pl.lit(checkpoint.step))
        scores = [name for name in self.heads.scores if name in frame.columns]
        types = tables.schema(tables.TEXTS_COLUMNS) | dict.fromkeys(scores, pl.Float32())
        return frame.select(pl.col(name).cast(dtype) for name, dtype in types.items())

    def look_before(self, checkpoints: Sequence[Checkpoint]) -> list[str]:
        """A sentence on how many rows the table will have, from the small files of one checkpoint of each size."""
        from headway.models.opened import before_the_sweep

        by_size: dict[str, list[Checkpoint]] = {}
        for checkpoint in checkpoints:
            by_size.setdefault(checkpoint.size, []).append(checkpoint)
        rows = {size: before_the_sweep(own[0], self._rows) for size, own in by_size.items()}
        known = {size: n for size, n in rows.items() if n is not None}
        if not known:
            return []
        total = sum(n * len(by_size[size]) for size, n in known.items())
        each = listed([f"{n:,} for a checkpoint of {size}" for size, n in known.items()])
        return [f"the table texts will have {count(total, 'row')}: {each}"]

    def _rows(self, tokenizer: Tokenizer, geometry: Geometry) -> int:
        from headway.models.opened import tokenized

        texts = tokenized(self.heads.corpus, tokenizer, geometry, self.heads.add_bos)
        repeated = [DEFINITIONS[name].repeated for name in self.heads.scores]
        n = (len(np.unique(texts.text)) if not all(repeated) else 0) + (
            self.heads.repeated_texts if any(repeated) else 0
        )
        return n * geometry.n_layers * geometry.n_heads


def _averaged(values: np.ndarray, of_window: np.ndarray, n_texts: int, windows: np.ndarray) -> np.ndarray:
    """Average `values` (windows, layers, heads) over the windows of each text: (texts, layers, heads)."""
    sums = np.zeros((n_texts, *values.shape[1:]))
    np.add.at(sums, of_window, values)
    sums /= windows[:, None, None]
    return sums


def _rows(values: dict[str, np.ndarray], numbers: np.ndarray, *, repeated: bool) -> pl.DataFrame:
    """One row per head and text of scores (texts, layers, heads)."""
    if not values:
        return pl.DataFrame()
    _, n_layers, n_heads = next(iter(values.values())).shape
    layer, head, text = np.meshgrid(np.arange(n_layers), np.arange(n_heads), numbers, indexing="ij")
    columns = {name: np.moveaxis(own, 0, -1).ravel() for name, own in values.items()}
    places = {"layer": layer.ravel(), "head": head.ravel(), "text": text.ravel()}
    return pl.DataFrame({**places, **columns}).with_columns(repeated=pl.lit(repeated))

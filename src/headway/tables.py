"""Every table's columns: name, type, unit, meaning. Imports nothing of ours.

A table is wide and tidy: one row per head and checkpoint, one column per score. Layers and heads count
from 0.
`layer_number`, `depth` and `step + 1` are a study's business and are not stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class Column:
    name: str
    dtype: pl.DataType
    unit: str
    meaning: str


@dataclass(frozen=True)
class Score:
    """A number for one head on one corpus. `title` labels axes; `formula` is for one text of T tokens."""

    name: str
    title: str
    unit: str
    formula: str


# What identifies a checkpoint's model, in every table that has rows of checkpoints.
CHECKPOINT_COLUMNS = (
    Column("suite", pl.String(), "", "family of training runs"),
    Column("run", pl.String(), "", "one training run: the repository's or folder's name"),
    Column("model", pl.String(), "", "the run's name without its seed, such as pythia-14m"),
    Column("size", pl.String(), "", "the size as the suite names it, such as 14m"),
    Column("seed", pl.String(), "", "the seed as the suite names it, such as 1 or data-seed2"),
    Column("step", pl.Int64(), "optimizer steps", "training step, 0 is initialisation"),
    Column("n_params", pl.Int64(), "parameters", "embedding and unembedding included"),
    Column("n_layers", pl.Int32(), "layers", "layers of the model"),
    Column("n_heads", pl.Int32(), "heads", "query heads in a layer"),
)

HEAD_COLUMNS = (
    Column("layer", pl.Int32(), "", "counted from 0"),
    Column("head", pl.Int32(), "", "query head within its layer, counted from 0"),
)

# One row per checkpoint and head, then one Float64 column per score that was asked for.
HEADS_KEY = ("run", "step", "layer", "head")
HEADS_COLUMNS = CHECKPOINT_COLUMNS + HEAD_COLUMNS

SCORES = {
    score.name: score
    for score in (
        Score("prev", "Attention to the previous token", "probability", "mean over i = 1..T-1 of A[i, i-1]"),
        Score("self", "Attention to the token itself", "probability", "mean over i = 0..T-1 of A[i, i]"),
        Score("first", "Attention to the first token", "probability", "mean over i = 0..T-1 of A[i, 0]"),
        Score("prev_self_ratio", "Previous/self attention ratio", "ratio", "prev / self"),
        Score(
            "prev_all_ratio",
            "Previous/all attention ratio",
            "ratio",
            "prev / mean of the T × T matrix = prev · T",
        ),
        Score(
            "prev_fraction",
            "Fraction of all attention on previous tokens",
            "fraction",
            "prev / sum of the matrix = prev / T",
        ),
        Score("entropy", "Attention entropy", "nats", "mean over i of -sum_j A[i, j] log A[i, j]"),
        Score(
            "entropy_norm",
            "Normalised attention entropy",
            "fraction",
            "mean over i = 1..T-1 of row i's entropy / log(i + 1)",
        ),
        Score("distance", "Attention distance", "tokens", "mean over i of sum_j A[i, j] (i - j)"),
        Score(
            "induction",
            "Induction (prefix matching)",
            "probability",
            "L distinct random tokens, repeated once: mean over i = L..2L-1 of A[i, i-L+1]",
        ),
        Score(
            "duplicate",
            "Attention to the duplicate token",
            "probability",
            "L distinct random tokens, repeated once: mean over i = L..2L-1 of A[i, i-L]",
        ),
    )
}

# One number per checkpoint, repeated on its heads' rows: capability beside mechanism.
MODEL_COLUMNS = (
    Column("loss", pl.Float64(), "nats per token", "language-model loss on the corpus"),
    Column(
        "repeat_accuracy",
        pl.Float64(),
        "fraction",
        "share of next tokens predicted right within the second copy of repeated random tokens",
    ),
)


def schema(columns: tuple[Column, ...]) -> dict[str, pl.DataType]:
    """The polars schema of `columns`."""
    return {column.name: column.dtype for column in columns}


def score_columns(frame: pl.DataFrame) -> list[str]:
    """The scores that a heads table holds, in the order of `SCORES`."""
    return [name for name in SCORES if name in frame.columns]

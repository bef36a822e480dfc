"""Join per-head tables of several files by run, step, layer and head."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from headway.errors import UsageError
from headway.published.layout import GEOMETRY
from headway.tables import (
    HEADS_COLUMNS,
    SCORES,
    samples_column,
    schema,
    score_columns,
    with_stack,
    with_tokens,
)
from headway.text import count, listed

_HEAD = ["run", "step", "layer", "head"]
_NAMES = ["model", "size", "seed"]
_MOST_STEPS = 6  # the most steps that a sentence lists


def join(tables: Sequence[tuple[str, pl.DataFrame]], suite: str) -> tuple[pl.DataFrame, list[str]]:
    """Join tables with one row per head.

    A head that a file lacks has null in that file's scores. Where files state different sizes of a model, the first file
    that states one is right; a size that none states is counted from the rows.

    Args:
        tables: the name of each file, and its rows: run, model, size, seed, step, layer, head, scores, the columns that count
            samples, and those of n_params, n_layers and n_heads that it states.

    Returns:
        The table `heads`, sorted; and sentences on what disagrees and what is missing.

    Raises:
        UsageError: two files have the same score for the same head.
    """
    rows = pl.concat([frame.drop(GEOMETRY, strict=False) for _, frame in tables], how="diagonal")
    scores = score_columns(rows)
    values = [name for score in scores for name in (score, samples_column(score)) if name in rows.columns]
    if len(tables) > 1:
        _require_single(rows, scores)
        # At most one file has a value, so that the largest one is it.
        rows = rows.group_by(_HEAD).agg(pl.first(*_NAMES), pl.max(*values))
    geometry, doubts = _geometry(tables)
    rows = rows.join(geometry, on="model", how="left").with_columns(suite=pl.lit(suite))
    rows = rows.with_columns(
        n_layers=pl.coalesce("n_layers", pl.col("layer").max().over("model") + 1),
        n_heads=pl.coalesce("n_heads", pl.col("head").max().over("model") + 1),
    ).sort(_HEAD)
    types = schema(HEADS_COLUMNS)
    counts = [name for name in values if name not in SCORES]
    heads = with_stack(with_tokens(rows)).select(
        *(pl.col(name).cast(dtype) for name, dtype in types.items()), *scores, *counts
    )
    return heads, doubts + missing(heads)


def _require_single(rows: pl.DataFrame, scores: list[str]) -> None:
    """Check that no head has two values of a score."""
    for score in scores:
        filled = rows.filter(pl.col(score).is_not_null()).select(_HEAD)
        twice = filled.filter(filled.is_duplicated())
        if twice.height:
            run, step, layer, head = twice.row(0)
            raise UsageError(
                f"{twice.height} rows describe a head more than once: two files hold {score!r} of the same head. The first "
                f"is run {run}, step {step}, layer {layer}, head {head}, counted from 0. Was a file given twice?"
            )


def _geometry(tables: Sequence[tuple[str, pl.DataFrame]]) -> tuple[pl.DataFrame, list[str]]:
    """n_params, n_layers and n_heads of each model, null where no file states it; and sentences on disagreements."""
    stated = pl.concat(
        [
            frame.select("model", *(name for name in GEOMETRY if name in frame.columns))
            .unique(maintain_order=True)
            .with_columns(file=pl.lit(name))
            for name, frame in tables
        ],
        how="diagonal",
    )
    absent = [pl.lit(None, dtype=pl.Int64).alias(name) for name in GEOMETRY if name not in stated.columns]
    stated = stated.with_columns(absent)
    doubts = []
    for name in GEOMETRY:
        given = stated.drop_nulls(name).unique(["model", name], keep="first", maintain_order=True)
        for (model,), values in given.group_by("model", maintain_order=True):
            if values.height > 1:
                told = listed([f"{value:,} in {file}" for value, file in values.select(name, "file").rows()])
                doubts.append(f"{name} of {model} differs: {told}. The first one is kept")
    first = [pl.col(name).drop_nulls().first() for name in GEOMETRY]
    return stated.group_by("model", maintain_order=True).agg(first), doubts


def missing(heads: pl.DataFrame) -> list[str]:
    """A sentence for each score and model whose cells are empty: how many, of how many runs, at which steps."""
    found = []
    for score in score_columns(heads):
        empty = heads.filter(pl.col(score).is_null())
        for (model,), rows in empty.group_by("model", maintain_order=True):
            of = heads.filter(pl.col("model") == model)
            steps = rows["step"].unique().sort().to_list()
            shown = ", ".join(map(str, steps[:_MOST_STEPS])) + (", …" if len(steps) > _MOST_STEPS else "")
            found.append(
                f"{score} of {model} is missing in {rows.height:,} of {count(of.height, 'row')}: "
                f"{count(rows['run'].n_unique(), 'run')}, {len(steps)} of {count(of['step'].n_unique(), 'step')} ({shown})"
            )
    return found

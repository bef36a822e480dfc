"""From the rows of a file to one row per head: numbers parsed, counted from 0, and samples averaged."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from headway.errors import UsageError
from headway.published.files import finite_numbers, require_filled, whole_numbers
from headway.published.layout import GEOMETRY, Layout
from headway.tables import samples_column

_HEAD = ["run", "step", "layer", "head"]
_LARGEST = 2**31 - 1  # what the columns of layers and heads hold
_TOTALS = (("layer", "n_layers"), ("head", "n_heads"))


def with_numbers(path: Path, raw: pl.DataFrame, frame: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Parse the cells of `raw` that `layout` names, and put them beside the names of runs in `frame`.

    Raises:
        UsageError: a cell is no number, or too large for the table.
    """
    parsed = []
    for name, column in layout.places.items():
        if name == "sample":
            require_filled(path, raw, column)
            parsed.append(raw[column].alias(name))
            continue
        numbers = whole_numbers(path, raw, column).alias(name)
        if name in ("layer", "head", "n_layers", "n_heads") and (numbers.abs() > _LARGEST).any():
            raise UsageError(f"{path}: column {column} holds a number that is too large for a number of {name}")
        parsed.append(numbers)
    values = [finite_numbers(path, raw, columns[0]).alias(name) for name, columns in layout.values.items()]
    return frame.select("run", "model", "size", "seed", "step").with_columns(*parsed, *values)


def counted_from_0(path: Path, frame: pl.DataFrame, layout: Layout, given: int | None) -> tuple[pl.DataFrame, int]:
    """Count layers and heads from 0.

    Args:
        given: the number of the first layer and head in the file; None if the file must show it.

    Returns:
        The frame, and the number of the first layer and head in the file.

    Raises:
        UsageError: it is not clear where the file counts from, or a number is out of range.
    """
    first = _first(path, frame, layout) if given is None else given
    for name, _ in _TOTALS:
        if (lowest := _lowest(frame, name)) < first:
            raise UsageError(
                f"{path}: published tables count {name}s from {first}; column {layout.places[name]} holds {lowest}. "
                "--first-layer says where layers and heads are counted from"
            )
    frame = frame.with_columns(pl.col("layer", "head") - first)
    for name, total in _TOTALS:
        beyond = frame.filter(pl.col(name) >= pl.col(total)) if total in frame.columns else frame.head(0)
        if beyond.height:
            number, most = beyond.select(name, total).row(0)
            said = f"{number + 1} is above" if first else f"{number}, counted from 0, is not below"
            raise UsageError(f"{path}: {layout.places[name]} {said} {total}, which is {most}")
    return frame, first


def _first(path: Path, frame: pl.DataFrame, layout: Layout) -> int:
    """The number of the first layer and head, as the file shows it."""
    if layout.first is not None:
        return layout.first
    if 0 in (_lowest(frame, "layer"), _lowest(frame, "head")):
        return 0
    if any(total in frame.columns and (frame[name] == frame[total]).any() for name, total in _TOTALS):
        return 1
    raise UsageError(
        f"{path} has neither a layer 0 nor a head 0, so layers and heads may be counted from 0 or from 1. "
        "Say which: --first-layer 0 or --first-layer 1"
    )


def _lowest(frame: pl.DataFrame, name: str) -> int:
    return int(frame[name].min() or 0)  # type: ignore[arg-type]


def one_row_per_head(path: Path, frame: pl.DataFrame, scores: list[str]) -> pl.DataFrame:
    """One row per run, step, layer and head: each score averaged over the samples that have it, and their number.

    Raises:
        UsageError: a head, or a sample of one, has two rows.
    """
    own = [
        "run",
        "model",
        "size",
        "seed",
        "step",
        "layer",
        "head",
        *(name for name in GEOMETRY if name in frame.columns),
    ]
    sampled = "sample" in frame.columns
    _require_unique(path, frame, [*_HEAD, "sample"] if sampled else _HEAD)
    if not sampled:
        counts = [pl.col("n_samples").alias(samples_column(score)) for score in scores if "n_samples" in frame.columns]
        return frame.select(*own, *scores, *counts)
    heads = frame.group_by(_HEAD, maintain_order=True).agg(
        pl.first(*(name for name in own if name not in _HEAD)),
        *(pl.col(score).mean() for score in scores),
        *(pl.col(score).count().cast(pl.Int64).alias(samples_column(score)) for score in scores),
    )
    return heads.select(*own, *scores, *map(samples_column, scores))


def _require_unique(path: Path, frame: pl.DataFrame, keys: list[str]) -> None:
    twice = frame.filter(frame.select(keys).is_duplicated())
    if twice.height:
        where = ", ".join(f"{name} {value}" for name, value in zip(keys, twice.select(keys).row(0), strict=True))
        hint = "Keep one" if "sample" in keys else "If a row is a sample, name its column: --columns 'sample=…'"
        raise UsageError(
            f"{path}: {twice.height} rows describe a head more than once. The first is {where} (counted from 0). {hint}"
        )

"""Rows of the table `abilities` before a run directory completes them: one per checkpoint and ability."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import polars as pl

from headway.errors import UsageError
from headway.known_abilities import unit_of
from headway.published.layout import GEOMETRY, Layout
from headway.tables import ABILITIES_COLUMNS, SCORES, TOKENS_SEEN, schema

# All columns but the suite, which the import as a whole knows.
ABILITY_ROWS = {
    name: dtype for name, dtype in schema(ABILITIES_COLUMNS).items() if name not in ("suite", TOKENS_SEEN.name)
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_CHECKPOINT = ["run", "step"]


class Row(NamedTuple):
    """A row with the columns `ABILITY_ROWS`, in their order."""

    run: str
    model: str
    size: str
    seed: str
    step: int
    n_params: int | None
    n_layers: int | None
    n_heads: int | None
    ability: str
    value: float
    std_error: float | None
    unit: str | None
    higher_is_better: bool | None
    n_samples: int | None
    source: str


def no_abilities() -> pl.DataFrame:
    return pl.DataFrame(schema=ABILITY_ROWS)


def with_sizes(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with the columns n_params, n_layers and n_heads, null where it lacks them."""
    return frame.with_columns(
        pl.lit(None, dtype=ABILITY_ROWS[name]).alias(name) for name in GEOMETRY if name not in frame.columns
    )


def require_ability_name(name: str, path: Path) -> None:
    """Check that `name` can name an ability: it may become part of a file's name, and must not look like a score.

    Raises:
        UsageError: it is the name of a score or of a column, or holds other characters than letters, digits and `._+-`.
    """
    if name in SCORES:
        raise UsageError(f"{path}: the ability {name!r} has the name of a score. Name it otherwise with --columns")
    if name in schema(ABILITIES_COLUMNS):
        raise UsageError(f"{path}: the ability {name!r} has the name of a column. Name it otherwise with --columns")
    if not _NAME.fullmatch(name) or ".." in name:
        raise UsageError(
            f"{path}: the ability {name!r} needs another name: letters, digits, '.', '_', '+' and '-', starting with a "
            "letter or digit. Give one with --columns"
        )


def of_checkpoints(path: Path, frame: pl.DataFrame, name: str, layout: Layout, source: str) -> pl.DataFrame:
    """The ability `name` of each checkpoint, from a column that repeats it on the rows of all heads.

    With samples, the value is the mean over samples and the standard error is that of this mean.

    Args:
        frame: one row per head, or per sample and head.

    Raises:
        UsageError: the heads of a checkpoint (or of a sample) have different values, or `name` cannot name an ability.
    """
    require_ability_name(name, path)
    sampled = "sample" in frame.columns
    unit = [*_CHECKPOINT, "sample"] if sampled else _CHECKPOINT
    filled = frame.filter(pl.col(name).is_not_null())
    once = (
        with_sizes(filled)
        .group_by(unit, maintain_order=True)
        .agg(
            pl.first("model", "size", "seed", *GEOMETRY),
            pl.first(name),
            low=pl.col(name).min(),
            high=pl.col(name).max(),
            n_samples=pl.first("n_samples") if "n_samples" in frame.columns else pl.lit(None, dtype=pl.Int64),
            std_error=pl.lit(None, dtype=pl.Float64),
        )
    )
    _require_one_value(path, once, name, layout.values[name][0])
    if sampled:
        value = pl.col(name)
        once = once.group_by(_CHECKPOINT, maintain_order=True).agg(
            pl.first("model", "size", "seed", *GEOMETRY),
            value.mean(),
            n_samples=value.count(),
            std_error=value.std() / value.count().sqrt(),
        )
    known_unit, better = unit_of(name)
    rows = once.with_columns(
        ability=pl.lit(name),
        value=pl.col(name),
        unit=pl.lit(known_unit),
        higher_is_better=pl.lit(better),
        source=pl.lit(source),
    )
    return rows.select(pl.col(column).cast(dtype) for column, dtype in ABILITY_ROWS.items())


def _require_one_value(path: Path, once: pl.DataFrame, name: str, column: str) -> None:
    differing = once.filter(pl.col("low") < pl.col("high"))
    if differing.height:
        run, step, low, high = differing.select("run", "step", "low", "high").row(0)
        near = get_close_matches(name, SCORES, n=1)
        meant = f", did you mean {near[0]!r}?" if near else "."
        raise UsageError(
            f"{path}: column {column} differs between the heads of {run} at step {step} ({low:g} to {high:g}), so it is no "
            f"ability of a checkpoint, and {name!r} is no score{meant} The scores are {', '.join(SCORES)}"
        )

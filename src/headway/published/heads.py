"""Read per-head tables of others into headway's table `heads`, and what they say of checkpoints into `abilities`.

A file has a row for each head of each checkpoint, or one for each sample and head; samples are averaged. Known are the
columns of "Variation in previous-token attention", which counts layers and heads from 1 and whose `step_modded` is
step + 1, and those of the same author's table of induction, which counts from 0. For others, `--columns` says which
column is what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import polars as pl

from headway.errors import UsageError
from headway.known_abilities import ABILITIES
from headway.published.files import read_csv, require_files
from headway.published.head_rows import counted_from_0, one_row_per_head, with_numbers
from headway.published.joining import join
from headway.published.layout import (
    Layout,
    given_layout,
    guess,
    has_columns,
    identified,
    lacking,
    left_out,
    parse_columns,
    require_one_column,
)
from headway.published.rows import no_abilities, of_checkpoints
from headway.tables import SCORES
from headway.text import count

# The columns of "Variation in previous-token attention" that identify a row.
_PUBLISHED = ("mpath", "step_modded", "Layer", "Head", "seed_name", "n_params", "n_layers")
# Published names of scores and abilities.
_VALUES = {
    "mean_1back": "prev",
    "mean_self": "self",
    "mean_first": "first",
    "mean_prev_self_ratio": "prev_self_ratio",
    "mean_prev_all_ratio": "prev_all_ratio",
    "mean_ps": "induction",
    "ps": "induction",
    "mean_ar_acc": "published_repeat_accuracy",
    "ar_acc": "published_repeat_accuracy",
    "mean_ar_rank": "published_repeat_rank",
    "ar_mean_rank": "published_repeat_rank",
}
_EXAMPLE = "run=mpath+seed, step=step, layer=layer, head=head, induction=ps"


@dataclass(frozen=True)
class Imported:
    """What files hold.

    Attributes:
        heads: `HEADS_COLUMNS`, then each score, and a column that counts its samples where they are known; one row per
            run, step, layer and head.
        abilities: the columns `rows.ABILITY_ROWS`; a row per checkpoint and ability.
        recognised: a sentence for each file that says how it was read.
        doubts: sentences on values that disagree or are missing.
    """

    heads: pl.DataFrame
    abilities: pl.DataFrame
    recognised: list[str]
    doubts: list[str]


def read_published(paths: Sequence[str | PathLike[str]], *, suite: str = "published") -> pl.DataFrame:
    """The table `heads` of `read_heads`, for files whose columns have known names."""
    return read_heads(paths, suite=suite).heads


def read_heads(
    paths: Sequence[str | PathLike[str]],
    *,
    names: Sequence[str] = (),
    suite: str = "published",
    columns: str = "",
    first_layer: int | None = None,
    say: Callable[[str], None] = lambda words: None,
) -> Imported:
    """Read CSV files, plain or gzipped, and join them by run, step, layer and head.

    Args:
        names: what the files are called in sentences and in the column `source`; their own names if not given.
        suite: value of the column `suite`.
        columns: which column is what, as `--columns`; it holds for the files that have all these columns.
        first_layer: 0 or 1, the number of the first layer and the first head in the files.
        say: is told how each file was read, as soon as it was.

    Raises:
        UsageError: a file cannot be read, is not UTF-8, lacks a column or has no rows; a number is not finite (a score
            may be missing: NA, NaN or empty); it is not clear where layers are counted from; an ability differs between
            the heads of a checkpoint; or a head has two values of a score.
    """
    files = require_files(paths)
    given = parse_columns(columns)
    raws = [read_csv(path) for path in files]
    uses = [bool(given) and has_columns(given, raw.columns) for raw in raws]
    if given and not any(uses):
        given_layout(files[0], given, raws[0].columns)  # raises the error that says what is absent
    tables = []
    for path, name, raw, use in zip(files, names or [path.name for path in files], raws, uses, strict=True):
        table = _read_one(path, name, raw, given if use else {}, first_layer)
        say(table.said)
        tables.append(table)
    heads, doubts = join([(table.name, table.heads) for table in tables], suite)
    abilities = pl.concat([table.abilities for table in tables])
    return Imported(heads, abilities, [table.said for table in tables], doubts)


@dataclass(frozen=True)
class _Table:
    """One file: `heads` with a column per score, `abilities` with a row per checkpoint and ability."""

    name: str
    heads: pl.DataFrame
    abilities: pl.DataFrame
    said: str


def _read_one(path: Path, name: str, raw: pl.DataFrame, given: dict[str, str], first: int | None) -> _Table:
    layout = given_layout(path, given, raw.columns) if given else _known_layout(path, raw.columns)
    absent = [place for place in ("layer", "head") if place not in layout.places]
    if absent:
        raise lacking(path, raw.columns, absent, _EXAMPLE)
    scores = [value for value in layout.values if value in SCORES]
    if not scores:
        raise UsageError(f"{path} has no score: expected at least one of {', '.join([*_VALUES, *SCORES])}")
    require_one_column(layout)
    if raw.is_empty():
        raise UsageError(f"{path} has a header but no rows: give a file with one row per head")
    frame = with_numbers(path, raw, identified(path, raw, layout), layout)
    frame, first = counted_from_0(path, frame, layout, first)
    runs, steps = frame["run"].n_unique(), frame["step"].n_unique()
    said = (
        f"{name}: {count(raw.height, 'row')} of {count(runs, 'run')}, such as {frame['run'][0]}, and {count(steps, 'step')}; "
        f"layers and heads count from {first}; {layout.describe()}{left_out(layout, raw.columns)}"
    )
    found = [of_checkpoints(path, frame, value, layout, name) for value in layout.values if value not in SCORES]
    abilities = pl.concat(found) if found else no_abilities()
    return _Table(name, one_row_per_head(path, frame, scores), abilities, said)


def _known_layout(path: Path, columns: Sequence[str]) -> Layout:
    """The layout of a file whose columns have known names.

    Raises:
        UsageError: a column is absent, or a score stands under two names.
    """
    layout = guess(columns)
    if "step" not in columns and {"step_modded", "mpath"} & set(columns):
        absent = [name for name in _PUBLISHED if name not in columns]
        if absent:
            raise lacking(path, columns, absent, _EXAMPLE)
    if layout is None:
        raise lacking(path, columns, [one for one in ("run", "step", "layer", "head") if one not in columns], _EXAMPLE)
    named = {column: _VALUES.get(column, column) for column in columns if column in {*_VALUES, *SCORES, *ABILITIES}}
    if len(set(named.values())) < len(named):
        raise UsageError(f"{path} holds a score under two names; its scores are {', '.join(named)}. Remove one of them")
    return replace(layout, values={value: (column,) for column, value in named.items()})

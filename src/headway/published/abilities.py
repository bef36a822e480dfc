"""Read abilities of checkpoints: results of lm-evaluation-harness, and CSV tables with a row per checkpoint.

A CSV table is long, with the columns `ability` and `value`, or wide, with a column for each ability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import polars as pl

from headway.errors import UsageError
from headway.known_abilities import safe_ability_name, unit_of
from headway.published.evaluations import Evaluation, read_evaluation
from headway.published.files import finite_numbers, read_csv, require_files, require_filled, whole_numbers
from headway.published.layout import (
    GEOMETRY,
    Layout,
    given_layout,
    guess,
    has_columns,
    identified,
    lacking,
    left_out,
    parse_columns,
)
from headway.published.rows import ABILITY_ROWS, require_ability_name, with_sizes
from headway.text import count, listed

_EXAMPLE = "run=mpath+seed, step=step, accuracy=acc, accuracy_std_error=acc_se"
_ERROR = "_std_error"
_ERRORS = (_ERROR, "_stderr", "_se")  # what follows an ability's name in the column of its standard error
# What describes a checkpoint or a row; in a wide table, every other column of numbers is an ability.
_NO_ABILITIES = frozenset(
    {"", "suite", "run", "mpath", "model", "size", "seed", "seed_name", "step", "step_modded", "revision", *GEOMETRY}
) | {"n_samples"}
_LONG = ("ability", "value")
_OF_LONG = (*_LONG, "std_error", "unit")
_OF_HEADS = ("layer", "head", "sample")
_MOST_NAMES = 4  # the most names that a sentence lists


@dataclass(frozen=True)
class Abilities:
    """What files hold: the columns `ABILITY_ROWS`, and sentences as of `heads.Imported`."""

    rows: pl.DataFrame
    recognised: list[str]
    doubts: list[str]


def read_abilities(
    paths: Sequence[str | PathLike[str]],
    *,
    names: Sequence[str] = (),
    columns: str = "",
    say: Callable[[str], None] = lambda words: None,
) -> Abilities:
    """Read JSON results of lm-evaluation-harness, and CSV tables, plain or gzipped.

    Args:
        names: what the files are called in sentences and in the column `source`; their own names if not given.
        columns: which column of a CSV table is what, as `--columns`; it holds for the tables that have all these columns.
        say: is told how the files were read.

    Raises:
        UsageError: a file is damaged or of another kind, lacks a column, states no model or step, or holds a wrong value;
            or an ability has the name of a score.
    """
    files = require_files(paths)
    sources = list(zip(files, names or [path.name for path in files], strict=True))
    texts = [(path, name) for path, name in sources if not _is_json(path)]
    evaluations = [read_evaluation(path, name) for path, name in sources if _is_json(path)]
    recognised, doubts = _described(evaluations)
    rows = [pl.DataFrame([row for one in evaluations for row in one.rows], schema=ABILITY_ROWS, orient="row")]
    given = parse_columns(columns)
    raws = [read_csv(path) for path, _ in texts]
    uses = [bool(given) and has_columns(given, raw.columns) for raw in raws]
    if given and not any(uses):
        if not raws:
            raise UsageError("--columns is for CSV tables, and no file is one. Leave it out")
        given_layout(texts[0][0], given, raws[0].columns)  # raises the error that says what is absent
    for (path, name), raw, use in zip(texts, raws, uses, strict=True):
        table, said = _read_table(path, name, raw, given if use else {})
        rows.append(table)
        recognised.append(said)
    for said in recognised:
        say(said)
    every = pl.concat(rows)
    for ability in every["ability"].unique(maintain_order=True):
        require_ability_name(ability, files[0] if len(files) == 1 else Path("the import"))
    return Abilities(every, recognised, doubts)


def _is_json(path: Path) -> bool:
    """Whether the file starts as a JSON object or array."""
    try:
        with path.open("rb") as file:
            return file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") or path.suffix == ".json"
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def _described(evaluations: Sequence[Evaluation]) -> tuple[list[str], list[str]]:
    """How result files were read, and what is doubtful about them."""
    if not evaluations:
        return [], []
    rows = [row for one in evaluations for row in one.rows]
    runs = {one.stated: one.run for one in evaluations}
    told = ", ".join(f"{stated} is {run}" for stated, run in runs.items())
    said = (
        f"{count(len(evaluations), 'result file')} of lm-evaluation-harness: {count(len(rows), 'value')} of "
        f"{count(len({row.ability for row in rows}), 'ability', 'abilities')} at {count(len({row.step for row in rows}), 'step')}; "
        f"{told}"
    )
    doubts = [doubt for one in evaluations for doubt in one.doubts]
    if limited := sum(one.limited for one in evaluations):
        doubts.append(
            f"{count(limited, 'result file holds', 'result files hold')} only a part of each task's questions (`limit`)"
        )
    if lost := sum(one.left_out for one in evaluations):
        doubts.append(
            f"{count(lost, 'value of an evaluation is', 'values of evaluations are')} not finite, and left out"
        )
    return [said], doubts


def _read_table(path: Path, name: str, raw: pl.DataFrame, given: dict[str, str]) -> tuple[pl.DataFrame, str]:
    """The rows of a CSV table, and how it was read."""
    layout = given_layout(path, given, raw.columns) if given else _known_layout(path, raw)
    if given and set(_OF_HEADS) & set(layout.places):
        raise UsageError(
            f"--columns: the table abilities has no {', no '.join(one for one in _OF_HEADS if one in layout.places)}. Read "
            "rows of heads or samples with headway import-heads, or leave this out"
        )
    layout = replace(layout, places={one: column for one, column in layout.places.items() if one not in _OF_HEADS})
    if raw.is_empty():
        raise UsageError(f"{path} has a header but no rows: give a file with one row per checkpoint")
    frame = identified(path, raw, layout)
    counts = {name: layout.places[name] for name in ("n_samples", *GEOMETRY) if name in layout.places}
    frame = frame.drop("n_samples", *GEOMETRY, strict=False).with_columns(
        whole_numbers(path, raw, column).alias(name) for name, column in counts.items()
    )
    frame = with_sizes(frame)
    if "n_samples" not in counts:
        frame = frame.with_columns(n_samples=pl.lit(None, dtype=pl.Int64))
    values = set(layout.values)
    if values & set(_LONG):
        if not values >= set(_LONG) or not values <= set(_OF_LONG):
            raise lacking(
                path, raw.columns, [one for one in _LONG if one not in values] or ["only ability and value"], _EXAMPLE
            )
        rows = _long(path, raw, frame, layout)
    else:
        rows = _wide(path, raw, frame, layout)
    rows = rows.with_columns(source=pl.lit(name)).drop_nulls("value")
    said = (
        f"{name}: {count(raw.height, 'row')} of {count(rows['run'].n_unique(), 'run')}, such as {frame['run'][0]}, and "
        f"{count(rows['step'].n_unique(), 'step')}; {layout.describe()}{left_out(layout, raw.columns)}"
    )
    return rows.select(pl.col(column).cast(dtype) for column, dtype in ABILITY_ROWS.items()), said


def _known_layout(path: Path, raw: pl.DataFrame) -> Layout:
    columns = raw.columns
    layout = guess(columns)
    if layout is None:
        raise lacking(path, columns, [one for one in ("run", "step") if one not in columns], _EXAMPLE)
    if {"layer", "head"} <= set(layout.places):
        raise UsageError(
            f"{path} has a row for each head: read it with headway import-heads, which takes what it says of checkpoints, too"
        )
    if set(_LONG) <= set(columns):
        return replace(layout, values={one: (one,) for one in _OF_LONG if one in columns})
    values = {
        _ability_of(column): (column,)
        for column in columns
        if column not in _NO_ABILITIES and _holds_numbers(raw[column])
    }
    if not values:
        raise lacking(path, columns, ["of an ability"], _EXAMPLE)
    return replace(layout, values=values)


def _ability_of(column: str) -> str:
    """The ability's name, or that of its standard error."""
    ending = next((end for end in _ERRORS if column.endswith(end)), "")
    return safe_ability_name(column.removesuffix(ending)) + (_ERROR if ending else "")


def _holds_numbers(cells: pl.Series) -> bool:
    numbers = cells.cast(pl.Float64, strict=False)
    return numbers.null_count() == cells.null_count() < len(cells)


def _long(path: Path, raw: pl.DataFrame, frame: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """The rows of a table with the columns ability and value. Several columns of names are joined by dots."""
    for column in layout.values["ability"]:
        require_filled(path, raw, column)
    names = raw.select(pl.concat_str(layout.values["ability"], separator=".").alias("ability"))["ability"]
    known = {name: safe_ability_name(name) for name in names.unique()}
    units = {of: unit_of(of) for of in known.values()}
    ability = names.replace_strict(known)
    stated = (
        raw[layout.values["unit"][0]] if "unit" in layout.values else pl.Series([None] * raw.height, dtype=pl.String)
    )
    return frame.with_columns(
        ability=ability,
        value=_numbers(path, raw, layout, "value"),
        std_error=_numbers(path, raw, layout, "std_error"),
        unit=pl.coalesce(
            stated.alias("_unit"),
            ability.replace_strict({of: unit for of, (unit, _) in units.items()}, return_dtype=pl.String),
        ),
        higher_is_better=ability.replace_strict(
            {of: better for of, (_, better) in units.items()}, return_dtype=pl.Boolean
        ),
    )


def _numbers(path: Path, raw: pl.DataFrame, layout: Layout, name: str) -> pl.Series:
    """The numbers of a value of the layout; nulls if it has none."""
    if name not in layout.values:
        return pl.Series([None] * raw.height, dtype=pl.Float64)
    if len(layout.values[name]) > 1:
        joined = "+".join(layout.values[name])
        raise UsageError(f"--columns: {name} is one column, not {joined}. Only names are joined by +")
    return finite_numbers(path, raw, layout.values[name][0])


def _wide(path: Path, raw: pl.DataFrame, frame: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """The rows of a table with a column for each ability, and perhaps one for its standard error."""
    errors = {name for name in layout.values if name.endswith(_ERROR) and name.removesuffix(_ERROR) in layout.values}
    found = []
    for name in layout.values:
        if name in errors:
            continue
        require_ability_name(name, path)
        unit, better = unit_of(name)
        found.append(
            frame.select("run", "model", "size", "seed", "step", *GEOMETRY, "n_samples").with_columns(
                ability=pl.lit(name),
                value=_numbers(path, raw, layout, name),
                std_error=_numbers(path, raw, layout, f"{name}{_ERROR}"),
                unit=pl.lit(unit, dtype=pl.String),
                higher_is_better=pl.lit(better, dtype=pl.Boolean),
            )
        )
    if not found:
        raise lacking(path, raw.columns, ["of an ability"], _EXAMPLE)
    return pl.concat(found)


def compared(rows: pl.DataFrame, heads: pl.DataFrame | None) -> list[str]:
    """Sentences on runs and steps of `rows` that the table `heads` does not have."""
    if heads is None:
        return []
    there = heads.select("run", "model", "step").unique()
    own = rows.select("run", "model", "step").unique(maintain_order=True)
    doubts = []
    absent = own.join(there, on="run", how="anti", maintain_order="left")
    if absent.height:
        runs = absent["run"].unique(maintain_order=True).to_list()
        more = f" and {len(runs) - _MOST_NAMES} more" if len(runs) > _MOST_NAMES else ""
        same = there.filter(pl.col("model").is_in(absent["model"].unique().to_list()))
        other = f" Other runs of these models are there, such as {same.sort('run')['run'][0]}." if same.height else ""
        doubts.append(
            f"the table heads has no run {', '.join(runs[:_MOST_NAMES])}{more}. Their abilities are kept, but stand beside no "
            f"head.{other}"
        )
    known = own.join(there.select("run").unique(), on="run", how="semi", maintain_order="left")
    late = known.join(there, on=["run", "step"], how="anti", maintain_order="left")
    if late.height:
        steps = late["step"].unique().sort().to_list()
        shown = ", ".join(map(str, steps[:_MOST_NAMES])) + (", …" if len(steps) > _MOST_NAMES else "")
        doubts.append(
            f"the table heads lacks {count(late.height, 'checkpoint')} that have abilities: {count(len(steps), 'step')} "
            f"({shown}) of {listed(late['run'].unique(maintain_order=True).to_list()[:_MOST_NAMES])}"
            + (" and others" if late["run"].n_unique() > _MOST_NAMES else "")
        )
    return doubts

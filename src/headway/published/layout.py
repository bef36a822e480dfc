"""Which column of a file is what: recognised by its name, or given with `--columns`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import polars as pl

from headway.errors import UsageError
from headway.published.files import require_filled, whole_numbers
from headway.suites.names import parse_run, parse_step
from headway.text import listed

# What identifies a row: each with the columns that are taken for it, in the order in which they are tried.
_RUN = (
    ("run",),
    ("mpath", "seed_name"),
    ("mpath", "seed"),
    ("model", "seed_name"),
    ("model", "seed"),
    ("mpath",),
    ("model",),
)
_STEP = ("step", "step_modded", "revision")
_ONE_LATE = "step_modded"  # holds step + 1, so that a log axis can show step 0
GEOMETRY = ("n_params", "n_layers", "n_heads")
# Columns by which a format is known, and the number of its first layer and head: the published table of previous-token
# attention, the published tables of induction (means and samples), and headway's own table.
_KNOWN_FIRST = (
    (("mpath", "step_modded", "Layer"), 1),
    (("mpath", "layer", "mean_ps"), 0),
    (("mpath", "layer", "sample", "ps"), 0),
    (("suite", "run", "size", "layer"), 0),
)
_PLACES = ("run", "model", "seed", "step", "layer", "head", "sample", "n_samples", *GEOMETRY)
_LATER = re.compile(r"(.+)([-+])(\d+)")


@dataclass(frozen=True)
class Layout:
    """Which columns of a file hold what.

    Attributes:
        run: the columns that name the run, joined by hyphens.
        step: the column of the step, `later` steps above the true one.
        places: other columns that identify rows or describe the model, by what they hold: layer, head, sample,
            n_samples, n_params, n_layers, n_heads.
        values: the columns of numbers, by the name that they get.
        first: the number of the first layer and head, where the format is known; else None.
    """

    run: tuple[str, ...]
    step: str
    later: int = 0
    places: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    first: int | None = None

    def columns(self) -> list[str]:
        """Every column that is read."""
        return list(dict.fromkeys([*self.run, self.step, *self.places.values(), *sum(self.values.values(), ())]))

    def describe(self) -> str:
        """Say which column became what."""
        step = f"{self.step} - {self.later}" if self.later > 0 else self.step
        said = {"run": " + ".join(self.run), "step": step, **self.places}
        said |= {name: " + ".join(columns) for name, columns in self.values.items()}
        return ", ".join(f"{name} is {column}" for name, column in said.items())


def guess(columns: Sequence[str]) -> Layout | None:
    """The layout of a file by the names of its columns, without values; None if no column names a run or a step."""
    run = next((names for names in _RUN if set(names) <= set(columns)), None)
    step = next((name for name in _STEP if name in columns), None)
    if run is None or step is None:
        return None
    places = {name: name for name in ("sample", "n_samples", *GEOMETRY) if name in columns}
    for name in ("layer", "head"):
        there = next((column for column in (name, name.capitalize()) if column in columns), None)
        if there:
            places[name] = there
    later = 1 if step == _ONE_LATE else 0
    first = next((first for names, first in _KNOWN_FIRST if set(names) <= set(columns)), None)
    return Layout(run, step, later, places, first=first)


def parse_columns(words: str) -> dict[str, str]:
    """The words of `--columns`, such as "run=mpath+seed, step=step, induction=ps": columns by what they hold.

    Raises:
        UsageError: a part has no `=`, or something is given twice.
    """
    given: dict[str, str] = {}
    for part in filter(None, map(str.strip, words.split(","))):
        name, equals, column = map(str.strip, part.partition("="))
        if not (name and equals and column):
            raise UsageError(
                f"--columns: {part!r} has no NAME=COLUMN. Write it as 'run=mpath+seed, step=step, loss=nll'"
            )
        if name in given:
            raise UsageError(f"--columns gives {name} twice: {given[name]} and {column}. Remove one of them")
        given[name] = column
    return given


def has_columns(given: Mapping[str, str], columns: Sequence[str]) -> bool:
    """Whether a file with these columns has all that `--columns` names."""
    return all(_split(name, column, columns) is not None for name, column in given.items())


def given_layout(path: Path, given: Mapping[str, str], columns: Sequence[str]) -> Layout:
    """The layout that `--columns` gives for a file with `columns`.

    Raises:
        UsageError: the file lacks a column, or no run or step is given.
    """
    parts: dict[str, tuple[str, ...]] = {}
    later = 0
    for name, column in given.items():
        found = _split(name, column, columns)
        if found is None:
            absent = next(one.strip() for one in column.split("+") if one.strip() not in columns)
            near = get_close_matches(absent, columns, n=1)
            meant = f", did you mean {near[0]!r}?" if near else "."
            raise UsageError(
                f"{path} has no column {absent!r}, which --columns gives for {name}{meant} "
                f"Its columns are {', '.join(columns)}"
            )
        parts[name] = found
        if name == "step" and column not in columns:
            later = _shift(column)[1]
    run = parts.get("run") or parts.get("model", ()) + parts.get("seed", ())
    if not run or "step" not in parts:
        raise UsageError(f"--columns must say what {'step' if run else 'run'} is, such as 'run=mpath+seed, step=step'")
    for name in _PLACES[3:]:
        if len(parts.get(name, ())) > 1:
            raise UsageError(f"--columns: {name} is one column, not {given[name]}. Only names are joined by +")
    places = {name: parts[name][0] for name in _PLACES[4:] if name in parts}
    values = {name: columns for name, columns in parts.items() if name not in _PLACES}
    return Layout(run, parts["step"][0], later, places, values)


def _split(name: str, column: str, columns: Sequence[str]) -> tuple[str, ...] | None:
    """The columns that are joined by +; None if one is absent. A column's own name may hold a +."""
    if column in columns:
        return (column,)
    parts = (_shift(column)[0],) if name == "step" else tuple(part.strip() for part in column.split("+"))
    return parts if all(part in columns for part in parts) else None


def _shift(column: str) -> tuple[str, int]:
    """The column, and how far its steps are above the true ones: `step_modded-1` is 1 above."""
    found = _LATER.fullmatch(column)
    return (found[1].strip(), int(found[3]) if found[2] == "-" else -int(found[3])) if found else (column, 0)


def identified(path: Path, raw: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """`raw` with the columns run, model, size, seed and step; columns of the same names are replaced.

    Runs get the names that suites give them: `EleutherAI/pythia-14m` and seed 1 are `pythia-14m-seed1`.

    Raises:
        UsageError: a name is missing, or a step is no whole number.
    """
    for name in layout.run:
        require_filled(path, raw, name)
    keys = [f"_{name}" for name in layout.run]
    frame = raw.with_columns(pl.col(name).alias(key) for name, key in zip(layout.run, keys, strict=True))
    frame = frame.with_columns(_steps(path, raw, layout))
    cells = frame.select(keys).unique(maintain_order=True)
    names = [_run_name(row) for row in cells.rows()]
    runs = cells.with_columns(
        pl.Series(name, [row[number] for row in names], pl.String())
        for number, name in enumerate(("run", "model", "size", "seed"))
    )
    return (
        frame.drop("run", "model", "size", "seed", strict=False)
        .join(runs, on=keys, how="left", maintain_order="left")
        .drop(keys)
    )


def _run_name(cells: Sequence[str]) -> tuple[str, str, str, str]:
    """Run, model, size and seed. A number after the first part is a seed: 1 is seed1."""
    first, *rest = cells
    model = first.rstrip("/").split("/")[-1]
    parts = [_seed_name(cell) for cell in rest]
    run = "-".join([model, *parts])
    parsed = parse_run(run)
    if len(parts) == 1:  # the columns say where the model's name ends
        return run, model, parse_run(model).size, parts[0].removeprefix("seed")
    return run, parsed.model, parsed.size, parsed.seed


def _seed_name(cell: str) -> str:
    number = re.fullmatch(r"(\d+)(?:\.0+)?", cell.strip())
    return f"seed{number[1]}" if number else cell


def _steps(path: Path, raw: pl.DataFrame, layout: Layout) -> pl.Series:
    name = layout.step
    cells = raw[name].unique()
    revisions = {cell: parse_step(cell) for cell in cells if cell is not None and not _is_number(cell)}
    if revisions and all(step is not None for step in revisions.values()):
        raw = raw.with_columns(pl.col(name).replace({cell: str(step) for cell, step in revisions.items()}))
    steps = whole_numbers(path, raw, name) - layout.later
    if (lowest := steps.min()) is not None and isinstance(lowest, int) and lowest < 0:
        counted = f"steps (step + {layout.later}) from {layout.later}" if layout.later else "steps from 0"
        raise UsageError(f"{path}: published tables count {counted}; column {name} holds {lowest + layout.later}")
    _require_revisions(path, raw, name, steps, layout.later)
    return steps.alias("step")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _require_revisions(path: Path, raw: pl.DataFrame, name: str, steps: pl.Series, later: int) -> None:
    """Check that a column `revision` states the same steps."""
    if "revision" not in raw.columns or name == "revision":
        return
    stated = raw["revision"].cast(pl.String).str.extract(r"^step(\d+)$").cast(pl.Int64, strict=False)
    unlike = (stated != steps).fill_null(False)
    if unlike.any():
        row = int(unlike.arg_max() or 0)
        should = f"step + {later}" if later else "the same step"
        raise UsageError(
            f"{path}: revision {raw['revision'][row]!r} does not match {name} {steps[row] + later}, which should be {should}"
        )


def lacking(path: Path, columns: Sequence[str], absent: Sequence[str], example: str) -> UsageError:
    """Make the error for a file in which some columns were not recognised."""
    found = ", ".join(columns) or "no columns"
    return UsageError(
        f"{path} lacks the columns {', '.join(absent)}; found {found}. "
        f"If {'it has' if len(absent) == 1 else 'they have'} other names, say so: --columns {example!r}"
    )


def require_one_column(layout: Layout) -> None:
    """Check that each value is one column.

    Raises:
        UsageError: columns are joined where a number is needed.
    """
    for value, columns in layout.values.items():
        if len(columns) > 1:
            raise UsageError(f"--columns: {value} is one column, not {'+'.join(columns)}. Only names are joined by +")


def left_out(layout: Layout, columns: Sequence[str]) -> str:
    """Say which columns are not read; empty if all are."""
    others = [name for name in columns if name not in layout.columns()]
    return f". Not read: {listed(others)}" if others else ""

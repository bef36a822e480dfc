"""Read published per-head tables into headway's heads table.

The columns are those of "Variation in previous-token attention". It counts layers and heads from 1, `step_modded` is
step + 1, and `mpath` is the Hub path without the seed.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import polars as pl

from headway.errors import UsageError
from headway.tables import CHECKPOINT_COLUMNS, HEAD_COLUMNS, SCORES, schema, score_columns

_IDENTITY = ("mpath", "step_modded", "Layer", "Head", "seed_name", "n_params", "n_layers")
_SCORES = {
    "mean_1back": "prev",
    "mean_self": "self",
    "mean_first": "first",
    "mean_prev_self_ratio": "prev_self_ratio",
    "mean_prev_all_ratio": "prev_all_ratio",
}
_WHOLE = ("step_modded", "Layer", "Head", "n_params", "n_layers")


def read_published(paths: Sequence[str | PathLike[str]], *, suite: str = "published") -> pl.DataFrame:
    """Read CSV files, plain or gzipped, into one heads table.

    Args:
        paths: files with the columns mpath, step_modded, Layer, Head, seed_name, n_params, n_layers and at least one
            score. Other columns are ignored.
        suite: value of the column `suite`.

    Returns:
        `HEADS_COLUMNS`, then a Float64 column per score; one row per run, step, layer and head.

    Raises:
        UsageError: a file cannot be read, is not UTF-8, lacks a column or has no rows; a number is not finite (a score
            may be missing: NA, NaN or empty); layers are counted from 0; or a head has two rows.
    """
    frame = pl.concat([_read_one(path, suite) for path in require_files(paths)], how="diagonal")
    _check_rows_are_unique(frame)
    return frame.with_columns(n_heads=pl.col("n_heads").max().over("model")).sort("run", "step", "layer", "head")


def _read_one(path: Path, suite: str) -> pl.DataFrame:
    raw = _read_csv(path)
    absent = [name for name in _IDENTITY if name not in raw.columns]
    if absent:
        raise UsageError(
            f"{path} lacks the columns {', '.join(absent)}. A published table has {', '.join(_IDENTITY)} and scores "
            f"such as mean_1back; found {', '.join(raw.columns) or 'no columns'}"
        )
    scores = {name: _SCORES.get(name, name) for name in raw.columns if name in _SCORES or name in SCORES}
    if not scores:
        raise UsageError(f"{path} has no score: expected at least one of {', '.join([*_SCORES, *SCORES])}")
    if len(set(scores.values())) < len(scores):
        raise UsageError(
            f"{path} holds a score under two names; its scores are {', '.join(scores)}. Remove one of them"
        )
    if raw.is_empty():
        raise UsageError(f"{path} has a header but no rows: give a file with one row per head")
    raw = _numbers(path, raw, list(scores))
    _check_counts(path, raw)
    heads = _as_heads(raw.rename(scores), suite)
    return heads.select(*schema(CHECKPOINT_COLUMNS + HEAD_COLUMNS), *score_columns(heads))


def require_files(paths: Sequence[str | PathLike[str]]) -> list[Path]:
    """Expand `~` in `paths` and check that they are files.

    Raises:
        UsageError: there are no paths, or one is not a file.
    """
    if not paths:
        raise UsageError("no file to import: name one or more CSV files (.csv or .csv.gz)")
    files = [Path(path).expanduser() for path in paths]
    for file in files:
        if not file.is_file():
            raise UsageError(f"{file} is not a file: name the published CSV file (.csv or .csv.gz)")
    return files


def _read_csv(path: Path) -> pl.DataFrame:
    try:
        # All cells are read as text: a type guessed from the first rows fails at numbers in R's format, such as 1e+05.
        raw = pl.read_csv(path, infer_schema=False, null_values=["NA", "NaN", "nan", ""])
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "utf-8" in reason:
            raise _not_utf8(path) from error
        raise UsageError(f"{path} cannot be read as CSV: {reason}") from error
    if any("\ufffd" in name for name in raw.columns):  # polars replaces wrong bytes in a header without an error
        raise _not_utf8(path)
    return raw


def _not_utf8(path: Path) -> UsageError:
    """Make the error for a file that is not UTF-8. It names the first wrong cell."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode("utf-8", "surrogateescape")
    rows = csv.reader(io.StringIO(text, newline=""))
    header = next(rows)
    cells = ((column, row, cell) for row, cells in enumerate(rows, 1) for column, cell in enumerate(cells))
    wrong = next(((column, row, cell) for column, row, cell in cells if re.search("[\udc80-\udcff]", cell)), None)
    if re.search("[\udc80-\udcff]", "".join(header)) or wrong is None or wrong[0] >= len(header):
        where = "in its header"
    else:
        column, row, cell = wrong
        where = f"in column {header[column]}, row {row}: {cell.encode('utf-8', 'surrogateescape')!r}"
    return UsageError(f"{path} is not UTF-8 {where}. Save it as UTF-8 (CSV UTF-8 in a spreadsheet) and import that")


def _numbers(path: Path, raw: pl.DataFrame, scores: list[str]) -> pl.DataFrame:
    """Parse identity columns as whole numbers, and scores as finite floats. Only scores may be missing (NA)."""
    cast = raw.with_columns(
        *(pl.col(name).cast(pl.Float64, strict=False).alias(name) for name in [*_WHOLE, *scores]),
        pl.col("mpath", "seed_name").cast(pl.String),
    )
    for name in [*_WHOLE, *scores]:
        failed = (raw[name].is_not_null() & cast[name].is_null()) | cast[name].is_infinite()
        if name in _WHOLE:
            failed = raw[name].is_null() | ~cast[name].is_finite().fill_null(False) | (cast[name] != cast[name].floor())
        failed = failed.fill_null(False)
        if failed.any():
            row = int(failed.arg_max() or 0)
            kind = "a whole number" if name in _WHOLE else "a finite number, or NA where there is none"
            raise UsageError(f"{path}: column {name} must hold {kind}; row {row + 1} has {raw[name][row]!r}")
    for name in ("mpath", "seed_name"):
        if cast[name].null_count():
            row = int(cast[name].is_null().arg_max() or 0)
            raise UsageError(f"{path}: column {name} is empty in row {row + 1}")
    return cast.with_columns(pl.col(_WHOLE).cast(pl.Int64))


def _check_counts(path: Path, raw: pl.DataFrame) -> None:
    for name, what in (("Layer", "layers"), ("Head", "heads"), ("step_modded", "steps (step + 1)")):
        lowest = raw[name].min()
        if isinstance(lowest, int) and lowest < 1:
            raise UsageError(f"{path}: published tables count {what} from 1; column {name} holds {lowest}")
    beyond = raw.filter(pl.col("Layer") > pl.col("n_layers"))
    if beyond.height:
        layer, n_layers = beyond.select("Layer", "n_layers").row(0)
        raise UsageError(f"{path}: Layer {layer} is above n_layers, which is {n_layers}")
    if "revision" in raw.columns:
        stated = raw.with_columns(_stated=pl.col("revision").cast(pl.String).str.extract(r"^step(\d+)$").cast(pl.Int64))
        unlike = stated.filter(pl.col("_stated") != pl.col("step_modded") - 1)
        if unlike.height:
            revision, step = unlike.select("revision", "step_modded").row(0)
            raise UsageError(
                f"{path}: revision {revision!r} does not match step_modded {step}, which should be step + 1"
            )


def _as_heads(raw: pl.DataFrame, suite: str) -> pl.DataFrame:
    """Rename published columns to headway's: runs and models without the organisation, counts from 0."""
    model = pl.col("mpath").str.split("/").list.last()
    columns = {
        "suite": pl.lit(suite),
        "run": pl.concat_str(model, pl.lit("-"), pl.col("seed_name")),
        "model": model,
        "size": pl.coalesce(model.str.extract(r"(?i)-(\d+(?:\.\d+)?[kmb])(?:-|$)"), model),
        "seed": pl.col("seed_name").str.strip_prefix("seed"),
        "step": pl.col("step_modded") - 1,
        "n_heads": pl.col("Head").max().over("mpath"),
        "layer": pl.col("Layer") - 1,
        "head": pl.col("Head") - 1,
    }
    types = schema(CHECKPOINT_COLUMNS + HEAD_COLUMNS)
    return raw.with_columns(**columns).with_columns(pl.col(name).cast(dtype) for name, dtype in types.items())


def _check_rows_are_unique(frame: pl.DataFrame) -> None:
    keys = ["run", "step", "layer", "head"]
    twice = frame.filter(frame.select(keys).is_duplicated())
    if twice.height:
        run, step, layer, head = twice.select(keys).row(0)
        raise UsageError(
            f"{twice.height} rows describe a head more than once. The first is run {run}, step {step}, Layer "
            f"{layer + 1}, Head {head + 1}. Was a file given twice?"
        )

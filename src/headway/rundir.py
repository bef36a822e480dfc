"""The run directory: everything of one investigation, in files that are whole or absent.

DIR/manifest.json                    what was asked, per table
DIR/TABLE/RUN@STEP.parquet           one part a checkpoint
DIR/failures.jsonl                   checkpoints that could not be done, and why
DIR/analysis/STUDY.json, *.parquet   results
DIR/figures/*.svg, *.png             each figure
DIR/report.html                      opens offline
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from headway.errors import RunDirectoryError

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def safe_name(name: str, what: str = "name") -> str:
    """`name` if it can stand in a file name; data never choose a path outside the run directory.

    Raises:
        RunDirectoryError: it is empty, starts with a dot, or holds anything but letters, digits and `._+-`.
    """
    if not _SAFE_NAME.fullmatch(name) or ".." in name:
        raise RunDirectoryError(
            f"the {what} {name!r} cannot be part of a file name: use letters, digits, '.', '_', '+' and '-', "
            "starting with a letter or digit and without '..'"
        )
    return name


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place if the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes `value` to `path`, whole or not at all. NaN and infinities are an error: JSON has none."""
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )


class RunDirectory:
    """The files of one investigation. Nothing is created before something is written."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def manifest_path(self) -> Path:
        return self.path / "manifest.json"

    @property
    def analysis(self) -> Path:
        return self.path / "analysis"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    def manifest(self) -> dict[str, Any]:
        """What was asked, per table; empty where nothing was.

        Raises:
            RunDirectoryError: the manifest is not JSON.
        """
        if not self.manifest_path.exists():
            return {}
        try:
            return json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunDirectoryError(f"{self.manifest_path} cannot be read as JSON: {error}") from error

    def part_path(self, table: str, run: str, step: int) -> Path:
        return self.path / table / f"{safe_name(run, 'run name')}@{step}.parquet"

    def parts(self, table: str) -> list[Path]:
        """The parts of `table` that are there, sorted by name."""
        return sorted((self.path / table).glob("*.parquet"))

    def write_part(
        self, table: str, run: str, step: int, frame: pl.DataFrame, metadata: Mapping[str, str]
    ) -> Path:
        """Writes one checkpoint's table, whole or not at all; `metadata` travels inside the Parquet file."""
        path = self.part_path(table, run, step)
        with replacing(path) as temporary:
            frame.write_parquet(temporary, compression="zstd", metadata=dict(metadata))
        return path

    def read(self, table: str) -> pl.DataFrame:
        """All parts of `table` as one frame, in the parts' order.

        Raises:
            RunDirectoryError: there are none, or one cannot be read.
        """
        parts = self.parts(table)
        if not parts:
            raise RunDirectoryError(
                f"{self.path} holds no {table!r} table: measure or import one into it first"
            )
        frames = []
        for part in parts:
            try:
                frames.append(pl.read_parquet(part))
            except (pl.exceptions.PolarsError, OSError) as error:
                raise RunDirectoryError(
                    f"{part} cannot be read ({error}): delete it and measure again, only it will be computed"
                ) from error
        return pl.concat(frames, how="diagonal_relaxed")

    def tables(self) -> list[str]:
        """The tables that have parts."""
        reserved = {"analysis", "figures"}
        folders = (
            folder
            for folder in sorted(self.path.iterdir())
            if folder.is_dir() and folder.name not in reserved
        )
        return [folder.name for folder in folders if any(folder.glob("*.parquet"))]

"""The run directory: everything of one investigation, in files that are whole or absent.

    DIR/manifest.json                    what was asked, per table
    DIR/TABLE/RUN@STEP.parquet           one part a checkpoint
    DIR/failures.jsonl                   checkpoints that could not be done, and why
    DIR/analysis/STUDY.json, *.parquet   results
    DIR/figures/*.svg, *.png             each figure
    DIR/report.html                      opens offline

DIR is a folder, or any address that fsspec knows (`s3://bucket/sweep`): then every machine of a sweep writes there.
The manifest names, for each table, the one job that its parts are of: parts of another are neither written nor read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from headway.errors import RunDirectoryError, StorageError, UsageError
from headway.parts import encode_part, read_part, read_part_metadata
from headway.whole_files import is_remote, remove_abandoned, to_json, write_whole
from headway.words import count

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_MEND_MANIFEST = "Put a copy of it back, or remove it and run the same commands again: what they made is kept"
_NOT_TABLES = frozenset({"analysis", "figures"})


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


def fingerprint(value: Any) -> str:
    """A short hash of a JSON value, the same whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def require_folder(out: str | os.PathLike[str]) -> None:
    """Asked of every `out` before anything is fetched or computed for it. It need not be there yet.

    Raises:
        UsageError: `out` is empty, or it or what it lies in is a file.
    """
    if not str(out).strip():
        raise UsageError("--out is empty: name a folder to write to, such as --out runs/mine")
    if is_remote(str(out)):
        return
    path = Path(str(out).removeprefix("file://"))
    there = next((place for place in (path, *path.parents) if place.exists()), None)
    if there is not None and not there.is_dir():
        raise UsageError(f"--out {out}: {there} is a file. Name a folder, which need not be there yet")


class RunDirectory:
    """The files of one investigation. Nothing is created before something is written.

    Args:
        path: a folder or an fsspec address, which need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if is_remote(str(path)):
            from upath import UPath

            self.path: Path = UPath(path)  # type: ignore[assignment]  # has all of Path that is used here
        else:
            self.path = Path(str(path).removeprefix("file://"))

    @property
    def manifest_path(self) -> Path:
        return self.path / "manifest.json"

    @property
    def failures_path(self) -> Path:
        return self.path / "failures.jsonl"

    @property
    def analysis(self) -> Path:
        return self.path / "analysis"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    def require(self) -> RunDirectory:
        """Itself.

        Raises:
            RunDirectoryError: there is no manifest, so it is not a run directory.
        """
        if not self.manifest_path.exists():
            raise RunDirectoryError(
                f"{self.path} is not a run directory: it has no manifest.json. "
                "`headway measure` or `headway import-heads` makes one"
            )
        return self

    def manifest(self) -> dict[str, Any]:
        """What was asked, per table; empty where nothing was.

        Raises:
            StorageError: the manifest cannot be read, or is not as headway writes it.
        """
        if not self.manifest_path.exists():
            return {}
        try:
            manifest = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StorageError(f"{self.manifest_path} cannot be read as JSON: {error}. {_MEND_MANIFEST}") from error
        if wrong := _wrong_in(manifest):
            raise StorageError(f"{self.manifest_path} is not as headway writes it: {wrong}. {_MEND_MANIFEST}")
        return manifest

    @contextmanager
    def changing_manifest(self) -> Iterator[dict[str, Any]]:
        """The manifest, to be changed in place; written back if the block ends well.

        Processes of one machine take turns. On an object store they do not: start one command there at a time.
        """
        with self._turn():
            manifest = self.manifest()
            yield manifest
            write_whole(self.manifest_path, to_json(manifest))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if is_remote(str(self.path)):
            yield
            return
        from filelock import FileLock

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
            lock.acquire(poll_interval=0.005)
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written to: {error.strerror or error}. Choose another --out, or mend it"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def part_path(self, table: str, run: str, step: int) -> Path:
        return self.path / table / f"{safe_name(run, 'run name')}@{step}.parquet"

    def parts(self, table: str) -> list[Path]:
        """The parts of `table` that are there, sorted by name; those being written are not among them."""
        folder = self.path / table
        if not folder.is_dir():
            return []
        return sorted(part for part in folder.glob("*.parquet") if not part.name.startswith("."))

    def claimed(self, table: str) -> str:
        """The hash of the job that the manifest names for `table`; empty where it names none."""
        entry = self.manifest().get("tables", {}).get(table)
        return fingerprint(entry["identity"]) if entry else ""

    def write_part(self, table: str, run: str, step: int, frame: pl.DataFrame, metadata: Mapping[str, str]) -> Path:
        """Writes one checkpoint's table, whole or not at all, with checksums; `metadata` travels inside.

        Raises:
            RunDirectoryError: the manifest names another job than `metadata["job"]` for `table`.
            StorageError: it cannot be written.
        """
        path = self.part_path(table, run, step)
        write_whole(path, encode_part(frame, metadata), under=self._claim_of(table, metadata.get("job", "")))
        return path

    @contextmanager
    def _claim_of(self, table: str, job: str) -> Iterator[None]:
        """Nobody else can claim `table` while the block lasts."""
        with self._turn():
            if self.claimed(table) not in (job, ""):
                raise RunDirectoryError(
                    f"another command took the table {table!r} of {self.path} for something else, with --force, while "
                    "this one ran, and this one stops: its parts there are gone. Choose another --out for one of them"
                )
            yield

    def read(self, table: str) -> pl.DataFrame:
        """All parts of `table` as one frame, in the order of their names.

        Raises:
            RunDirectoryError: there are none, or some were made by another job than the manifest names.
            StorageError: one is damaged.
        """
        parts = self.parts(table)
        if not parts:
            raise RunDirectoryError(f"{self.path} holds no table {table!r}: measure or import one into it first")
        claimed = self.claimed(table)
        read = {part.name: read_part(part) for part in parts}
        foreign = [name for name, (_, metadata) in read.items() if claimed and metadata.get("job") != claimed]
        if foreign:
            raise RunDirectoryError(
                f"of {count(len(parts), 'part')} of {table!r} in {self.path}, {count(len(foreign), 'was', 'were')} made from "
                f"something else than its manifest says, such as {foreign[0]}, and must not be mixed with the others: "
                "run the command that makes the table again, with --force, and it replaces what is foreign"
            )
        return pl.concat([frame for frame, _ in read.values()], how="diagonal_relaxed")

    def tables(self) -> list[str]:
        """The tables that have parts."""
        if not self.path.is_dir():
            return []
        names = (folder.name for folder in self.path.iterdir() if folder.is_dir())
        return sorted(name for name in names if name not in _NOT_TABLES and self.parts(name))

    def drop_parts_of_others(self, table: str, job: str) -> None:
        """Deletes the parts of `table` that were not made by `job`, and those that do not say by whom."""
        for part in self.parts(table):
            if _job_of(part) != job:
                part.unlink(missing_ok=True)

    def remove_abandoned(self) -> None:
        """Removes what commands that were killed left half-written; what others are writing now stays."""
        if not is_remote(str(self.path)):  # an object store holds nothing that is half-written
            for folder in (self.path, *(entry for entry in self.path.iterdir() if entry.is_dir())):
                remove_abandoned(folder)

    def add_failure(self, failure: Mapping[str, Any]) -> None:
        """Appends one line to failures.jsonl."""
        line = json.dumps(failure, ensure_ascii=False, allow_nan=False) + "\n"
        with self._turn():
            before = self.failures_path.read_bytes() if self.failures_path.exists() else b""
            if before and not before.endswith(b"\n"):
                before += b"\n"  # a line that was torn must not take the new one with it
            write_whole(self.failures_path, before + line.encode())

    def failures(self, table: str) -> dict[str, dict[str, Any]]:
        """The last failure of each checkpoint of `table` that has no part, by its key `RUN@STEP`; those of the job that
        the manifest names.
        """
        done = {part.name.removesuffix(".parquet") for part in self.parts(table)}
        claimed = self.claimed(table)
        own = (line for line in self._failure_lines() if line["table"] == table and line.get("job", claimed) == claimed)
        found = {line["checkpoint"]: line for line in own}
        return {key: line for key, line in found.items() if key not in done}

    def _failure_lines(self) -> Iterator[dict[str, Any]]:
        """The lines that are whole: the file may have been cut short, by a copy that was broken off for one."""
        data = self.failures_path.read_bytes() if self.failures_path.exists() else b""
        for line in data.split(b"\n"):
            with suppress(ValueError):
                yield json.loads(line)


def _wrong_in(manifest: Any) -> str:
    """What in a manifest cannot be read as one; empty where all can."""
    if not isinstance(manifest, dict):
        return f"it holds no JSON object but {json.dumps(manifest)[:40]}"
    tables = manifest.get("tables", {})
    if not isinstance(tables, dict):
        return f"its `tables` are no object but {json.dumps(tables)[:40]}"
    for table, entry in tables.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("identity"), dict):
            return f"the table {table!r} lacks its `identity`, which says what it was made from"
        if not isinstance(entry.get("checkpoints"), list):
            return f"the table {table!r} lacks its `checkpoints`"
    return ""


def _job_of(part: Path) -> str:
    try:
        return read_part_metadata(part).get("job", "")
    except StorageError:
        return ""

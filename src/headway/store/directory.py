"""The run directory: all files of one investigation, each whole or absent.

    DIR/manifest.json                    what was asked, per table
    DIR/TABLE/RUN@STEP.parquet           one partition for each checkpoint
    DIR/failures.jsonl                   checkpoints that failed, and why
    DIR/analysis/STUDY/SUBJECT.json, SUBJECT.TABLE.parquet   results, such as development/prev_self_ratio.json
    DIR/figures/*.svg, *.png             each figure
    DIR/report.html                      opens offline

DIR is a folder, or any address that fsspec knows (`s3://bucket/sweep`): then every machine of a sweep writes there.
The manifest names the one job of each table. Partitions of another job are neither written nor read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from headway.errors import RunDirectoryError, StorageError, UsageError
from headway.store.files import (
    is_remote,
    locks_work,
    read_each,
    remove_abandoned,
    require_regular,
    to_json,
    write_whole,
)
from headway.store.manifest import Manifest
from headway.store.partitions import (
    SUFFIX,
    decode,
    encode_partition,
    read_partition,
    read_partition_metadata,
    read_whole,
)
from headway.text import count, listed

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_PART_NAME = re.compile(rf"{_SAFE_NAME.pattern}@[0-9]+{re.escape(SUFFIX)}")
_MEND_MANIFEST = "Restore a copy of it, or rename it and run the same commands again: they reuse finished partitions"
_AT_ONCE = 8  # partitions that are written at once
_NOT_TABLES = frozenset({"analysis", "figures"})


def safe_name(name: str, what: str = "name") -> str:
    """Return `name` if it is safe in a file name, so that data never choose a path outside the run directory.

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
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


def require_folder(out: str | os.PathLike[str]) -> None:
    """Check `out` before anything is fetched or computed. The folder need not exist yet.

    Raises:
        UsageError: `out` is empty, is a file or lies below one, is no possible path, or is an address that fsspec
            cannot open.
    """
    if not str(out).strip():
        raise UsageError("--out is empty: name a folder to write to, such as --out runs/mine")
    path = _as_path(out)
    if is_remote(str(path)):
        return
    try:
        there = next((folder for folder in (path, *path.parents) if folder.exists()), None)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--out {_cut(str(out))}: this path is not possible ({reason}). Choose another one") from error
    if there is not None and not there.is_dir():
        raise UsageError(f"--out {out}: {there} is a file. Name a folder, which need not exist yet")


def _as_path(path: str | os.PathLike[str]) -> Path:
    """A local path, with `~` replaced, or a path of fsspec."""
    if is_remote(str(path)):
        return _remote_path(str(path))
    try:
        return Path(str(path).removeprefix("file://")).expanduser()
    except RuntimeError as error:  # an unknown user after ~
        raise UsageError(f"{path}: {error}. Write the path in full") from error


def _remote_path(address: str) -> Path:
    """The path of fsspec at `address`; opens the file system, since that may lack a package."""
    from upath import UPath

    try:
        path = UPath(address)
        _ = path.fs
    except (ImportError, ValueError, OSError) as error:
        raise UsageError(f"{address} cannot be opened: {error}") from error
    return path  # type: ignore[return-value]  # has all of Path that is used here


def _cut(words: str, most: int = 60) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"


class RunDirectory:
    """The files of one investigation. Nothing is created before something is written.

    Args:
        path: a folder or an fsspec address, which need not exist yet.

    Raises:
        UsageError: it is an address that fsspec cannot open.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _as_path(path)
        self._claims: tuple[Any, dict[str, str]] = (None, {})
        self._read: dict[str, tuple[Any, pl.DataFrame]] = {}
        self._metadata: dict[str, tuple[Any, dict[str, dict[str, str] | None]]] = {}

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
        if self.manifest_path.exists():
            return self
        if tables := self.tables():
            raise RunDirectoryError(
                f"{self.path} holds {listed(tables)} but no manifest.json, which says how they were made. "
                "Run the commands that made them again: they write it anew and reuse finished partitions"
            )
        raise RunDirectoryError(
            f"{self.path} is not a run directory: it has no manifest.json. "
            "`headway measure` or `headway import-heads` makes one"
        )

    def manifest(self) -> Manifest:
        """How each table was made; no tables if the directory has no manifest.

        Raises:
            StorageError: the manifest cannot be read, or is not as headway writes it.
        """
        if not self.manifest_path.exists():
            return Manifest()
        try:
            require_regular(self.manifest_path)
            value = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise StorageError(f"{self.manifest_path} cannot be read as JSON: {error}. {_MEND_MANIFEST}") from error
        try:
            return Manifest.from_json(value)
        except ValueError as error:
            raise StorageError(
                f"{self.manifest_path} is not as headway writes it: {error}. {_MEND_MANIFEST}"
            ) from error

    @contextmanager
    def changing_manifest(self) -> Iterator[Manifest]:
        """The manifest, to be changed in place. It is written back if the block raises nothing.

        Processes of one machine take turns. On an object store they do not: start one command there at a time.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error
        with self._turn():
            manifest = self.manifest()
            yield manifest
            write_whole(self.manifest_path, to_json(manifest.to_json()))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """No other process of this machine is in such a block meanwhile. The directory is not created for it."""
        if is_remote(str(self.path)):
            yield
            return
        from filelock import FileLock

        lock = FileLock(self.path / ".lock")
        try:
            if locks := locks_work(self.path / ".lock"):
                lock.acquire(poll_interval=0.005)
            else:
                warnings.warn(
                    f"the file system of {self.path} has no file locks. Run one command at a time in this directory: "
                    "two at once could mix their results",
                    stacklevel=4,
                )
        except FileNotFoundError as error:
            raise self._gone() from error
        except OSError as error:
            raise self._not_writable(error) from error
        try:
            yield
        finally:
            if locks:
                lock.release()

    def _gone(self) -> StorageError:
        return StorageError(
            f"{self.path} was deleted or moved while this command wrote to it, so the command stops. "
            "Restore the directory, or run the same command again to start anew"
        )

    def _not_writable(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.path} cannot be written to: {error.strerror or error}. Choose another --out, or mend that"
        )

    def partition_path(self, table: str, run: str, step: int) -> Path:
        return self.path / table / f"{safe_name(run, 'run name')}@{step}{SUFFIX}"

    def partitions(self, table: str) -> list[Path]:
        """The files of `table` that are named `RUN@STEP.parquet`, sorted by name."""
        return [path for path in self._parquet_files(table) if _PART_NAME.fullmatch(path.name)]

    def strays(self, table: str) -> list[Path]:
        """Parquet files of `table` with other names, such as the conflict copies of a file sync."""
        return [path for path in self._parquet_files(table) if not _PART_NAME.fullmatch(path.name)]

    def _parquet_files(self, table: str) -> list[Path]:
        paths = (path for path in self._parquet_in(table) if not path.name.startswith("."))
        return sorted(paths, key=lambda path: path.name)  # paths themselves compare part by part

    def _parquet_in(self, table: str) -> Iterable[Path]:
        folder = self.path / table
        return folder.glob(f"*{SUFFIX}") if folder.is_dir() else ()

    def metadata(self, table: str) -> dict[str, dict[str, str] | None]:
        """The metadata of each partition of `table`, by file name; None if it is damaged.

        Those of a local table are only read again if a file in it has changed: a report asks for them many times.
        """
        paths = self.partitions(table)
        files = self._versions(paths)
        before, found = self._metadata.get(table, (None, {}))
        if files is None or files != before:
            found = dict(zip((path.name for path in paths), read_each(_metadata_of, paths), strict=True))
            self._metadata[table] = (files, found)
        return found

    def jobs(self, table: str) -> dict[str, str]:
        """The hash of the job of each partition, by file name, without damaged ones."""
        return {name: own.get("job", "") for name, own in self.metadata(table).items() if own is not None}

    def contents(self, table: str) -> str:
        """A hash of the partitions of `table`, which changes when one is added, removed or recomputed."""
        seals = (
            f"damaged: {name}" if own is None else own.get("seal", "") for name, own in self.metadata(table).items()
        )
        return fingerprint(list(seals))

    def _versions(self, paths: Sequence[Path]) -> list[tuple[str, int, int, int]] | None:
        """What tells whether files have changed; None on an object store, some of which tell no time."""
        return None if is_remote(str(self.path)) else [_version(path) for path in paths]

    def claimed(self, table: str) -> str:
        """The hash of the job that the manifest names for `table`; empty if it names none.

        The manifest is only read again if it has changed, so that writing a partition does not cost more in a large sweep.
        """
        try:
            now = self.manifest_path.stat()
        except FileNotFoundError:
            return ""
        version = (now.st_ino, now.st_mtime, now.st_size)
        if self._claims[0] != version or not now.st_mtime:  # some object stores tell no time
            tables = self.manifest().tables
            self._claims = (version, {name: fingerprint(record.identity) for name, record in tables.items()})
        return self._claims[1].get(table, "")

    def write_partition(
        self, table: str, run: str, step: int, frame: pl.DataFrame, metadata: Mapping[str, str]
    ) -> Path:
        """Write the table of one checkpoint, whole or not at all, with `metadata` and a checksum inside the file.

        Raises:
            RunDirectoryError: the manifest names another job than `metadata["job"]` for `table`.
            StorageError: the file cannot be written, or the manifest is gone.
        """
        path, job = self.partition_path(table, run, step), metadata.get("job", "")
        self._require_claim(table, job)  # a deleted directory must not reappear with this file alone
        data = encode_partition(frame, {**metadata, "checkpoint": f"{run}@{step}"})
        write_whole(path, data, under=self._claim_of(table, job))
        return path

    def write_partitions(
        self, table: str, parts: Mapping[tuple[str, int], pl.DataFrame], metadata: Mapping[str, str]
    ) -> None:
        """Write many small partitions at once, by run and step; each is whole or absent.

        No other process of this machine can replace the table meanwhile: one turn is cheaper than a turn for each file.

        Raises:
            RunDirectoryError: the manifest names another job than `metadata["job"]` for `table`.
            StorageError: a file cannot be written, or the manifest is gone.
        """
        paths = {key: self.partition_path(table, *key) for key in parts}

        def write(key: tuple[str, int]) -> None:
            run, step = key
            write_whole(paths[key], encode_partition(parts[key], {**metadata, "checkpoint": f"{run}@{step}"}))

        with self._claim_of(table, metadata.get("job", "")), ThreadPoolExecutor(_AT_ONCE) as threads:
            for _ in threads.map(write, parts):  # raises what a write raised
                pass

    @contextmanager
    def _claim_of(self, table: str, job: str) -> Iterator[None]:
        """Hold the lock on `table`'s claim while the block lasts."""
        with self._turn():
            self._require_claim(table, job)
            yield

    def _require_claim(self, table: str, job: str) -> None:
        claimed = self.claimed(table)
        if claimed == job:
            return
        if not claimed:
            raise self._gone()
        raise RunDirectoryError(
            f"another command replaced the table {table!r} of {self.path} with --force while this one ran, so this one "
            "stops. Choose another --out for one of them"
        )

    def read(self, table: str) -> pl.DataFrame:
        """All partitions of `table` as one frame, in the order of their names.

        A local table is only read again if a file in it or the manifest has changed: several studies read the same one.

        Raises:
            RunDirectoryError: there are none, or they were not all made by the job that the manifest names.
            StorageError: a partition is damaged, or holds another checkpoint than its name says.
        """
        parts = self.partitions(table)
        if not parts:
            raise RunDirectoryError(
                f"{self.path} holds no finished partitions of {table!r}. {self._how_to_fill(table)}"
            )
        versions = self._versions(parts)
        files = None if versions is None else [*versions, self.claimed(table)]
        before, frame = self._read.get(table, (None, None))
        if frame is not None and files is not None and files == before:
            return frame
        read = read_each(read_whole, parts)
        jobs = {path.name: part.metadata.get("job", "") for path, part in zip(parts, read, strict=True)}
        expected = self.claimed(table) or next(iter(jobs.values()))
        self.require_own(table, jobs, expected)
        frame = decode(read)
        self._read[table] = (files, frame)
        return frame

    def held(self) -> int:
        """The bytes of the tables that were read, and are held in memory."""
        return sum(int(frame.estimated_size()) for _, frame in self._read.values())

    def columns(self, table: str) -> list[str]:
        """The columns of a table, as its first partition has them; none if it has no partitions.

        Raises:
            StorageError: the partition is damaged.
        """
        parts = self.partitions(table)
        return read_partition(parts[0])[0].columns if parts else []

    def require_own(self, table: str, jobs: Mapping[str, str], expected: str) -> None:
        """Refuse a table with partitions of several jobs.

        Args:
            jobs: the hash of the job of each partition, by file name.
            expected: the hash of the only job that is allowed.

        Raises:
            RunDirectoryError: a partition is of another job.
        """
        foreign = [name for name, job in jobs.items() if job != expected]
        if foreign:
            raise RunDirectoryError(
                f"{len(foreign)} of {count(len(jobs), 'partition')} in {self.path / table} were computed from another "
                f"corpus, suite or with other settings than this table, such as {foreign[0]}. Choose another --out, or "
                "run the command that makes the table with --force: it deletes these and computes them anew"
            )

    def _how_to_fill(self, table: str) -> str:
        if failed := len(self.failures(table)):
            return f"{count(failed, 'checkpoint')} failed: `headway status {self.path}` says why"
        if table in self.manifest().tables:
            return (
                f"The command that makes it was stopped before the first: run it again (`headway status {self.path}`)"
            )
        return "Measure or import one into it first"

    def tables(self) -> list[str]:
        """The tables that have partitions."""
        if not self.path.is_dir():
            return []
        names = (folder.name for folder in self.path.iterdir() if folder.is_dir())
        return sorted(name for name in names if name not in _NOT_TABLES and self._has_partitions(name))

    def _has_partitions(self, table: str) -> bool:
        return any(_PART_NAME.fullmatch(path.name) for path in self._parquet_in(table))

    def drop_foreign_partitions(self, table: str, job: str) -> None:
        """Delete the partitions of `table` that are damaged or of another job."""
        for part in self.partitions(table):
            own = _metadata_of(part)
            if own is None or own.get("job", "") != job:
                part.unlink(missing_ok=True)

    def remove_abandoned(self) -> None:
        """Remove half-written files of killed commands; files that are being written stay."""
        if not is_remote(str(self.path)):  # an object store holds nothing that is half-written
            for folder in (self.path, *(entry for entry in self.path.iterdir() if entry.is_dir())):
                remove_abandoned(folder)

    def add_failure(self, failure: Mapping[str, Any]) -> None:
        """Append one line to failures.jsonl.

        Raises:
            StorageError: it cannot be written.
        """
        line = json.dumps(failure, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace") + b"\n"
        if is_remote(str(self.path)):  # an object store has no append
            before = self.failures_path.read_bytes() if self.failures_path.exists() else b""
            write_whole(self.failures_path, before + line)
            return
        with self._turn():
            try:
                with self.failures_path.open("a+b") as file:
                    if file.tell():
                        file.seek(-1, os.SEEK_END)
                        line = line if file.read() == b"\n" else b"\n" + line  # a torn line must not swallow this one
                    file.write(line)
            except OSError as error:
                raise self._not_writable(error) from error

    def failures(self, table: str) -> dict[str, dict[str, Any]]:
        """The last failure of each checkpoint of `table` without a partition, by key `RUN@STEP`, in the current job."""
        claimed = self.claimed(table)
        own = (line for line in self._failure_lines() if line["table"] == table and line.get("job", claimed) == claimed)
        found = {line["checkpoint"]: line for line in own}
        done = {part.name.removesuffix(SUFFIX) for part in self.partitions(table)} if found else set()
        return {key: line for key, line in found.items() if key not in done}

    def _failure_lines(self) -> Iterator[dict[str, Any]]:
        """The valid lines; others were cut short by a broken copy, or edited."""
        try:
            require_regular(self.failures_path)
            data = self.failures_path.read_bytes()
        except OSError:  # there were no failures, or the file cannot be read
            return
        for line in data.split(b"\n"):
            with suppress(ValueError, RecursionError):
                failure = json.loads(line)
                if isinstance(failure, dict) and all(isinstance(failure.get(name), str) for name in _FAILURE):
                    yield failure


_FAILURE = ("table", "checkpoint", "error")


def _metadata_of(part: Path) -> dict[str, str] | None:
    """The metadata of `part`, None if it is damaged."""
    try:
        return read_partition_metadata(part)
    except StorageError:
        return None


def _version(path: Path) -> tuple[str, int, int, int]:
    """Name, inode, time and size of a file: one that was written again differs in one of them."""
    try:
        stat = path.stat()
    except OSError:  # it was deleted meanwhile, and reading it says so
        return path.name, 0, 0, 0
    return path.name, stat.st_ino, stat.st_mtime_ns, stat.st_size

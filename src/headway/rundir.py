"""The run directory: everything of one investigation, in files that are whole or absent.

    DIR/manifest.json                    what was asked, per table
    DIR/TABLE/RUN@STEP.parquet           one part a checkpoint
    DIR/failures.jsonl                   checkpoints that could not be done, and why
    DIR/analysis/STUDY.json, *.parquet   results
    DIR/figures/*.svg, *.png             each figure
    DIR/report.html                      opens offline

DIR is a folder, or any address that fsspec knows (`s3://bucket/sweep`): then every machine of a sweep writes there.
A local file is written under a temporary name and renamed; an object store's put is whole or absent by itself.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from headway.errors import RunDirectoryError, StorageError

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
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


def _is_remote(path: str) -> bool:
    return "://" in path and not path.startswith("file://")


def write_whole(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, whole or not at all, whatever kills the process meanwhile.

    Raises:
        StorageError: the disk is full or the place cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _is_remote(str(path)):
            path.write_bytes(data)
        else:
            _write_and_rename(path, data)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}. What was written before is whole; "
            "free the place (space, permissions) and run the same command again to go on"
        ) from error


def _write_and_rename(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a crash of the machine could leave a renamed, empty file
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def to_json(value: Any) -> bytes:
    """`value` as readable JSON. NaN and infinities are an error: JSON has none."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


class RunDirectory:
    """The files of one investigation. Nothing is created before something is written.

    Args:
        path: a folder or an fsspec address, which need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if _is_remote(str(path)):
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
            StorageError: the manifest is not JSON.
        """
        if not self.manifest_path.exists():
            return {}
        try:
            return json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StorageError(f"{self.manifest_path} cannot be read as JSON: {error}") from error

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
        if _is_remote(str(self.path)):
            yield
            return
        from filelock import FileLock

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
            lock.acquire()
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

    def write_part(self, table: str, run: str, step: int, frame: pl.DataFrame, metadata: Mapping[str, str]) -> Path:
        """Writes one checkpoint's table, whole or not at all, with checksums; `metadata` travels inside."""
        path = self.part_path(table, run, step)
        write_whole(path, encode_part(frame, metadata))
        return path

    def read(self, table: str) -> pl.DataFrame:
        """All parts of `table` as one frame, in the order of their names.

        Raises:
            RunDirectoryError: there are none.
            StorageError: one is damaged.
        """
        parts = self.parts(table)
        if not parts:
            raise RunDirectoryError(f"{self.path} holds no table {table!r}: measure or import one into it first")
        return pl.concat([read_part(part)[0] for part in parts], how="diagonal_relaxed")

    def tables(self) -> list[str]:
        """The tables that have parts."""
        if not self.path.is_dir():
            return []
        names = (folder.name for folder in self.path.iterdir() if folder.is_dir())
        return sorted(name for name in names if name not in _NOT_TABLES and self.parts(name))

    def drop_parts(self, table: str) -> None:
        """Deletes the parts of `table`."""
        for part in self.parts(table):
            part.unlink(missing_ok=True)

    def add_failure(self, failure: Mapping[str, Any]) -> None:
        """Appends one line to failures.jsonl."""
        line = json.dumps(failure, ensure_ascii=False, allow_nan=False) + "\n"
        with self._turn():
            before = self.failures_path.read_bytes() if self.failures_path.exists() else b""
            if before and not before.endswith(b"\n"):
                before += b"\n"  # a line that was torn must not take the new one with it
            write_whole(self.failures_path, before + line.encode())

    def failures(self, table: str) -> dict[str, dict[str, Any]]:
        """The last failure of each checkpoint of `table` that has no part, by its key `RUN@STEP`."""
        done = {part.name.removesuffix(".parquet") for part in self.parts(table)}
        found = {line["checkpoint"]: line for line in self._failure_lines() if line["table"] == table}
        return {key: line for key, line in found.items() if key not in done}

    def _failure_lines(self) -> Iterator[dict[str, Any]]:
        """The lines that are whole: the file may have been cut short, by a copy that was broken off for one."""
        data = self.failures_path.read_bytes() if self.failures_path.exists() else b""
        for line in data.split(b"\n"):
            with suppress(ValueError):
                yield json.loads(line)


# Stands in a part where its seal goes, while the seal is computed.
_UNSEALED = b"0" * 64


def encode_part(frame: pl.DataFrame, metadata: Mapping[str, str]) -> bytes:
    """A Parquet file that carries a hash of all its other bytes, so that any damage is found when it is read."""
    import pyarrow.parquet as pq

    table = frame.to_arrow().replace_schema_metadata(None)
    own = {f"headway.{key}": value for key, value in metadata.items()}
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({**own, "headway.seal": _UNSEALED.decode()})
    data = buffer.getvalue()
    return data.replace(_UNSEALED, _seal(data))


def _seal(unsealed: bytes) -> bytes:
    return hashlib.sha256(unsealed).hexdigest().encode()


def read_part(path: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    """A part's frame and its metadata.

    Raises:
        StorageError: it is truncated or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    again = "run the command that made it again, and only it is computed anew"
    try:
        data = path.read_bytes()
        metadata = pq.read_metadata(pa.BufferReader(data)).metadata or {}
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StorageError(f"{path} is damaged ({error}): {again}") from error
    seal = metadata.get(b"headway.seal", b"")
    if len(seal) != len(_UNSEALED) or _seal(data.replace(seal, _UNSEALED)) != seal:
        raise StorageError(f"{path} is damaged (its bytes do not match its seal): {again}")
    prefix = b"headway."
    own = {k.removeprefix(prefix).decode(): v.decode() for k, v in metadata.items() if k.startswith(prefix)}
    return pl.read_parquet(io.BytesIO(data)), own

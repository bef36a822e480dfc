"""Writing files that are whole or absent, whatever kills the process.

A local file is written under a temporary name and renamed; an object store's put is whole or absent by itself.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Lock
from typing import IO, TYPE_CHECKING, Any, TypeVar

try:
    import fcntl
except ImportError:  # Windows has no fcntl; abandoned files stay there
    fcntl = None  # type: ignore[assignment]

from headway.errors import StorageError, UsageError

if TYPE_CHECKING:
    import polars as pl

R = TypeVar("R")

# In a run's folder: the run's values on the axes of its suite. Nano writes it, and the suite of a folder reads it.
AXES_FILE = "axes.json"
_WAYS_OUT = {
    errno.ENOSPC: "Free some space and run the same command again",
    errno.EDQUOT: "Free some of your quota and run the same command again",
    errno.ENAMETOOLONG: "Choose a shorter name or path",
    errno.EACCES: "Make the folder writable, or choose another one",
    errno.EROFS: "Choose a folder on a disk that can be written to",
}
_AT_ONCE = 8  # files that are read at once
_WAITS = 2e-3  # seconds: a file that takes longer is waited for, over a network or on a slow disk
_ONE_AT_A_TIME = Lock()
_OTHER_WAY_OUT = "Fix that, or choose another folder, and run the same command again"


def is_remote(path: str) -> bool:
    """Whether `path` is an address that fsspec knows, other than a local file."""
    return "://" in path and not path.startswith("file://")


def require_regular(path: Path) -> None:
    """Refuse a pipe or a device, because reading it might never return.

    Raises:
        OSError: `path` is absent, or is no regular file.
    """
    if not is_remote(str(path)) and not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"it is no regular file but a {_kind(path)}")


def _kind(path: Path) -> str:
    kinds = {"directory": path.is_dir, "named pipe": path.is_fifo, "socket": path.is_socket}
    return next((kind for kind, found in kinds.items() if found()), "device")


def read_each(read: Callable[[Path], R], paths: Sequence[Path]) -> list[R]:
    """What `read` returns for each of many files, in their order.

    A file of a network makes its reader wait, so several are read at once. A small file of a local disk takes less time
    than threads take to hand over to one another: with eight of them, three times as long.
    """
    start = time.perf_counter()
    found = [read(path) for path in paths[:_AT_ONCE]]
    if time.perf_counter() - start < _AT_ONCE * _WAITS:
        return found + [read(path) for path in paths[_AT_ONCE:]]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return found + list(threads.map(read, paths[_AT_ONCE:]))


def write_whole(path: Path, data: bytes, under: AbstractContextManager[Any] | None = None) -> None:
    """Write `data` to `path`, whole or not at all.

    Args:
        under: a lock to hold while the file is renamed. If entering it raises, `path` is left as it was.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to.
    """
    under = under or nullcontext()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_remote(str(path)):
            with under:
                path.write_bytes(data)
        else:
            _write_and_rename(path, data, under)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}. {_WAYS_OUT.get(error.errno or 0, _OTHER_WAY_OUT)}. "
            "Files written before are whole and are reused"
        ) from error


def locks_work(path: Path) -> bool:
    """Whether the file system of `path` has locks; many network file systems of clusters have none.

    Raises:
        OSError: `path` cannot be created or written to.
    """
    if fcntl is None:
        return True  # Windows locks by other means
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
    return True


def to_json(value: Any) -> bytes:
    """`value` as readable JSON. NaN and infinities are an error: JSON has none."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(errors="backslashreplace")


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files in `folder` that killed processes left behind; files that are being written stay."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError), path.open("r+b") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error if another holds it
                path.unlink()


def _write_and_rename(path: Path, data: bytes, under: AbstractContextManager[Any]) -> None:
    file = _temporary(path)
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a crash of the machine could leave a renamed, empty file
            os.chmod(file.name, 0o666 & ~_umask())
            if fcntl is None:
                file.close()  # Windows renames no open file
            with under:
                os.replace(file.name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(file.name)
        raise


def _temporary(path: Path) -> IO[bytes]:
    """A temporary file beside `path`, locked until it is closed.

    The lock ends with the process. So an unlocked file was abandoned, whichever machine wrote it.
    """
    while True:
        file = NamedTemporaryFile(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent, delete=False)  # noqa: SIM115
        if fcntl is not None:
            with suppress(OSError):  # without locks, no file is ever taken for abandoned
                fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(file.name):
            return file
        file.close()  # `remove_abandoned` came between making it and locking it


def _umask() -> int:
    with _ONE_AT_A_TIME:  # two threads at once could leave the mask at 0
        mask = os.umask(0)
        os.umask(mask)
    return mask


TABLE_SUFFIXES = (".csv", ".parquet")


def require_table_name(path: str | os.PathLike[str] | None) -> None:
    """Check that a file's name says how a table is written; None is no file.

    Raises:
        UsageError: it ends in neither .csv nor .parquet.
    """
    if path is not None and Path(path).suffix not in TABLE_SUFFIXES:
        raise UsageError(f"--out {os.fspath(path)}: name a file that ends in .csv or .parquet")


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Write a table as CSV or Parquet, by the file's name.

    Raises:
        StorageError: the file cannot be written.
    """
    buffer = io.BytesIO()
    if path.suffix == ".csv":
        table.write_csv(buffer)
    else:
        table.write_parquet(buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getvalue())

"""A partition: the table of one checkpoint, as a Parquet file.

Its metadata names the checkpoint, the job and the inputs. A hash of its bytes proves that the file is whole.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import polars as pl

from headway.errors import StorageError
from headway.store.files import require_regular

# A placeholder of the seal's length, so that writing the seal moves no byte of the file.
_UNSEALED = b"0" * 64
_PREFIX = "headway."
_SCHEMA = "ARROW:schema"  # where Arrow writes names and types of columns
SUFFIX = ".parquet"
_AGAIN = "Run the command that made it again; only this checkpoint is recomputed"
# A key in a footer's metadata, which is a string of Thrift's compact protocol: type, length, bytes. Its value follows.
_ENTRY = re.compile(rb"\x18([\x00-\x7f])(headway\.\w+|ARROW:schema)\x18", re.DOTALL)
_TOGETHER = 256  # partitions that are decoded at a time: their pieces and the joined one are in memory together
_TAIL = 2**16  # bytes of a file that are read for its footer at first


def encode_partition(frame: pl.DataFrame, metadata: Mapping[str, str]) -> bytes:
    """The bytes of a Parquet file with a seal: a hash of all its other bytes, which reveals any damage."""
    own = {f"{_PREFIX}{key}": value for key, value in metadata.items()}
    buffer = io.BytesIO()
    # polars takes 0.6 of the time of pyarrow, which sets up a writer for each of thousands of small files.
    frame.write_parquet(buffer, compression_level=1, metadata={**own, f"{_PREFIX}seal": _UNSEALED.decode()})
    data = buffer.getvalue()
    return data.replace(_UNSEALED, _seal(data))


def _seal(unsealed: bytes) -> bytes:
    return hashlib.sha256(unsealed).hexdigest().encode()


class Partition(NamedTuple):
    """A whole file.

    Attributes:
        data: its bytes.
        schema: names and types of its columns, as Arrow writes them; equal for equal columns.
        metadata: what headway wrote beside the table.
    """

    data: bytes
    schema: str
    metadata: dict[str, str]


def read_whole(path: Path) -> Partition:
    """The bytes of a partition, checked against its seal. `decode` makes the table.

    Raises:
        StorageError: the file is truncated or damaged, or holds another checkpoint than its name says.
    """
    try:
        require_regular(path)
        data = path.read_bytes()
        entries = _entries(_footer(io.BytesIO(data)))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    seal = entries.get("headway.seal", "").encode()
    if len(seal) != len(_UNSEALED) or _seal(data.replace(seal, _UNSEALED)) != seal:
        raise _damaged(path, "its bytes do not match its checksum")
    return Partition(data, entries.get(_SCHEMA, ""), _own(path, entries))


def decode(parts: Iterable[Partition]) -> pl.DataFrame:
    """The tables of partitions as one frame. Columns that a partition lacks are null there.

    Neighbours with the same columns are decoded together, which takes a third of the time of decoding them one by one.
    They lie in memory as one piece: a frame of thousands of pieces is slow in all that follows.
    """
    frames = (pl.read_parquet([part.data for part in alike]).rechunk() for alike in _neighbours(parts))
    return pl.concat(frames, how="diagonal_relaxed", rechunk=True)


def _neighbours(parts: Iterable[Partition]) -> Iterator[list[Partition]]:
    """Partitions with the same columns, in their order, at most as many as are decoded together."""
    for _, alike in itertools.groupby(parts, lambda part: part.schema):
        while some := list(itertools.islice(alike, _TOGETHER)):
            yield some


def read_partition(path: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    """A partition's table and its metadata.

    Raises:
        StorageError: the file is truncated or damaged, or holds another checkpoint than its name says.
    """
    part = read_whole(path)
    return decode([part]), part.metadata


def read_partition_metadata(path: Path) -> dict[str, str]:
    """A partition's metadata, read from the end of the file: cheap, but no proof that the rest is whole.

    Raises:
        StorageError: the metadata cannot be read, or it names another checkpoint than the file's name.
    """
    try:
        require_regular(path)
        with path.open("rb") as file:
            entries = _entries(_footer(file))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return _own(path, entries)


def columns_of(path: Path) -> list[str]:
    """Names of a partition's columns, read from the end of the file.

    Raises:
        StorageError: they cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        require_regular(path)
        with path.open("rb") as file:
            return list(pq.read_schema(file).names)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, why: object) -> StorageError:
    return StorageError(f"{path} is damaged ({why}). {_AGAIN}")


def _footer(file: IO[bytes]) -> bytes:
    """The footer of a Parquet file. Its length and a magic number follow it.

    Raises:
        ValueError: the file does not end in a footer.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    start = len(tail) - 8 - int.from_bytes(tail[-8:-4], "little")
    if tail[-4:] != b"PAR1" or size - len(tail) + start < 4:
        raise ValueError("it does not end as a Parquet file does")
    if start < 0:
        file.seek(start + size - len(tail))
        tail, start = file.read(), 0
    return tail[start:-8]


def _entries(footer: bytes) -> dict[str, str]:
    """The metadata of headway and of Arrow in a footer, by key.

    pyarrow parses all of the footer, every column with its statistics, at ten times the cost.

    Raises:
        ValueError: a value is cut short, or is no UTF-8.
    """
    found = {}
    for entry in _ENTRY.finditer(footer):
        if entry[1][0] == len(entry[2]):
            start, length = _length(footer, entry.end())
            found[entry[2].decode()] = footer[start : start + length].decode()
    return found


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Where a string of Thrift's starts, and its length: seven bits a byte, lowest first, until a byte below 128.

    Raises:
        ValueError: the data end before.
    """
    length = shift = 0
    for byte in data[at : at + 5]:
        at += 1
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return at, length
    raise ValueError("its metadata are cut short")


def _own(path: Path, entries: Mapping[str, str]) -> dict[str, str]:
    """The metadata that headway wrote. A renamed or copied file is refused, as it would stand for another checkpoint."""
    own = {key.removeprefix(_PREFIX): value for key, value in entries.items() if key.startswith(_PREFIX)}
    named = path.name.removesuffix(SUFFIX)
    if own.get("checkpoint") != named:
        holds = own.get("checkpoint") or "a table that headway did not write"
        raise StorageError(f"{path} holds {holds}, not {named}: the file was renamed or copied. {_AGAIN}")
    return own

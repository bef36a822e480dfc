"""A partition: the table of one checkpoint, as a Parquet file.

Its metadata names the checkpoint, the job and the inputs. A hash of its bytes proves that the file is whole.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from headway.errors import StorageError
from headway.store.files import require_regular

# A placeholder of the seal's length, so that writing the seal moves no byte of the file.
_UNSEALED = b"0" * 64
_PREFIX = b"headway."
SUFFIX = ".parquet"
_AGAIN = "Run the command that made it again; only this checkpoint is recomputed"


def encode_partition(frame: pl.DataFrame, metadata: Mapping[str, str]) -> bytes:
    """The bytes of a Parquet file with a seal: a hash of all its other bytes, which reveals any damage."""
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


def read_partition(path: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    """A partition's table and its metadata.

    Raises:
        StorageError: the file is truncated or damaged, or holds another checkpoint than its name says.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        require_regular(path)
        data = path.read_bytes()
        metadata = pq.read_metadata(pa.BufferReader(data)).metadata or {}
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StorageError(f"{path} is damaged ({error}). {_AGAIN}") from error
    seal = metadata.get(b"headway.seal", b"")
    if len(seal) != len(_UNSEALED) or _seal(data.replace(seal, _UNSEALED)) != seal:
        raise StorageError(f"{path} is damaged (its bytes do not match its checksum). {_AGAIN}")
    return pl.read_parquet(io.BytesIO(data)), _own(path, metadata)


def read_partition_metadata(path: Path) -> dict[str, str]:
    """A partition's metadata, read from the end of the file: cheap, but no proof that the rest is whole.

    Raises:
        StorageError: the metadata cannot be read, or it names another checkpoint than the file's name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        require_regular(path)
        with path.open("rb") as file:
            metadata = pq.read_metadata(file).metadata or {}
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StorageError(f"{path} is damaged ({error}). {_AGAIN}") from error
    return _own(path, metadata)


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
        raise StorageError(f"{path} is damaged ({error}). {_AGAIN}") from error


def _own(path: Path, metadata: Mapping[bytes, bytes]) -> dict[str, str]:
    """The metadata that headway wrote. A renamed or copied file is refused, as it would stand for another checkpoint."""
    own = {k.removeprefix(_PREFIX).decode(): v.decode() for k, v in metadata.items() if k.startswith(_PREFIX)}
    named = path.name.removesuffix(SUFFIX)
    if own.get("checkpoint") != named:
        holds = own.get("checkpoint") or "a table that headway did not write"
        raise StorageError(f"{path} holds {holds}, not {named}: the file was renamed or copied. {_AGAIN}")
    return own

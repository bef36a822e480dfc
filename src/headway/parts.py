"""A part: one checkpoint's table as a Parquet file that says what it was made from, and that proves itself whole."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from headway.errors import StorageError

# Stands in a part where its seal goes, while the seal is computed.
_UNSEALED = b"0" * 64
_PREFIX = b"headway."
_AGAIN = "run the command that made it again, and only it is computed anew"


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

    try:
        data = path.read_bytes()
        metadata = pq.read_metadata(pa.BufferReader(data)).metadata or {}
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StorageError(f"{path} is damaged ({error}): {_AGAIN}") from error
    seal = metadata.get(b"headway.seal", b"")
    if len(seal) != len(_UNSEALED) or _seal(data.replace(seal, _UNSEALED)) != seal:
        raise StorageError(f"{path} is damaged (its bytes do not match its seal): {_AGAIN}")
    return pl.read_parquet(io.BytesIO(data)), _own(metadata)


def read_part_metadata(path: Path) -> dict[str, str]:
    """A part's metadata alone, from the end of its file: cheap, and no proof that the rest of it is whole.

    Raises:
        StorageError: there is no such end.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            return _own(pq.read_metadata(file).metadata or {})
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StorageError(f"{path} is damaged ({error}): {_AGAIN}") from error


def _own(metadata: Mapping[bytes, bytes]) -> dict[str, str]:
    return {k.removeprefix(_PREFIX).decode(): v.decode() for k, v in metadata.items() if k.startswith(_PREFIX)}

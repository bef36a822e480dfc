"""The footer of a partition, which headway reads by itself, agrees with what pyarrow reads there."""

from __future__ import annotations

import io

import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from headway.errors import StorageError
from headway.store.files import read_each
from headway.store.partitions import decode, encode_partition, read_partition, read_partition_metadata, read_whole

FRAME = pl.DataFrame({"head": [0, 1], "prev": [0.5, 0.25], "text": ["\x18\x0bheadway.job\x18\x03xyz", "b"]})


def written(folder, frame=FRAME, name="run@3", **metadata):
    path = folder / f"{name}.parquet"
    path.write_bytes(encode_partition(frame, {"checkpoint": name, **metadata}))
    return path


# The lengths are those at which a length takes another byte, and at which the footer is longer than what is read of it at first.
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,20}", fullmatch=True), st.text(max_size=300), max_size=4))
@example({"inputs": "é" * 63, "used": "x" * 127})
@example({"inputs": "x" * 128, "used": "é" * 8192})
@example({"inputs": "x" * 70_000})
@example({"inputs": "x" * 2_100_000})
def test_metadata_are_those_that_pyarrow_reads(tmp_path_factory, metadata):
    metadata = {key: value for key, value in metadata.items() if key not in ("checkpoint", "seal")}
    path = written(tmp_path_factory.mktemp("parts"), job="f830", **metadata)
    there = {key.decode(): value.decode() for key, value in pq.read_metadata(path).metadata.items()}
    own = {key.removeprefix("headway."): value for key, value in there.items() if key.startswith("headway.")}
    assert read_partition_metadata(path) == own
    assert own == {"checkpoint": "run@3", "job": "f830", "seal": own["seal"], **metadata}
    assert read_whole(path)[1:] == (there["ARROW:schema"], own)


def test_other_readers_find_the_same_table(tmp_path):
    """pyarrow, which R and pandas read by, finds the values and the types that polars hands to Arrow."""
    frame = FRAME.with_columns(
        step=pl.Series([3, None], dtype=pl.Int32),
        short=pl.Series([0.5, None], dtype=pl.Float32),
        whole=pl.Series([None, True]),
        none=pl.lit(None),
        found=pl.Series([[1, 2], []], dtype=pl.List(pl.Int64)),
    )
    for some in (frame, frame.clear()):
        path = written(tmp_path, some)
        expected = some.to_arrow()
        assert pq.read_table(path).replace_schema_metadata(None).equals(expected)
        assert_frame_equal(read_partition(path)[0], some)
        assert pd.read_parquet(path).equals(expected.to_pandas())


def test_any_damaged_byte_is_noticed(tmp_path):
    path = written(tmp_path, job="f830")
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(StorageError):
            read_whole(path)


def test_a_file_cut_short_anywhere_is_damaged(tmp_path):
    path = written(tmp_path, job="f830")
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        for read in (read_whole, read_partition_metadata):
            with pytest.raises(StorageError, match="is damaged"):
                read(path)


def test_metadata_that_are_no_text_are_damage(tmp_path):
    path = written(tmp_path, job="f830")
    path.write_bytes(path.read_bytes().replace(b"f830", b"\xff830"))
    with pytest.raises(StorageError, match="is damaged"):
        read_partition_metadata(path)


@pytest.mark.parametrize("together", [1, 2, 256])
def test_partitions_are_decoded_together_as_one_by_one(tmp_path, monkeypatch, together):
    monkeypatch.setattr("headway.store.partitions._TOGETHER", together)
    wider = FRAME.with_columns(pl.lit(0.125).alias("self"))
    empty = FRAME.with_columns(prev=pl.lit(None))  # a column of nulls has another type
    frames = [FRAME, FRAME, wider, wider, FRAME, empty, wider.select("self", "head")]
    paths = [written(tmp_path, frame, f"run@{step}") for step, frame in enumerate(frames)]
    one_by_one = pl.concat([pl.read_parquet(io.BytesIO(path.read_bytes())) for path in paths], how="diagonal_relaxed")
    assert_frame_equal(decode(map(read_whole, paths)), one_by_one)
    assert_frame_equal(read_partition(paths[2])[0], wider)


@pytest.mark.parametrize("waits", [0.0, 1e9], ids=["several at once", "one after the other"])
def test_files_are_read_in_their_order(tmp_path, monkeypatch, waits):
    monkeypatch.setattr("headway.store.files._WAITS", waits)
    paths = [tmp_path / f"{number}" for number in range(30)]
    assert read_each(lambda path: int(path.name), paths) == [*range(30)]
    assert read_each(lambda path: int(path.name), []) == []

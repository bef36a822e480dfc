"""Files in Megatron's format, written here byte by byte, are read as they are."""

import struct

import numpy as np
import pytest

from headway.corpora.megatron import IndexedTokens, data_statistics
from headway.errors import CorpusError, UsageError
from headway.nano.replay import NgramStatistics

CODES = {"<u1": 1, "<i2": 3, "<i4": 4, "<i8": 5, "<u2": 8}


def write(prefix, sequences, dtype="<u2", version=1, code=None, magic=b"MMIDIDX\x00\x00"):
    """PREFIX.idx and PREFIX.bin, as Megatron writes them: each sequence is a document."""
    lengths = [len(one) for one in sequences]
    offsets = np.cumsum([0, *lengths[:-1]]) * np.dtype(dtype).itemsize
    head = struct.pack("<Q", version) + struct.pack("<B", CODES[dtype] if code is None else code)
    counts = struct.pack("<QQ", len(sequences), len(sequences) + 1)
    ends = np.arange(len(sequences) + 1, dtype="<i8").tobytes()
    index = np.array(lengths, "<i4").tobytes() + offsets.astype("<i8").tobytes() + ends
    prefix.with_suffix(".idx").write_bytes(magic + head + counts + index)
    prefix.with_suffix(".bin").write_bytes(b"".join(np.array(one, dtype).tobytes() for one in sequences))
    return prefix


@pytest.mark.parametrize("dtype", CODES)
def test_sequences_of_any_length_and_type_are_read(tmp_path, dtype):
    sequences = [[1, 2, 3], [250], [7, 0, 9, 11, 13]]
    data = IndexedTokens(write(tmp_path / "data", sequences, dtype))
    assert len(data) == 3
    assert [data[number].tolist() for number in range(3)] == sequences
    assert data[0].dtype == np.int64


def test_steps_are_described_as_those_of_nano(tmp_path):
    batches = np.random.default_rng(0).integers(0, 50_000, size=(4, 3, 17))
    batches[2] = batches[0]
    prefix = write(tmp_path / "document", batches.reshape(12, 17).tolist())
    found = data_statistics(prefix, [2, 0, 1], sequences_per_step=3)
    statistics = NgramStatistics()
    for row, ids in zip(found.to_dicts(), batches[:3], strict=True):
        assert {name: row[name] for name in ("repeated_ngrams", "novel_ngrams", "entropy")} == statistics.add(ids)
    assert found["step"].to_list() == [0, 1, 2]
    assert found["tokens"].to_list() == [51] * 3
    assert found["novel_ngrams"].to_list() == [1, 1, 0]  # step 2 reads what step 0 read
    with pytest.raises(UsageError, match=r"step 4 is beyond the data in .*document, which hold 4 steps"):
        data_statistics(prefix, [4], sequences_per_step=3)


def test_files_that_are_something_else_are_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"data\.idx is not there"):
        IndexedTokens(tmp_path / "data")
    whole = [[1, 2, 3], [4, 5, 6]]
    for changed, message in (
        ({"magic": b"TNTIDX\x00\x00\x00"}, "does not begin with MMIDIDX"),
        ({"version": 2}, "has version 2"),
        ({"code": 7}, "no whole-number type of tokens: its code is 7"),
    ):
        with pytest.raises(CorpusError, match=message):
            IndexedTokens(write(tmp_path / "data", whole, **changed))
    for suffix in (".idx", ".bin"):
        path = write(tmp_path / "data", whole).with_suffix(suffix)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(CorpusError, match=f"data{suffix} is truncated"):
            IndexedTokens(tmp_path / "data")
    with pytest.raises(CorpusError, match="differ in length"):
        data_statistics(write(tmp_path / "data", [[1] * 5, [2] * 6]), [0], sequences_per_step=2)

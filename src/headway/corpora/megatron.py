"""Tokens in the memory-mapped format of Megatron and GPT-NeoX, such as Pythia's training data in the order of training.

    PREFIX.idx   b"MMIDIDX\\x00\\x00", then little-endian: version (uint64, 1), code of the tokens' type (uint8), n sequences and
                 m document ends (uint64 each), lengths in tokens (n int32), offsets in bytes (n int64), ends (m int64)
    PREFIX.bin   the tokens of all sequences, one after another

Pythia's preshuffled data (EleutherAI/pile-standard-pythia-preshuffled and pile-deduped-pythia-preshuffled) hold a training
example in each sequence: 2,049 tokens, of which the model reads 2,048. Step s reads sequences 1,024 s to 1,024 (s + 1) - 1.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headway.errors import CorpusError, UsageError

if TYPE_CHECKING:
    import polars as pl

PYTHIA_SEQUENCES = 1024  # a step
_MAGIC = b"MMIDIDX\x00\x00"
_HEADER = struct.Struct("<QBQQ")
# The codes 6 and 7 are floating-point types, which are no tokens.
_TYPES: dict[int, type[np.integer]] = {
    1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 8: np.uint16,
}  # fmt: skip


class IndexedTokens:
    """The sequences of PREFIX.idx and PREFIX.bin. Only those that are asked for are read.

    Attributes:
        lengths: (sequences,) tokens of each.
        dtype: the type of the tokens in the file.

    Raises:
        CorpusError: a file is missing, or holds something else than the index says.
    """

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        index, tokens = (Path(f"{os.fspath(prefix)}{suffix}").expanduser() for suffix in (".idx", ".bin"))
        for path in (index, tokens):
            if not path.is_file():
                raise CorpusError(f"{path} is not there: name the files' path without .idx and .bin")
        with index.open("rb") as file:
            head = file.read(len(_MAGIC) + _HEADER.size)
        if not head.startswith(_MAGIC) or len(head) < len(_MAGIC) + _HEADER.size:
            raise CorpusError(
                f"{index} is no index of memory-mapped tokens: it does not begin with {_MAGIC[:7].decode()}"
            )
        version, code, n, n_documents = _HEADER.unpack(head[len(_MAGIC) :])
        if version != 1:
            raise CorpusError(f"{index} has version {version} of the format; headway reads version 1")
        if code not in _TYPES:
            raise CorpusError(f"{index} names no whole-number type of tokens: its code is {code}")
        expected = len(head) + 12 * n + 8 * n_documents
        if index.stat().st_size < expected:
            raise CorpusError(f"{index} is truncated: {index.stat().st_size:,} of {expected:,} bytes. Fetch it again")
        self.dtype = np.dtype(_TYPES[code]).newbyteorder("<")
        self.lengths = np.memmap(index, "<i4", "r", len(head), (n,)) if n else np.empty(0, "<i4")
        self._offsets = np.memmap(index, "<i8", "r", len(head) + 4 * n, (n,)) if n else np.empty(0, "<i8")
        needed = int(self._offsets[-1]) + int(self.lengths[-1]) * self.dtype.itemsize if n else 0
        if tokens.stat().st_size < needed:
            raise CorpusError(f"{tokens} is truncated: {tokens.stat().st_size:,} of {needed:,} bytes. Fetch it again")
        self._tokens = np.memmap(tokens, np.uint8, "r") if n else np.empty(0, np.uint8)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> np.ndarray:
        """The tokens of one sequence: (length,) int64."""
        start, length = int(self._offsets[number]), int(self.lengths[number])
        raw = self._tokens[start : start + length * self.dtype.itemsize]
        return np.frombuffer(raw.tobytes(), dtype=self.dtype).astype(np.int64)


def data_statistics(
    prefix: str | os.PathLike[str], steps: Sequence[int], *, sequences_per_step: int = PYTHIA_SEQUENCES
) -> pl.DataFrame:
    """Describe what a run read in `steps`, from a local copy of its data in the order of training.

    Args:
        prefix: the files' path without .idx and .bin.
        steps: the steps whose batches are read, ascending: that of step s is read between checkpoints s and s + 1.
        sequences_per_step: sequences of a batch, which follow one another.

    Returns:
        step, sequences, tokens, repeated_ngrams, novel_ngrams and entropy, as for `headway nano data`; one row per step.
        N-grams are novel if no earlier one of `steps` has them, because the whole history of a public run does not fit
        into memory.

    Raises:
        CorpusError: the files are missing or damaged, or sequences of a batch differ in length.
        UsageError: a step is beyond the data.
    """
    import polars as pl

    from headway.nano.replay import NgramStatistics

    data, statistics, rows = IndexedTokens(prefix), NgramStatistics(), []
    n_steps = len(data) // sequences_per_step
    for step in sorted(set(steps)):
        if not 0 <= step < n_steps:
            raise UsageError(f"step {step:,} is beyond the data in {os.fspath(prefix)}, which hold {n_steps:,} steps")
        own = range(step * sequences_per_step, (step + 1) * sequences_per_step)
        if len(np.unique(data.lengths[own.start : own.stop])) > 1:
            raise CorpusError(
                f"sequences of step {step:,} in {os.fspath(prefix)} differ in length, so they are documents and not training "
                "examples. Give data in the order of training"
            )
        ids = np.stack([data[number] for number in own])
        rows.append({"step": step, "sequences": len(ids), "tokens": ids.size, **statistics.add(ids)})
    return pl.DataFrame(rows)

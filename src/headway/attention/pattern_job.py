"""The job `patterns`: it keeps attention patterns of a checkpoint on a few texts, for the report's viewer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headway import options, tables
from headway.corpora import Corpus
from headway.errors import CorpusError, UsageError
from headway.options import documented
from headway.suites import Checkpoint

if TYPE_CHECKING:
    from headway.models import Tokenizer
    from headway.models.opened import Opened

MOST_TOKENS = 128  # of a text: beyond, a reader sees no single token
REPEATED = "random tokens, repeated once"
_HEAD = re.compile(r"L(\d{1,4})H(\d{1,4})", re.IGNORECASE)


def named_heads(names: Sequence[str]) -> tuple[tuple[int, int], ...] | None:
    """The (layer, head) pairs of names such as L3H1; None for `all`.

    Raises:
        UsageError: a name is not of this form.
    """
    if tuple(names) == ("all",):
        return None
    found = [_HEAD.fullmatch(name) for name in names]
    for name, match in zip(names, found, strict=True):
        if match is None:
            raise UsageError(f"--heads takes all, or heads such as L3H1 for layer 3, head 1: {name!r} is neither")
    return tuple(dict.fromkeys((int(match[1]), int(match[2])) for match in found if match))


@documented(options.PATTERNS)
@dataclass(frozen=True)
class KeptPatterns:
    """The job that keeps attention patterns, table `patterns`.

    Each text is read up to its token 128. `device` and `keep_files` are no part of the job's identity.

    Attributes:
        {options}
    """

    corpus: Corpus
    n_texts: int = options.PATTERN_TEXTS.default
    repeated_length: int = options.PATTERN_REPEATED.default
    heads: tuple[str, ...] = options.PATTERN_HEADS.default
    add_bos: bool = options.ADD_BOS.default
    dtype: str = options.DTYPE.default
    device: str = field(default=options.DEVICE.default, compare=False)
    keep_files: bool = field(default=options.KEEP_FILES.default, compare=False)

    table = "patterns"
    needs = frozenset({"config", "weights", "tokenizer"})

    def identity(self) -> dict[str, Any]:
        """Return all settings that affect the numbers."""
        return {
            "corpus": {"name": self.corpus.name, "sha256": self.corpus.sha256},
            "texts": self.n_texts,
            "repeated": self.repeated_length,
            "heads": list(self.heads),
            "add_bos": self.add_bos,
            "dtype": self.dtype,
        }

    def read(self, checkpoint: Checkpoint) -> AbstractContextManager[Opened]:
        """Fetch the files and read the weights."""
        from headway.models.opened import opened

        return opened(checkpoint, self.needs, dtype=self.dtype, device=self.device, keep_files=self.keep_files)

    def compute(self, checkpoint: Checkpoint, input: Opened) -> pl.DataFrame:
        """Return one row per text and head.

        Raises:
            UsageError: the model lacks a head that was named.
            CorpusError: no text has two tokens.
        """
        from headway.attention.patterns import patterns_of

        geometry = input.geometry
        geometry.require_causal("the table patterns")
        heads = named_heads(self.heads) or tuple(np.ndindex(geometry.n_layers, geometry.n_heads))
        of_checkpoint = input.columns(checkpoint)
        rows = []
        for number, (title, ids) in enumerate(self._texts(input)):
            tokens = [input.tokenizer.decode([one]) for one in ids]
            lower = np.tril_indices(len(ids))
            for (layer, head), matrix in patterns_of(input.model, ids, heads).items():
                of_head = {"layer": layer, "head": head, "text": number, "title": title, "tokens": tokens}
                rows.append(of_checkpoint | of_head | {"attention": matrix[lower].tolist()})
        return pl.DataFrame(rows, schema=tables.schema(tables.PATTERNS_COLUMNS, dict(checkpoint.axes)))

    def _texts(self, input: Opened) -> list[tuple[str, list[int]]]:
        """The title and the tokens of each text."""
        most = min(MOST_TOKENS, input.geometry.context_length)
        found: list[tuple[str, list[int]]] = []
        if self.repeated_length >= 2:
            [repeated] = input.repeated(min(self.repeated_length, MOST_TOKENS // 2), 1, seed=0)
            found.append((REPEATED, repeated.tolist()))
        bos = [_bos(input.tokenizer)] if self.add_bos else []
        for text in self.corpus.texts:
            if len(found) == self.n_texts + (self.repeated_length >= 2):
                break
            ids = [*bos, *input.tokenizer.encode(text)][:most]
            if len(ids) > 1:
                found.append((_opening(text), ids))
        if not found:
            raise CorpusError(f"{self.corpus.name} has no text of two tokens to show")
        return found


def _bos(tokenizer: Tokenizer) -> int:
    if tokenizer.bos_id is None:
        raise UsageError("the tokenizer has no BOS token: leave --add-bos out")
    return tokenizer.bos_id


def _opening(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 60 else words[:59] + "…"

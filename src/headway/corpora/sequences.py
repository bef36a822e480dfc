"""Tokenize texts into sequences that a model can read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from headway.corpora.corpus import Corpus
from headway.errors import CorpusError, UsageError
from headway.text import count

# A text of one token attends only to itself, so there is nothing to measure.
SHORTEST = 2
# With room for three tokens, no window of a longer text is shorter than two.
SMALLEST_ROOM = 3


class Tokenizer(Protocol):
    """The interface of a tokenizer. `tokenize` prefers `encode_batch(texts)` if the tokenizer has it: it is faster."""

    def encode(self, text: str) -> list[int]:
        """Token ids, with no special tokens."""
        ...


@dataclass(frozen=True)
class Sequences:
    """Token sequences of a corpus.

    Attributes:
        ids: one int64 array (T,) of token ids for each sequence, 2 <= T <= context length.
        text: (len(ids),) index of each sequence's text in the corpus.
        n_short: number of texts with fewer than 2 tokens, which are left out.
        n_windowed: number of texts longer than the context, which are split into windows.
    """

    ids: list[np.ndarray]
    text: np.ndarray
    n_short: int
    n_windowed: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_tokens(self) -> int:
        return sum(map(len, self.ids))

    def notes(self) -> list[str]:
        """Sentences about texts that were left out or split; empty if there are none."""
        notes = []
        if self.n_short:
            short = f"of fewer than {SHORTEST} tokens"
            notes.append(count(self.n_short, f"text {short} was left out", f"texts {short} were left out"))
        if self.n_windowed:
            longer = "longer than the model's context"
            windows = len(self.ids) - len(np.unique(self.text)) + self.n_windowed
            notes.append(
                f"{count(self.n_windowed, f'text {longer} was', f'texts {longer} were')} split into {windows} windows, each "
                "read on its own"
            )
        return notes


def tokenize(
    corpus: Corpus,
    tokenizer: Tokenizer,
    *,
    context_length: int,
    vocab_size: int,
    add_bos: bool = False,
    around: tuple[Sequence[int], Sequence[int]] = ((), ()),
) -> Sequences:
    """Tokenize each text of `corpus` on its own.

    A text longer than the context is split into the fewest windows that fit. They are nearly equal in length, so that no
    window is a short remnant. With `add_bos` each window starts with the tokenizer's `bos_id`, which counts as a token.

    Args:
        context_length: the most tokens that the model reads at once.
        vocab_size: rows of the model's embedding.
        around: special tokens before and after each window, which count as tokens of the context. A text needs two tokens
            without them.

    Raises:
        CorpusError: no text has two tokens, or a token id is outside the embedding, as with another model's tokenizer.
        UsageError: `add_bos` with a tokenizer without BOS, or a context with room for fewer than three tokens of text.
    """
    bos = _bos(tokenizer) if add_bos else []
    before, after = (np.array(ids, dtype=np.int64) for ids in around)
    room = context_length - len(bos) - len(before) - len(after)
    if room < SMALLEST_ROOM:
        raise UsageError(
            f"a context of {context_length} tokens has no room for {SMALLEST_ROOM} tokens of text: "
            "use a model with a longer context"
        )
    ids: list[np.ndarray] = []
    text: list[int] = []
    n_short = n_windowed = 0
    for number, tokens in enumerate(_encode(tokenizer, corpus.texts)):
        if len(bos) + len(tokens) < SHORTEST:
            n_short += 1
            continue
        _check_ids(tokens, vocab_size, corpus, number)
        windows = np.array_split(tokens, max(1, -(-len(tokens) // room)))
        n_windowed += len(tokens) > room
        ids += [np.concatenate([before, bos, window, after]).astype(np.int64) for window in windows]
        text += [number] * len(windows)
    if not ids:
        raise CorpusError(
            f"none of the {count(len(corpus), 'text')} of the corpus {corpus.name} has {SHORTEST} tokens, so there is no "
            "previous token to attend to: give longer texts"
        )
    return Sequences(ids, np.array(text, dtype=np.int64), n_short, n_windowed)


def _bos(tokenizer: Any) -> list[int]:
    bos = getattr(tokenizer, "bos_id", None)
    if bos is None:
        raise UsageError("the tokenizer has no token that starts a text (BOS): measure without a BOS")
    return [bos]


def _encode(tokenizer: Any, texts: tuple[str, ...]) -> Iterator[np.ndarray]:
    batch = getattr(tokenizer, "encode_batch", None)
    encoded = batch(texts) if batch else map(tokenizer.encode, texts)
    return (np.asarray(tokens, dtype=np.int64) for tokens in encoded)


def _check_ids(tokens: np.ndarray, vocab_size: int, corpus: Corpus, number: int) -> None:
    outside = tokens[(tokens < 0) | (tokens >= vocab_size)]
    if len(outside):
        raise CorpusError(
            f"token id {outside[0]} (text {number} of the corpus {corpus.name}: {corpus.texts[number][:40]!r}) is "
            f"outside the model's vocabulary of {vocab_size}, so the tokenizer belongs to another model. Put the model's "
            "own tokenizer beside its weights"
        )

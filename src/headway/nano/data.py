"""The batches that nano is trained on: passages of text, and passages that repeat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from headway.nano.recipe import Recipe
from headway.nano.text import trained_on

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0


def train_tokenizer(vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer of `vocab_size` tokens, trained on nano's text, the held-out tenth left out."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(trained_on(), trainer)
    return tokenizer


def token_stream(tokenizer: Tokenizer) -> np.ndarray:
    """All text to train on as one row of ids, a paragraph after another, each ended by <|endoftext|>."""
    return np.concatenate([[*encoding.ids, END_OF_TEXT_ID] for encoding in tokenizer.encode_batch(trained_on())])


def batches(recipe: Recipe, stream: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Without end: (batch_size, context_length) int64 ids. The seed alone decides their order."""
    draw = np.random.default_rng(seed)
    while True:
        yield np.stack([_sequence(recipe, stream, draw) for _ in range(recipe.batch_size)])


def _sequence(recipe: Recipe, stream: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    if draw.random() >= recipe.repeated:
        return _text(stream, recipe.context_length, draw)
    length = int(draw.integers(recipe.shortest_passage, recipe.longest_passage + 1))
    if draw.random() < recipe.random:
        passage = draw.choice(np.arange(END_OF_TEXT_ID + 1, recipe.vocab_size), size=length, replace=False)
    else:
        passage = _text(stream, length, draw)
    return np.resize(passage, recipe.context_length)  # over and over


def _text(stream: np.ndarray, length: int, draw: np.random.Generator) -> np.ndarray:
    start = int(draw.integers(len(stream) - length + 1))
    return stream[start : start + length]

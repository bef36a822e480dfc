"""The batches that nano is trained on: passages of text, and passages that repeat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from headway.nano.recipe import Recipe
from headway.nano.text import trained_on

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT, UNKNOWN = SPECIAL = ("<|endoftext|>", "<|unknown|>")
END_OF_TEXT_ID = 0


def train_tokenizer(vocab_size: int) -> Tokenizer:
    """A tokenizer of lower-case characters, trained on nano's text, the held-out tenth left out.

    The most frequent characters come first. If the vocabulary is larger than the alphabet, byte-pair merges fill it.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s?\S+"), "isolated")  # words, each with the space before
    tokenizer.decoder = decoders.Fuse()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        limit_alphabet=vocab_size - len(SPECIAL),
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
        yield _batch(recipe, stream, draw)


def _batch(recipe: Recipe, stream: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    n, length = recipe.batch_size, recipe.context_length
    starts = draw.integers(len(stream) - length + 1, size=(n, 1))
    text = stream[starts + np.arange(length)]
    is_random = draw.random((n, 1)) < recipe.random
    passages = np.where(is_random, _distinct(recipe, draw), text[:, : recipe.longest_passage])
    lengths = draw.integers(recipe.shortest_passage, recipe.longest_passage + 1, size=(n, 1))
    over_and_over = np.take_along_axis(passages, np.arange(length) % lengths, axis=1)
    return np.where(draw.random((n, 1)) < recipe.repeated, over_and_over, text)


def _distinct(recipe: Recipe, draw: np.random.Generator) -> np.ndarray:
    """Distinct random tokens in each row, without special ones: (batch_size, longest_passage)."""
    orders = draw.random((recipe.batch_size, recipe.vocab_size - len(SPECIAL))).argsort(axis=1)
    return orders[:, : recipe.longest_passage] + len(SPECIAL)

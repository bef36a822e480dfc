"""The batches that nano is trained on: passages of text, and passages that repeat."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

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


class Batch(NamedTuple):
    """What is read in one step.

    Attributes:
        ids: (batch_size, context_length) int64.
        repeats: (batch_size,) whether a sequence repeats one passage over and over.
        period: (batch_size,) tokens of that passage.
    """

    ids: np.ndarray
    repeats: np.ndarray
    period: np.ndarray


def batches(recipe: Recipe, stream: np.ndarray, seed: int) -> Iterator[Batch]:
    """Without end: the batch after step 0, after step 1 and so on. Recipe and seed alone decide them.

    Recipes that differ only in the share of repeats, or when there are any, draw the same random numbers: runs of one
    seed read the same passages wherever both repeat, and the same text wherever neither does.
    """
    draw = np.random.default_rng(seed)
    for step in count():
        yield _batch(recipe, stream, draw, recipe.repeated_at(step))


def _batch(recipe: Recipe, stream: np.ndarray, draw: np.random.Generator, repeated: float) -> Batch:
    n, length = recipe.batch_size, recipe.context_length
    text = _background(recipe, stream, draw)
    is_random = draw.random((n, 1)) < recipe.random
    passages = np.where(is_random, _distinct(recipe, draw), text[:, : recipe.longest_passage])
    lengths = draw.integers(recipe.shortest_passage, recipe.longest_passage + 1, size=(n, 1))
    over_and_over = np.take_along_axis(passages, np.arange(length) % lengths, axis=1)
    repeats = draw.random((n, 1)) < repeated
    return Batch(np.where(repeats, over_and_over, text), repeats[:, 0], lengths[:, 0])


def _background(recipe: Recipe, stream: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Sequences of text or of tokens from Zipf's law, in which bursty tokens come again: (batch_size, context_length)."""
    n, length = recipe.batch_size, recipe.context_length
    if recipe.background == "zipf":
        ranks = np.arange(1, recipe.vocab_size - len(SPECIAL) + 1)
        weights = ranks**-recipe.zipf
        ids = draw.choice(ranks - 1 + len(SPECIAL), size=(n, length), p=weights / weights.sum())
    else:
        starts = draw.integers(len(stream) - length + 1, size=(n, 1))
        ids = stream[starts + np.arange(length)]
    if recipe.burstiness:
        copies = draw.random((n, length)) < recipe.burstiness
        earlier = (draw.random((n, length)) * np.arange(length)).astype(np.int64)
        for place in range(1, length):  # in order, because a copy may be copied again
            copied = np.take_along_axis(ids, earlier[:, [place]], axis=1)[:, 0]
            ids[:, place] = np.where(copies[:, place], copied, ids[:, place])
    return ids


def _distinct(recipe: Recipe, draw: np.random.Generator) -> np.ndarray:
    """Distinct random tokens in each row, without special ones: (batch_size, longest_passage)."""
    orders = draw.random((recipe.batch_size, recipe.vocab_size - len(SPECIAL))).argsort(axis=1)
    return orders[:, : recipe.longest_passage] + len(SPECIAL)

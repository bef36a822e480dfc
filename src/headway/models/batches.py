"""Which texts a model reads together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Tokens of a batch: enough for matrix products to be efficient, few enough to stay in a processor's caches.
BATCH_TOKENS = 2048
# Launching one layer's operations takes a processor about as long as this many multiplications in its products.
LAUNCH = 2**25


class Part(NamedTuple):
    """Texts of one length within a batch."""

    texts: slice
    n_tokens: int


class Batch(NamedTuple):
    """Texts that are read together, shortest first.

    Attributes:
        numbers: which texts.
        ids: (texts, tokens of the longest) their tokens; behind a shorter text its last token again, which nothing
            before it attends to.
        parts: the batch by length.
    """

    numbers: list[int]
    ids: np.ndarray
    parts: list[Part]


def batches(
    texts: Sequence[np.ndarray], tokens: int = BATCH_TOKENS, *, launch: float = 0.0, padded_up_to: int = 0
) -> Iterator[Batch]:
    """All texts in batches of up to `tokens` tokens, one text at least.

    A batch is of one length; or its texts are short, and are padded to its longest where that costs less. A batch is
    taken to cost as much as `launch` tokens beside its own, padding included.

    Args:
        texts: tokens of each.
        padded_up_to: texts of more tokens are never padded.
    """
    lengths = np.array([len(text) for text in texts])
    order = np.argsort(lengths, kind="stable")
    found, count = np.unique(lengths, return_counts=True)
    n_short = int(np.searchsorted(found, padded_up_to, side="right"))
    ends = [*_cheapest_ends(found[:n_short], count[:n_short], tokens, launch), *range(n_short + 1, len(found) + 1)]
    texts_up_to = np.append(0, count.cumsum())
    for start, end in zip([0, *ends], ends, strict=False):
        group = order[texts_up_to[start] : texts_up_to[end]].tolist()
        most = _texts_of_batch(tokens, found[end - 1])
        yield from (_batch(group[first : first + most], texts) for first in range(0, len(group), most))


def read_together(
    model: PreTrainedModel, texts: Sequence[np.ndarray], tokens: int = BATCH_TOKENS, *, padded_up_to: int | None = None
) -> Iterator[Batch]:
    """The batches in which `model` reads texts soonest; arguments as in `batches`, but None has no limit to padding."""
    # A token takes about 12 hidden² multiplications a layer.
    launch = LAUNCH / (12 * model.config.get_text_config().hidden_size ** 2)
    longest = max(map(len, texts), default=0) if padded_up_to is None else padded_up_to
    return batches(texts, tokens, launch=launch, padded_up_to=longest)


def _cheapest_ends(lengths: np.ndarray, count: np.ndarray, tokens: int, launch: float) -> list[int]:
    """Where to part rising lengths into ranges, each padded to its longest, at the least cost in all.

    The best way to part the first lengths is the best way to part still fewer, and one more range (Bellman 1957).
    """
    texts_up_to = np.append(0, count.cumsum())
    least, start_of = [0.0], [0]
    for end in range(1, len(lengths) + 1):
        longest = int(lengths[end - 1])
        n_texts = texts_up_to[end] - texts_up_to[:end]
        cost = least + n_texts * longest + np.ceil(n_texts / _texts_of_batch(tokens, longest)) * launch
        start_of.append(int(cost.argmin()))
        least.append(float(cost.min()))
    ends, end = [], len(lengths)
    while end:
        ends.append(end)
        end = start_of[end]
    return ends[::-1]


def _texts_of_batch(tokens: int, longest: int) -> int:
    return max(1, tokens // longest)


def _batch(numbers: list[int], texts: Sequence[np.ndarray]) -> Batch:
    own = [texts[number] for number in numbers]
    longest = len(own[-1])
    ids = np.stack([np.pad(text, (0, longest - len(text)), mode="edge") for text in own])
    parts, start = [], 0
    for length, equal in groupby(map(len, own)):
        stop = start + len(list(equal))
        parts.append(Part(slice(start, stop), length))
        start = stop
    return Batch(numbers, ids, parts)

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
# The same for a GPU, by bytes of a number: an H100 does 2^35 to 2^38 while a processor launches a layer, about 1 ms. So more
# padding costs less than one more batch.
GPU_BATCH_TOKENS = 2**16
GPU_LAUNCH = {8: 2**34, 4: 2**35, 2: 2**37}
# Numbers of logits in memory at a time on a CPU: 128 MiB in float32.
LOGITS = 2**25
# Batches may take this share of a GPU's free memory; what they take is an estimate.
SHARE_OF_FREE_MEMORY = 0.25


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
    model: PreTrainedModel,
    texts: Sequence[np.ndarray],
    tokens: int | None = None,
    *,
    padded_up_to: int | None = None,
    logits: bool = False,
) -> Iterator[Batch]:
    """The batches in which `model` reads texts soonest.

    Args:
        tokens: the most that a CPU reads together; `BATCH_TOKENS` if None. A GPU reads as many as its free memory holds.
        padded_up_to: as in `batches`; None has no limit to padding.
        logits: whether the model's predictions are wanted, which take memory too.
    """
    config = model.config.get_text_config()
    on_gpu = model.device.type == "cuda"
    fitting = min(BATCH_TOKENS, LOGITS // config.vocab_size) if logits else BATCH_TOKENS
    most = _fitting_gpu(model, logits) if on_gpu else tokens or fitting
    # A token takes about 12 hidden² multiplications a layer.
    launch = (GPU_LAUNCH[model.dtype.itemsize] if on_gpu else LAUNCH) / (12 * config.hidden_size**2)
    longest = max(map(len, texts), default=0) if padded_up_to is None else padded_up_to
    return batches(texts, most, launch=launch, padded_up_to=longest)


def _fitting_gpu(model: PreTrainedModel, logits: bool) -> int:
    """Tokens whose activations fit into a share of the GPU's free memory; `GPU_BATCH_TOKENS` at most."""
    import torch

    config = model.config.get_text_config()
    hidden = config.hidden_size
    # Residual, norms, queries, keys, values, heads' outputs; the MLP twice; a row of attention in float32, some times over.
    numbers = 12 * hidden + 3 * (getattr(config, "intermediate_size", None) or 4 * hidden)
    held = numbers * model.dtype.itemsize + 4 * 6 * 128 * config.num_attention_heads
    if logits:
        held += 3 * 4 * config.vocab_size  # in float32, and what cross-entropy makes of them
    free, _ = torch.cuda.mem_get_info(model.device)
    unused = torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    return max(1, min(GPU_BATCH_TOKENS, int(SHARE_OF_FREE_MEMORY * (free + unused) / held)))


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
    lengths = np.array([len(text) for text in own])
    # Behind a text its last token again: one gather, since padding text by text takes as long as a small model's layer.
    column = np.minimum(np.arange(lengths[-1]), lengths[:, None] - 1)
    ids = np.concatenate(own)[(lengths.cumsum() - lengths)[:, None] + column]
    parts, start = [], 0
    for length, equal in groupby(lengths.tolist()):
        stop = start + len(list(equal))
        parts.append(Part(slice(start, stop), length))
        start = stop
    return Batch(numbers, ids, parts)

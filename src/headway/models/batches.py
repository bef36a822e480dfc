"""Group texts into batches that a model reads in one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Tokens in a batch: enough for efficient matrix products, few enough to stay in a processor's caches.
BATCH_TOKENS = 2048
# Launching the operations of one layer takes a processor about as long as this many multiplications.
LAUNCH = 2**25
# The same for a GPU, by bytes per number: an H100 does 2^35 to 2^38 multiplications while a processor launches a layer
# (about 1 ms). Padding is therefore cheaper than one more batch.
# padding costs less than one more batch.
GPU_BATCH_TOKENS = 2**16
GPU_LAUNCH = {8: 2**34, 4: 2**35, 2: 2**37}
# Logits in memory at a time on a CPU: 128 MiB in float32.
LOGITS = 2**25
# The largest share of a GPU's free memory that a batch may take. It is well below 1 because the need is only estimated.
SHARE_OF_FREE_MEMORY = 0.25


class Part(NamedTuple):
    """Texts of one length within a batch."""

    texts: slice
    n_tokens: int


class Batch(NamedTuple):
    """Texts of one forward pass, shortest first.

    Attributes:
        numbers: indices of the texts.
        ids: (texts, tokens of the longest) token ids. A shorter text is padded with its last token. No token of the
            text attends to the padding, because attention is causal.
        parts: the texts of the batch grouped by length.
    """

    numbers: list[int]
    ids: np.ndarray
    parts: list[Part]


def batches(
    texts: Sequence[np.ndarray], tokens: int = BATCH_TOKENS, *, launch: float = 0.0, padded_up_to: int = 0
) -> Iterator[Batch]:
    """Split all texts into batches of up to `tokens` tokens, with at least one text each.

    Short texts are padded to the longest in their batch if that is cheaper than another batch. The cost of a batch is
    its number of tokens, padding included, plus `launch`.

    Args:
        texts: token ids of each text.
        tokens: the most tokens in a batch, padding included.
        launch: the fixed cost of a batch, in tokens.
        padded_up_to: texts with more tokens are never padded.
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
    """Split texts into the batches that `model` reads fastest.

    Args:
        tokens: the most tokens in a batch on a CPU; `BATCH_TOKENS` if None. A GPU takes what its free memory holds.
        padded_up_to: as in `batches`; None pads texts of any length.
        logits: whether next-token logits are computed, which need memory too.
    """
    config = model.config.get_text_config()
    on_gpu = model.device.type == "cuda"
    default = min(BATCH_TOKENS, LOGITS // config.vocab_size) if logits else BATCH_TOKENS
    most = _gpu_tokens(model, logits) if on_gpu else tokens or default
    # One token takes about 12 * hidden_size**2 multiplications in a layer.
    launch = (GPU_LAUNCH[model.dtype.itemsize] if on_gpu else LAUNCH) / (12 * config.hidden_size**2)
    longest = max(map(len, texts), default=0) if padded_up_to is None else padded_up_to
    return batches(texts, most, launch=launch, padded_up_to=longest)


def _gpu_tokens(model: PreTrainedModel, logits: bool) -> int:
    """Tokens whose activations fit into a share of the GPU's free memory, at most `GPU_BATCH_TOKENS`."""
    import torch

    config = model.config.get_text_config()
    hidden = config.hidden_size
    # Residual, norms, queries, keys, values, head outputs; the MLP twice; several copies of a float32 attention row.
    numbers = 12 * hidden + 3 * (getattr(config, "intermediate_size", None) or 4 * hidden)
    row = max(128, getattr(config, "max_source_positions", 0))  # the decoder of Whisper attends to that many frames
    held = numbers * model.dtype.itemsize + 4 * 6 * row * config.num_attention_heads
    if logits:
        held += 3 * 4 * config.vocab_size  # logits in float32, and the temporary arrays of cross-entropy
    free, _ = torch.cuda.mem_get_info(model.device)
    unused = torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    return max(1, min(GPU_BATCH_TOKENS, int(SHARE_OF_FREE_MEMORY * (free + unused) / held)))


def _cheapest_ends(lengths: np.ndarray, count: np.ndarray, tokens: int, launch: float) -> list[int]:
    """Cut ascending lengths into ranges, each padded to its longest length, at the least total cost.

    Dynamic programming: the best cut of the first n lengths is a best cut of fewer lengths plus one range (Bellman 1957).

    Args:
        lengths: distinct lengths, ascending.
        count: number of texts of each length.

    Returns:
        The end of each range, as an index into `lengths`.
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
    # Padding is one gather for the whole batch: padding text by text takes as long as a layer of a small model.
    column = np.minimum(np.arange(lengths[-1]), lengths[:, None] - 1)
    ids = np.concatenate(own)[(lengths.cumsum() - lengths)[:, None] + column]
    parts, start = [], 0
    for length, equal in groupby(lengths.tolist()):
        stop = start + len(list(equal))
        parts.append(Part(slice(start, stop), length))
        start = stop
    return Batch(numbers, ids, parts)

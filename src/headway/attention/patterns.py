"""Attention patterns: the whole matrix of a head on a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from headway.attention.attention import Attention
from headway.attention.reading import EnoughError, reading
from headway.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Pattern:
    """The attention of one head of one checkpoint on a text.

    Attributes:
        checkpoint: such as `pythia-14m-seed1@512`.
        layer, head: counted from 0.
        tokens: (T,) the text's tokens, as text.
        matrix: (T, T) A[i, j], the attention from token i to token j; rows sum to 1, or to less with attention sinks.
    """

    checkpoint: str
    layer: int
    head: int
    tokens: tuple[str, ...]
    matrix: NDArray[np.float64]

    @property
    def frame(self) -> pl.DataFrame:
        """One row per pair of tokens with the key not after the query: query, key, query_token, key_token, attention."""
        query, key = np.tril_indices(len(self.tokens))
        tokens = np.array(self.tokens, dtype=object)
        return pl.DataFrame(
            {
                "query": query,
                "key": key,
                "query_token": tokens[query].tolist(),
                "key_token": tokens[key].tolist(),
                "attention": self.matrix[query, key],
            }
        )


def pattern_of(
    model: PreTrainedModel, ids: Sequence[int] | NDArray[np.integer], layer: int, head: int
) -> NDArray[np.float64]:
    """Return A of one head on one text: (T, T), zero above the diagonal. Errors are those of `patterns_of`."""
    return patterns_of(model, ids, [(layer, head)])[layer, head]


def patterns_of(
    model: PreTrainedModel, ids: Sequence[int] | NDArray[np.integer], heads: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Return A of each of the heads (layer, head) on one text: (T, T), zero above the diagonal.

    The text is read in one pass. Of a long one a matrix is made some rows at a time, in memory of the order of T².

    Raises:
        UsageError: the model has no such layer or head.
        UnsupportedModel: the model's attention cannot be read.
        CheckpointError: an entry is not finite.
    """
    config = model.config.get_text_config()
    n_layers, n_heads = config.num_hidden_layers, config.num_attention_heads
    wanted: dict[int, list[int]] = {}
    for layer, head in heads:
        for what, number, most in (("layer", layer, n_layers), ("head", head, n_heads)):
            if not 0 <= number < most:
                raise UsageError(f"there is no {what} {number}: the model has {most}, counted from 0 to {most - 1}")
        wanted.setdefault(layer, []).append(head)
    found: dict[tuple[int, int], NDArray[np.float64]] = {}

    def read(number: int, attention: Attention) -> None:
        for head in wanted.get(number, []):
            found[number, head] = _finite(attention.matrix_of(head)[0].double().cpu().numpy(), number, head)
        if number == max(wanted):
            raise EnoughError

    text = torch.as_tensor(np.asarray(ids, dtype=np.int64))[None].to(model.device)
    with torch.inference_mode(), reading(model, read), suppress(EnoughError):
        model.base_model(input_ids=text, use_cache=False)
    if unread := sorted(wanted.keys() - {layer for layer, _ in found}):
        raise UsageError(f"layer {unread[0]} has no attention to read")
    return found


def _finite(matrix: NDArray[np.float64], layer: int, head: int) -> NDArray[np.float64]:
    if not np.isfinite(matrix).all():
        raise CheckpointError(
            f"the attention of layer {layer}, head {head} is not finite: the run diverged here, or the weights are damaged"
        )
    return matrix

"""Read the attention matrices that a model hands out, if its attention does not go through AttentionInterface.

Such models compute attention in their own code. Their eager attention returns the matrix of each layer, which hooks take
from the layer's output, so that no more than one layer's matrix is held. That is slower than `headway.attention.reading`,
and the memory of a matrix grows with the square of the text's length.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from headway.attention.attention import Attention, Padding, ShortAttention
from headway.attention.kernels import widened
from headway.errors import UnsupportedModel

log = logging.getLogger("headway.attention")


class MatrixAttention(ShortAttention):
    """A matrix (B, N, T, T) whose values are unknown: enough for scores of the pattern."""

    def __init__(self, matrix: Tensor, padding: Padding | None = None) -> None:
        super().__init__(matrix, matrix.new_empty(0), padding)

    @property
    def values(self) -> Tensor:
        raise UnsupportedModel("the model hands out its attention but not its values: only scores of the pattern exist")

    def of(self, texts: slice, n_tokens: int) -> Attention:
        return MatrixAttention(self.matrix[texts, :, :n_tokens, :n_tokens])

    def padded(self, padding: Padding) -> Attention:
        return MatrixAttention(self.matrix, padding)


@contextmanager
def handed_out(model: nn.Module, reader: Callable[[int, Attention], None]) -> Iterator[None]:
    """While the block runs, pass the matrix of each layer to `reader`, in the order in which layers are called.

    Args:
        model: it runs its eager attention, and its config asks for `output_attentions`.

    Raises:
        UnsupportedModel: in a forward pass in which attention goes to later tokens.
    """
    say_slower(type(model).__name__, "computes attention in its own code")
    called = [0]

    def start(module: nn.Module, args: Any) -> None:
        called[0] = 0

    def take(module: nn.Module, args: Any, output: Any) -> Any:
        place = _place_of_matrix(output)
        if place is None:
            return output
        matrix = widened(output[place])
        if matrix.triu(1).any():
            raise UnsupportedModel(
                f"{type(module).__name__} attends to later tokens, and headway's scores are those of causal attention: "
                "it is not measured. Use a model whose tokens attend to earlier ones alone"
            )
        layer = getattr(module, "layer_idx", None)
        reader(called[0] if layer is None else layer, MatrixAttention(matrix))
        called[0] += 1
        return type(output)([*output[:place], None, *output[place + 1 :]])

    base = getattr(model, "base_model", model)
    handles = [base.register_forward_pre_hook(start)]
    # First of all hooks, so that transformers' own, which would keep every layer's matrix, find none.
    handles += [
        module.register_forward_hook(take, prepend=True)
        for module in model.modules()
        if "attention" in type(module).__name__.lower()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _place_of_matrix(output: Any) -> int | None:
    """The place of an attention matrix (B, N, T, T) in a module's output, if it has one."""
    if not isinstance(output, tuple | list):
        return None
    for place, part in enumerate(output):
        if place and isinstance(part, torch.Tensor) and part.dim() == 4 and part.shape[-1] == part.shape[-2]:
            return place
    return None


@lru_cache
def say_slower(name: str, why: str) -> None:
    log.warning("%s %s: its eager attention is read, which is right, but slower", name, why)

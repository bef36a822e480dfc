"""The shape of a model's heads."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from headway.errors import UnsupportedModel, UsageError
from headway.known_scores import DECODER
from headway.text import listed


@dataclass(frozen=True)
class Geometry:
    """The sizes of a model, and of the heads of one of its stacks.

    Attributes:
        architecture: `model_type` as transformers names it, such as gpt_neox.
        n_heads: query heads in a layer.
        n_kv_heads: key and value heads in a layer; fewer than `n_heads` with grouped queries.
        rotary_dim: dimensions of a head, out of `head_dim`, that rotate with the position; 0 without rotary positions.
        n_params: number of parameters, embedding and unembedding included. Tied parameters count once.
        context_length: the longest sequence that the model supports, in tokens.
        vocab_size: rows of the embedding, including rows that belong to no token.
        without_heads: layers of a hybrid that have no attention heads, such as those of a state-space model.
        stack: the stack whose layers and heads these are, one of `known_scores.STACKS`.
        stacks: all stacks of the model.
        measured: those whose attention depends on texts. Beside an encoder of audio, that is the decoder alone.
        sets_of_weights: how many sets of weights the layers share (ALBERT), None if each layer has its own.
    """

    architecture: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    hidden_size: int
    rotary_dim: int
    n_params: int
    context_length: int
    vocab_size: int
    without_heads: tuple[int, ...] = ()
    stack: str = DECODER
    stacks: tuple[str, ...] = (DECODER,)
    measured: tuple[str, ...] = (DECODER,)
    sets_of_weights: int | None = None

    @property
    def causal(self) -> bool:
        """Whether the model is a causal language model: a decoder alone."""
        return self.stacks == (DECODER,)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that have attention heads: all, except in hybrids."""
        return tuple(layer for layer in range(self.n_layers) if layer not in self.without_heads)

    def require_layers(self, layers: Iterable[int], where: str = "") -> None:
        """Check that the model has these layers, with heads. `where` says who names them, such as `labels 'a': `.

        Raises:
            UsageError: one does not exist, or has no attention heads.
        """
        require_layers(layers, self.n_layers, self.layers, where)

    @property
    def gaps(self) -> dict[str, list[int]]:
        """What a manifest states of a hybrid: the layers that are left out, because they have no heads."""
        return {"layers_without_heads": list(self.without_heads)} if self.without_heads else {}

    def require_causal(self, what: str) -> None:
        """Check that the model is a causal language model, which `what` needs, such as `a kept pattern`.

        Raises:
            UnsupportedModel: it has an encoder.
        """
        if not self.causal:
            read = "a whole text at once" if self.measured == self.stacks else "audio"
            raise UnsupportedModel(
                f"{what} needs a causal language model, which predicts each next token. The architecture "
                f"{self.architecture!r} has an encoder, which reads {read}: headway measures and clusters its "
                "heads, and no more"
            )


def require_layers(layers: Iterable[int], n_layers: int, with_heads: Collection[int], where: str = "") -> None:
    """Check that a model of `n_layers` has the `layers`, and that they are among those `with_heads`.

    Raises:
        UsageError: one does not exist, or has no attention heads. `where` says who names them.
    """
    for layer in layers:
        if not 0 <= layer < n_layers:
            raise UsageError(f"{where}there is no layer {layer}: the model has layers 0 to {n_layers - 1}")
        if layer not in with_heads:
            own = listed(list(map(str, with_heads)))
            raise UsageError(f"{where}layer {layer} has no attention heads: those of layers {own} can be chosen")

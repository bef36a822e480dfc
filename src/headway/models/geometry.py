"""The shape of a model's heads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """The sizes of a causal language model and its heads.

    Attributes:
        architecture: `model_type` as transformers names it, such as gpt_neox.
        n_heads: query heads in a layer.
        n_kv_heads: key and value heads in a layer; fewer than `n_heads` with grouped queries.
        rotary_dim: dimensions of a head, out of `head_dim`, that rotate with the position; 0 without rotary positions.
        n_params: number of parameters, embedding and unembedding included. Tied parameters count once.
        context_length: the longest sequence that the model supports, in tokens.
        vocab_size: rows of the embedding, including rows that belong to no token.
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

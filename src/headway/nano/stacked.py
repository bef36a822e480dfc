"""GPT-NeoX for several runs of one size at once.

The weights of a run are one row of a matrix. So one batched product serves all runs, and the optimizer, the clipping and
the gradient are one operation each. `torch.func.vmap` over transformers' model was the alternative: it repeats the
model's Python at each step, and is slower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from headway.nano.recipe import Recipe, Size

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-5  # of the layer norms
ROTARY_BASE = 10000.0
_LAYER = "gpt_neox.layers.{}."
_EMBEDDING, _UNEMBEDDING, _LAST_NORM = "gpt_neox.embed_in.weight", "embed_out.weight", "gpt_neox.final_layer_norm."


def parameter_shapes(size: Size, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter of a run, by its name in a GPT-NeoX checkpoint."""
    d, m = size.hidden_size, size.mlp_size
    shapes: dict[str, tuple[int, ...]] = {_EMBEDDING: (vocab_size, d)}
    for number in range(size.n_layers):
        layer = _LAYER.format(number)
        shapes |= _norm(f"{layer}input_layernorm.", d) | _norm(f"{layer}post_attention_layernorm.", d)
        shapes |= _linear(f"{layer}attention.query_key_value.", 3 * d, d) | _linear(f"{layer}attention.dense.", d, d)
        shapes |= _linear(f"{layer}mlp.dense_h_to_4h.", m, d) | _linear(f"{layer}mlp.dense_4h_to_h.", d, m)
    return shapes | _norm(_LAST_NORM, d) | {_UNEMBEDDING: (vocab_size, d)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}weight": (width,), f"{name}bias": (width,)}


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}weight": (outputs, inputs), f"{name}bias": (outputs,)}


def config(recipe: Recipe, size: Size) -> dict[str, Any]:
    """The config.json with which transformers reads a checkpoint of this size."""
    return {
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "vocab_size": recipe.vocab_size,
        "hidden_size": size.hidden_size,
        "num_hidden_layers": size.n_layers,
        "num_attention_heads": size.n_heads,
        "intermediate_size": size.mlp_size,
        "max_position_embeddings": recipe.context_length,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": ROTARY_BASE,
            "partial_rotary_factor": recipe.rotary,
        },
        "use_parallel_residual": False,
        "hidden_act": "relu",
        "layer_norm_eps": EPSILON,
        "initializer_range": recipe.initializer_range,
        "tie_word_embeddings": False,
        "attention_bias": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "dtype": "float32",
        "use_cache": False,
    }


class Stack:
    """The weights of several runs of one size, and their forward pass.

    Attributes:
        weights: (runs, parameters of a run), the parameters in the order of `parameter_shapes`.
    """

    def __init__(self, recipe: Recipe, size: Size, seeds: Sequence[int], device: str = "cpu") -> None:
        self._recipe, self._size = recipe, size
        self._shapes = parameter_shapes(size, recipe.vocab_size)
        self._lengths = [math.prod(shape) for shape in self._shapes.values()]
        # Each run is drawn with a generator of its own, on the CPU: so neither its stack nor the device matter.
        rows = [self._initial(torch.Generator().manual_seed(seed)) for seed in seeds]
        self.weights = torch.stack(rows).to(device).requires_grad_()

    def _initial(self, draw: torch.Generator) -> Tensor:
        """As transformers initialises GPT-NeoX: normal matrices, biases of 0, norms of 1."""
        row = []
        for name, shape in self._shapes.items():
            if len(shape) == 2:
                row.append(torch.randn(shape, generator=draw).mul_(self._recipe.initializer_range).flatten())
            else:
                row.append(torch.full(shape, float("norm.weight" in name)))
        return torch.cat(row)

    def state(self, run: int) -> dict[str, Tensor]:
        """The parameters of one run, by name."""
        return self.parts(self.weights.detach()[run])

    @property
    def names(self) -> list[str]:
        """Names of the parameters, in their order."""
        return list(self._shapes)

    def parts(self, row: Tensor) -> dict[str, Tensor]:
        """A run's row, such as its weights or moments, by the parameters' names."""
        parts = row.cpu().split(self._lengths)
        return {name: part.view(shape).clone() for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    def row(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The row that `parts` takes apart."""
        return torch.cat([parts[name].flatten() for name in self._shapes])

    def losses(self, ids: Tensor) -> Tensor:
        """The mean loss of each run's next-token predictions, in nats.

        Args:
            ids: (runs, texts, T) token ids; each run reads its own.
        """
        logits = self.logits(ids)[:, :, :-1]
        nats = functional.cross_entropy(logits.flatten(0, 2), ids[:, :, 1:].flatten(), reduction="none")
        return nats.view(len(ids), -1).mean(1)

    def logits(self, ids: Tensor) -> Tensor:
        """The logits of the next tokens: (runs, texts, T, vocabulary)."""
        n_runs, n_texts, length = ids.shape
        given = self._by_name()
        # One table for all runs: run r finds its token i in row r * vocab_size + i.
        first_rows = torch.arange(n_runs, device=ids.device).view(-1, 1, 1) * self._recipe.vocab_size
        x = functional.embedding((ids + first_rows).view(n_runs, -1), given[_EMBEDDING].flatten(0, 1))
        for number in range(self._size.n_layers):
            layer = _LAYER.format(number)
            fused = self._fused(given, f"{layer}attention.query_key_value.")
            mixed = _normed_linear(x, given, f"{layer}input_layernorm.", *fused)
            mixed = self._attend(mixed.view(n_runs * n_texts, length, -1)).reshape(n_runs, n_texts * length, -1)
            x = x + _apply(mixed, given, f"{layer}attention.dense.")
            up = f"{layer}mlp.dense_h_to_4h."
            hidden = _normed_linear(
                x, given, f"{layer}post_attention_layernorm.", given[f"{up}weight"], given[f"{up}bias"]
            )
            x = x + _apply(functional.relu(hidden), given, f"{layer}mlp.dense_4h_to_h.")
        return _normed_linear(x, given, _LAST_NORM, given[_UNEMBEDDING]).view(n_runs, n_texts, length, -1)

    def _by_name(self) -> dict[str, Tensor]:
        parts = self.weights.split(self._lengths, dim=1)
        return {name: part.view(-1, *shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    def _fused(self, given: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
        """The map to queries, keys and values, its outputs in the order (query, key, value) x heads x dimensions.

        GPT-NeoX has heads x (query, key, value) x dimensions. In queries and keys, the two dimensions that are rotated
        together are neighbours here: scores are sums over dimensions, in whatever order.
        """
        return given[f"{name}weight"][:, self._order], given[f"{name}bias"][:, self._order]

    def _attend(self, mixed: Tensor) -> Tensor:
        """Causal attention of all heads. `mixed`: (texts, T, outputs of `_fused`)."""
        n_texts, length, _ = mixed.shape
        pairs = torch.view_as_complex(mixed.view(n_texts, length, 3, self._size.n_heads, -1, 2))
        turned = torch.view_as_real(pairs * self._rotation[:length]).flatten(-2)
        query, key, value = (part.transpose(1, 2) for part in turned.unbind(2))
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2)

    @cached_property
    def _frequencies(self) -> Tensor:
        """Radians that each pair of rotary dimensions turns by from position to position."""
        n = int(self._size.hidden_size // self._size.n_heads * self._recipe.rotary)
        return ROTARY_BASE ** -(torch.arange(0, n, 2, dtype=torch.float64) / n)

    @cached_property
    def _order(self) -> Tensor:
        """For each output of `_fused`, its place in GPT-NeoX's order."""
        width, n = self._size.hidden_size // self._size.n_heads, len(self._frequencies)
        plain = torch.arange(width)
        # GPT-NeoX rotates dimension i together with dimension n + i.
        paired = torch.cat([plain[: 2 * n].view(2, n).T.flatten(), plain[2 * n :]])
        parts = [[paired, width + paired, 2 * width + plain] for _ in range(self._size.n_heads)]
        places = [3 * width * head + part for of in zip(*parts, strict=True) for head, part in enumerate(of)]
        return torch.cat(places).to(self.weights.device)

    @cached_property
    def _rotation(self) -> Tensor:
        """The factor e^(i angle) of each pair of dimensions: (context length, 3, 1, pairs). It is 1 where none rotate."""
        pairs = self._size.hidden_size // self._size.n_heads // 2
        positions = torch.arange(self._recipe.context_length, dtype=torch.float64)
        angles = torch.zeros(len(positions), 3, 1, pairs, dtype=torch.float64)
        angles[:, :2, 0, : len(self._frequencies)] = torch.outer(positions, self._frequencies).unsqueeze(1)
        return torch.polar(torch.ones_like(angles), angles).to(self.weights.device, torch.complex64)


def _apply(x: Tensor, given: Mapping[str, Tensor], name: str) -> Tensor:
    """The linear map `name` of each run. `x`: (runs, tokens, inputs)."""
    return torch.baddbmm(given[f"{name}bias"].unsqueeze(1), x, given[f"{name}weight"].mT)


def _normed_linear(
    x: Tensor, given: Mapping[str, Tensor], norm: str, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """A layer norm and the linear map after it.

    The norm's scale and shift are put into the map, W (n * s + b) = (W * s) n + W b: two passes over all tokens less.
    """
    shift = torch.bmm(weight, given[f"{norm}bias"].unsqueeze(-1)).mT
    shift = shift if bias is None else shift + bias.unsqueeze(1)
    normed = functional.layer_norm(x, x.shape[-1:], eps=EPSILON)
    return torch.baddbmm(shift, normed, (weight * given[f"{norm}weight"].unsqueeze(1)).mT)

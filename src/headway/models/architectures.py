"""The names and layouts of the attention weights of each supported architecture.

Each architecture that headway knows by name is one short entry in `ARCHITECTURES`. `headway.models.structure` finds the
weights of many others.

Shapes use these letters: N query heads, K key and value heads (K <= N with grouped queries), D head_dim, M hidden_size.
Every reader returns (heads, D, M). Row d of head h is a direction that the head reads from the residual stream (q, k, v)
or writes to it (o).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from headway.known_scores import ENCODER

if TYPE_CHECKING:
    from torch import Tensor

    from headway.models.geometry import Geometry

KINDS = ("q", "k", "v", "o")


class StoredWeight(NamedTuple):
    """One kind of weight: the name of its tensor within a layer, and the function that splits the tensor into heads."""

    tensor: str
    read: Callable[[Tensor, Geometry], Tensor]


@dataclass(frozen=True)
class Architecture:
    """A family of models that store their attention weights in the same way.

    Attributes:
        model_types: values of `model_type` in config.json that belong to the family.
        layer: name of a layer's module in the causal language model, with `{layer}` for its number.
        weights: the stored weight of each of `KINDS`.
        output_projection: the module within a layer that projects the joined outputs (..., N * D) of the heads.
        final_norm: name of the norm before the unembedding; None if headway does not know the model's norms.
        input_norm: the norm within a layer that queries, keys and values read; None if they read the residual stream.
        output_norm: the norm within a layer between the output projection and the residual stream, if there is one.
        norms: the norms within a layer of the queries `q` and the keys `k`, if there are any.
        per_head: for some of `KINDS`, further parameters within a layer that split equally into heads of that kind, in
            their order. Weights and their biases are not listed here.
        shared: attention parameters within a layer that all heads share.
        published: the stored weights as "Pythia clustering dynamics" read them, if that differs.
        renamed: prefixes of tensor names in files, mapped to the prefixes of the installed transformers.
        stack: the stack whose weights these are, if the entry does not describe those of others.
    """

    model_types: frozenset[str]
    layer: str
    weights: Mapping[str, StoredWeight]
    output_projection: str
    final_norm: str | None
    input_norm: str | None
    output_norm: str | None = None
    norms: Mapping[str, str] = field(default_factory=dict)
    per_head: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    published: Mapping[str, StoredWeight] | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    stack: str = ""

    @property
    def attention(self) -> str:
        """Name of the attention module within a layer, which holds all weights."""
        words = [weight.tensor.split(".")[:-2] for weight in self.weights.values()]
        common = takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))
        return ".".join(column[0] for column in common)


def rows(weight: Tensor, geometry: Geometry) -> Tensor:
    """Heads of a separate linear layer: (K * D, M)."""
    return weight.view(-1, geometry.head_dim, geometry.hidden_size)


def rows_and_gates(weight: Tensor, geometry: Geometry) -> Tensor:
    """Query heads of a linear layer that holds, head by head, the queries and the gates of the output: (N * 2 * D, M)."""
    return weight.view(geometry.n_heads, 2, geometry.head_dim, geometry.hidden_size)[:, 0]


def rows_before_gates(weight: Tensor, geometry: Geometry) -> Tensor:
    """Query heads of a linear layer that holds all queries, then all gates of the output: (2 * N * D, M)."""
    return weight.view(2, geometry.n_heads, geometry.head_dim, geometry.hidden_size)[0]


def columns(weight: Tensor, geometry: Geometry) -> Tensor:
    """Heads of an output projection stored as a linear layer: (M, N * D)."""
    return weight.view(geometry.hidden_size, geometry.n_heads, geometry.head_dim).permute(1, 2, 0)


def heads_then_kinds(weight: Tensor, geometry: Geometry, kind: int, turned: bool = False) -> Tensor:
    """Heads of GPT-NeoX's fused linear layer: (N * 3 * D, M)."""
    fused = _linear(weight, geometry, turned)
    heads: Tensor = fused.unflatten(0, (geometry.n_heads, 3, geometry.head_dim))
    return heads[:, kind]


def _kinds_then_heads(weight: Tensor, geometry: Geometry, kind: int) -> Tensor:
    """GPT-NeoX's fused layer as "Pythia clustering dynamics" read it: (3 * N * D, M).

    This reading mixes heads and kinds. It exists only to reproduce the published numbers.
    """
    return weight.view(3, geometry.n_heads, geometry.head_dim, geometry.hidden_size)[kind]


def kinds_in_blocks(weight: Tensor, geometry: Geometry, kind: int, turned: bool = False) -> Tensor:
    """Heads of a fused layer that holds all queries, then all keys, then all values: (N * D + 2 * K * D, M)."""
    sizes = [heads * geometry.head_dim for heads in (geometry.n_heads, geometry.n_kv_heads, geometry.n_kv_heads)]
    block = _linear(weight, geometry, turned).split(sizes)[kind]
    heads: Tensor = block.unflatten(0, (-1, geometry.head_dim))
    return heads


def grouped_kinds(weight: Tensor, geometry: Geometry, kind: int, turned: bool = False) -> Tensor:
    """Heads of a fused layer that holds, group by group, the queries, their key and their value: (K * (N / K + 2) * D, M)."""
    group = geometry.n_heads // geometry.n_kv_heads
    fused: Tensor = _linear(weight, geometry, turned).unflatten(0, (geometry.n_kv_heads, group + 2, geometry.head_dim))
    return (fused[:, :group], fused[:, group : group + 1], fused[:, group + 1 :])[kind].flatten(0, 1)


def partitioned_kinds(weight: Tensor, geometry: Geometry, kind: int) -> Tensor:
    """Heads of CodeGen's fused layer: four parts, each with the queries, values and keys of a quarter of the heads."""
    parts = weight.view(4, 3, geometry.n_heads // 4, geometry.head_dim, geometry.hidden_size)
    return parts[:, (0, 2, 1)[kind]].flatten(0, 1)


def _linear(weight: Tensor, geometry: Geometry, turned: bool) -> Tensor:
    """A fused weight as (outputs, M). A Conv1D (`turned`) stores it as (M, outputs)."""
    return weight.view(geometry.hidden_size, -1).T if turned else weight.view(-1, geometry.hidden_size)


def conv1d_rows(weight: Tensor, geometry: Geometry) -> Tensor:
    """Heads of GPT-2's output Conv1D: (N * D, M)."""
    return weight.view(geometry.n_heads, geometry.head_dim, geometry.hidden_size)


def _fused(tensor: str, read: Callable[..., Tensor]) -> dict[str, StoredWeight]:
    return {kind: StoredWeight(tensor, partial(read, kind=number)) for number, kind in enumerate("qkv")}


def _windowed(attention: str) -> dict[str, StoredWeight]:
    names = zip("qkv", ("query", "key", "value"), strict=True)
    return {kind: StoredWeight(f"{attention}.{name}.weight", rows) for kind, name in names}


_NEOX_QKV = "attention.query_key_value.weight"
_NEOX_O = {"o": StoredWeight("attention.dense.weight", columns)}

_NORMS = {"q": "self_attn.q_norm", "k": "self_attn.k_norm"}
_GAINS = {kind: (f"{norm}.weight",) for kind, norm in _NORMS.items()}
_AFTER = "post_attention_layernorm"  # in these models the norm of attention's output; in others the one before the MLP
_LLAMA = Architecture(
    model_types=frozenset({"llama", "mistral", "qwen2", "olmo", "gemma"}),
    layer="model.layers.{layer}",
    weights={kind: StoredWeight(f"self_attn.{kind}_proj.weight", rows) for kind in "qkv"}
    | {"o": StoredWeight("self_attn.o_proj.weight", columns)},
    output_projection="self_attn.o_proj",
    final_norm="model.norm",
    input_norm="input_layernorm",
)

ARCHITECTURES = (
    Architecture(
        model_types=frozenset({"gpt_neox"}),
        layer="gpt_neox.layers.{layer}",
        weights=_fused(_NEOX_QKV, heads_then_kinds) | _NEOX_O,
        published=_fused(_NEOX_QKV, _kinds_then_heads) | _NEOX_O,
        output_projection="attention.dense",
        final_norm="gpt_neox.final_layer_norm",
        input_norm="input_layernorm",
        renamed={"embed_out.": "lm_head."},
    ),
    Architecture(
        model_types=frozenset({"gpt2"}),
        layer="transformer.h.{layer}",
        weights=_fused("attn.c_attn.weight", partial(kinds_in_blocks, turned=True))
        | {"o": StoredWeight("attn.c_proj.weight", conv1d_rows)},
        output_projection="attn.c_proj",
        final_norm="transformer.ln_f",
        input_norm="ln_1",
    ),
    _LLAMA,
    replace(_LLAMA, model_types=frozenset({"gemma2"}), output_norm=_AFTER),
    replace(
        _LLAMA,
        model_types=frozenset({"qwen3"}),
        norms=_NORMS,
        shared=frozenset(name for names in _GAINS.values() for name in names),
    ),
    # The norms span all heads. Their mean square does not depend on the order of heads; the gains (N * D) move with them.
    replace(
        _LLAMA,
        model_types=frozenset({"olmo2", "olmo3"}),
        input_norm=None,
        output_norm=_AFTER,
        norms=_NORMS,
        per_head=_GAINS,
    ),
    # A sink is one logit for each query head, which competes with the logits of its keys: (N).
    Architecture(
        model_types=frozenset({"codegen"}),
        layer="transformer.h.{layer}",
        weights=_fused("attn.qkv_proj.weight", partitioned_kinds)
        | {"o": StoredWeight("attn.out_proj.weight", columns)},
        output_projection="attn.out_proj",
        final_norm=None,
        input_norm=None,
    ),
    replace(_LLAMA, model_types=frozenset({"gpt_oss"}), per_head={"q": ("self_attn.sinks",)}),
    # Attention in windows reads texts of whole windows, so that its first layer is not tried on three tokens. The weights of
    # local attention: the projections `query_global`, `key_global` and `value_global` are for chosen tokens of other tasks.
    Architecture(
        model_types=frozenset({"longformer"}),
        layer="longformer.encoder.layer.{layer}",
        weights=_windowed("attention.self") | {"o": StoredWeight("attention.output.dense.weight", columns)},
        output_projection="attention.output.dense",
        final_norm=None,
        input_norm=None,
    ),
    Architecture(
        model_types=frozenset({"led"}),
        layer="led.encoder.layers.{layer}",
        weights=_windowed("self_attn.longformer_self_attn") | {"o": StoredWeight("self_attn.output.weight", columns)},
        output_projection="self_attn.output",
        final_norm=None,
        input_norm=None,
        stack=ENCODER,
    ),
)


def renamed(name: str, model_type: str) -> str:
    """The name that the installed transformers gives to the stored tensor `name`. Unknown model types keep theirs."""
    for architecture in ARCHITECTURES:
        if model_type in architecture.model_types:
            for stored, own in architecture.renamed.items():
                if name.startswith(stored):
                    return own + name.removeprefix(stored)
    return name


def declared(model_type: str, stack: str = "") -> Architecture | None:
    """Return the entry for `model_type` and a stack of it, or None if there is none."""
    entries = (entry for entry in ARCHITECTURES if model_type in entry.model_types)
    return next((entry for entry in entries if not entry.stack or entry.stack == stack), None)

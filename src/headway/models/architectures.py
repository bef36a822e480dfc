"""Where each architecture keeps its heads' weights: the only place that knows, one short entry each.

Legend of shapes: N query heads, K key and value heads (K <= N with grouped queries), D head_dim, M hidden_size.
Every reader turns a stored tensor into (heads, D, M): row d of head h is what it reads (q, k, v) from the
residual stream, or what it writes (o) into it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from headway.errors import UnsupportedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headway.models.geometry import Geometry

KINDS = ("q", "k", "v", "o")


class Place(NamedTuple):
    """A kind of weight: the tensor that holds it, named within its layer, and how its heads are read from it."""

    tensor: str
    read: Callable[[Tensor, Geometry], Tensor]


@dataclass(frozen=True)
class Architecture:
    """One family of models, as transformers names and stores it.

    Attributes:
        model_types: the `model_type` of its configs.
        layer: name of a layer's module in the causal language model, with `{layer}` for its number.
        places: for each of `KINDS`, where it is stored.
        output_projection: the module, within its layer, that takes the heads' joined outputs (..., N * D).
        beside: for some of `KINDS`, further parameters within a layer with an equal part for each head of that kind,
            in the order of heads: what a head is made of beside its weights and their biases.
        shared: parameters of attention within a layer that are the same for all heads.
        published: the places as study 1 read them, where they differ.
        renamed: how names begin in files, where the installed transformers begins them otherwise.
    """

    model_types: frozenset[str]
    layer: str
    places: Mapping[str, Place]
    output_projection: str
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    published: Mapping[str, Place] | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)


def _rows(weight: Tensor, geometry: Geometry) -> Tensor:
    """A linear layer of its own: (K * D, M)."""
    return weight.view(-1, geometry.head_dim, geometry.hidden_size)


def _columns(weight: Tensor, geometry: Geometry) -> Tensor:
    """An output projection as a linear layer: (M, N * D)."""
    return weight.view(geometry.hidden_size, geometry.n_heads, geometry.head_dim).permute(1, 2, 0)


def _heads_then_kinds(weight: Tensor, geometry: Geometry, kind: int) -> Tensor:
    """GPT-NeoX's fused linear layer: (N * 3 * D, M)."""
    return weight.view(geometry.n_heads, 3, geometry.head_dim, geometry.hidden_size)[:, kind]


def _kinds_then_heads(weight: Tensor, geometry: Geometry, kind: int) -> Tensor:
    """GPT-NeoX's fused layer as study 1 read it, which mixes heads and kinds: (3 * N * D, M)."""
    return weight.view(3, geometry.n_heads, geometry.head_dim, geometry.hidden_size)[kind]


def _conv1d_kinds(weight: Tensor, geometry: Geometry, kind: int) -> Tensor:
    """GPT-2's fused Conv1D, which is a transposed linear layer: (M, 3 * N * D)."""
    fused = weight.view(geometry.hidden_size, 3, geometry.n_heads, geometry.head_dim)
    return fused[:, kind].permute(1, 2, 0)


def _conv1d_rows(weight: Tensor, geometry: Geometry) -> Tensor:
    """GPT-2's output Conv1D: (N * D, M)."""
    return weight.view(geometry.n_heads, geometry.head_dim, geometry.hidden_size)


def _fused(tensor: str, read: Callable[..., Tensor]) -> dict[str, Place]:
    return {kind: Place(tensor, partial(read, kind=number)) for number, kind in enumerate("qkv")}


_NEOX_QKV = "attention.query_key_value.weight"
_NEOX_O = {"o": Place("attention.dense.weight", _columns)}

_NORMS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
_LLAMA = Architecture(
    model_types=frozenset({"llama", "mistral", "qwen2", "olmo", "gemma", "gemma2"}),
    layer="model.layers.{layer}",
    places={kind: Place(f"self_attn.{kind}_proj.weight", _rows) for kind in "qkv"}
    | {"o": Place("self_attn.o_proj.weight", _columns)},
    output_projection="self_attn.o_proj",
)

ARCHITECTURES = (
    Architecture(
        model_types=frozenset({"gpt_neox"}),
        layer="gpt_neox.layers.{layer}",
        places=_fused(_NEOX_QKV, _heads_then_kinds) | _NEOX_O,
        published=_fused(_NEOX_QKV, _kinds_then_heads) | _NEOX_O,
        output_projection="attention.dense",
        renamed={"embed_out.": "lm_head."},
    ),
    Architecture(
        model_types=frozenset({"gpt2"}),
        layer="transformer.h.{layer}",
        places=_fused("attn.c_attn.weight", _conv1d_kinds) | {"o": Place("attn.c_proj.weight", _conv1d_rows)},
        output_projection="attn.c_proj",
    ),
    _LLAMA,
    replace(_LLAMA, model_types=frozenset({"qwen3"}), shared=frozenset(_NORMS)),
    # Its norms span all heads: the mean square does not depend on their order, and the gains (N * D) go with them.
    replace(_LLAMA, model_types=frozenset({"olmo2", "olmo3"}), beside={"q": _NORMS[:1], "k": _NORMS[1:]}),
    # A sink is a logit that a query head compares with those of its keys: (N).
    replace(_LLAMA, model_types=frozenset({"gpt_oss"}), beside={"q": ("self_attn.sinks",)}),
)


def renamed(name: str, model_type: str) -> str:
    """What the stored tensor `name` is called by the installed transformers; `model_type` may be any."""
    for architecture in ARCHITECTURES:
        if model_type in architecture.model_types:
            for stored, own in architecture.renamed.items():
                if name.startswith(stored):
                    return own + name.removeprefix(stored)
    return name


def architecture_of(model_type: str) -> Architecture:
    """The entry for `model_type`.

    Raises:
        UnsupportedModel: there is none; the message says what to add.
    """
    for architecture in ARCHITECTURES:
        if model_type in architecture.model_types:
            return architecture
    raise UnsupportedModel(
        f"it is not known where the architecture {model_type!r} keeps its heads' weights (known: {_known()}). "
        "To add it, write an `Architecture` in headway/models/architectures.py: its layers' name, the tensors of "
        "q, k, v and o with the order of their axes, its output projection, and what else heads have parameters in; "
        "tests/models/test_weights.py "
        "then compares it with the model's own forward pass"
    )


def require_attention_interface(model: nn.Module) -> None:
    """
    Raises:
        UnsupportedModel: the architecture computes its attention in code of its own, which no other can stand in for.
    """
    if not getattr(model, "_supports_attention_backend", False):
        raise UnsupportedModel(
            f"the attention of {type(model).__name__} does not go through transformers' AttentionInterface, so headway "
            f"cannot see its heads. Supported are {_known()}, and other decoders whose attention goes through it"
        )


def _known() -> str:
    return ", ".join(sorted(name for entry in ARCHITECTURES for name in entry.model_types))

"""Find the attention weights of a model without an entry in `ARCHITECTURES`, from the names and shapes of its modules.

Names alone do not say how a fused weight is divided, or which key belongs to which query. So each candidate is tried on
the model's own forward pass (`headway.models.probing`). What no candidate explains is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from headway.errors import UnsupportedModel
from headway.known_scores import CROSS
from headway.models.architectures import (
    Architecture,
    StoredWeight,
    columns,
    conv1d_rows,
    declared,
    grouped_kinds,
    heads_then_kinds,
    kinds_in_blocks,
    rows,
    rows_and_gates,
    rows_before_gates,
)
from headway.models.config import geometries_of, skeleton
from headway.models.stacks import attends_to_encoder, half_of, sets_of_weights
from headway.text import count

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from headway.models.geometry import Geometry

# Names that architectures give to the same module.
_SEPARATE = (
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("wq", "wk", "wv"),
    ("Wq", "Wk", "Wv"),
    ("Wq", "Wk_", "Wv_"),
    ("query", "key", "value"),
    ("self.query", "self.key", "self.value"),
    ("project_q", "project_k", "project_v"),
    ("query_proj", "key_proj", "value_proj"),
    ("self.query_proj", "self.key_proj", "self.value_proj"),
    ("q", "k", "v"),
)
_PARTS = ("self", "output")
_FUSED = ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "att_proj", "qkv", "self.in_proj")
_OUTPUTS = (
    "o_proj",
    "out_proj",
    "dense",
    "c_proj",
    "wo",
    "Wo",
    "out_lin",
    "attention_out",
    "output_projection",
    "output.dense",
    "o",
)
_LATENT = ("kv_a_proj_with_mqa", "kv_b_proj", "q_a_proj")
_OF_LATENT = (
    "the keys and values of all heads are computed from one latent vector (multi-head latent attention), so a head has no "
    "weights of its own for them"
)


class _Found(NamedTuple):
    """The attention of one layer: its module, and the names of the modules that read and write, within it."""

    attention: str
    reads: tuple[str, ...]
    output: str


def architecture_for(model: PreTrainedModel, stack: str = "") -> Architecture:
    """Return how `model` stores its attention weights: its entry, or what its structure says.

    Args:
        model: a language model of transformers, or its base model.
        stack: whose weights, one of `known_scores.STACKS`; empty for the model's first stack.

    Raises:
        UnsupportedModel: neither says it. The message says why.
    """
    return declared(model.config.model_type, stack) or _of_config(model.config.to_json_string(), stack)


def architecture_of_config(text: str, folder: str, stack: str = "") -> Architecture:
    """Return how the model of a config.json stores the attention weights of a stack. No weights are read.

    Raises:
        UnsupportedModel: as `architecture_for`.
    """
    return architecture_for(skeleton(text, folder), stack)


@lru_cache(maxsize=64)
def _of_config(text: str, stack: str) -> Architecture:
    from headway.models.probing import fault_of  # imports torch

    model = skeleton(text, "the model")
    if shared := sets_of_weights(model.config):
        raise UnsupportedModel(
            f"the layers of the architecture {model.config.model_type!r} share {count(shared, 'set')} of weights, so that a "
            "layer has no heads of its own to cluster. Its attention may still be measured"
        )
    geometry = next(one for one in geometries_of(model) if stack in (one.stack, ""))
    name, layers = _layers(model, geometry)
    found = _same_in_all(model, layers, geometry)
    prefix = f"{found.attention}." if found.attention else ""
    reasons = []
    for weights in _candidates(model, layers[geometry.layers[0]].get_submodule(found.attention), found, geometry):
        architecture = Architecture(
            model_types=frozenset({model.config.model_type}),
            layer=f"{name}.{{layer}}",
            weights={kind: StoredWeight(f"{prefix}{stored.tensor}", stored.read) for kind, stored in weights.items()},
            output_projection=f"{prefix}{found.output}",
            final_norm=None,
            input_norm=None,
        )
        fault = fault_of(model, architecture, geometry)
        if fault is None:
            return architecture
        reasons.append(fault)
    raise _refusal(model, f"its forward pass does not agree with its weights: {'; '.join(dict.fromkeys(reasons))}")


def _layers(model: PreTrainedModel, geometry: Geometry) -> tuple[str, Sequence[nn.Module]]:
    """The name of the list of layers, and the layers."""
    from torch import nn

    prefix, half = half_of(model, geometry.stack)
    lists = [
        (".".join(filter(None, (prefix, name))), module)
        for name, module in half.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == geometry.n_layers
        and any(_has_heads(layer, geometry.stack) for layer in module)
    ]
    if not lists:
        raise _refusal(
            model,
            _OF_LATENT
            if _is_latent(model)
            else "no layer has modules that compute queries, keys and values under a name that headway knows",
        )
    name, layers = min(lists, key=lambda one: one[0].count("."))
    return name, list(layers)


def _is_latent(module: nn.Module) -> bool:
    return any(name.rpartition(".")[2] in _LATENT for name, _ in module.named_modules())


def _has_heads(layer: nn.Module, stack: str) -> bool:
    return next(_attentions(layer, stack), None) is not None


def _attentions(layer: nn.Module, stack: str) -> Iterator[_Found]:
    """The modules within a layer that hold reading and writing projections: those to other texts, or all but those."""
    for name, module in layer.named_modules():
        if attends_to_encoder(name) != (stack == CROSS):
            continue
        children = _children(module)
        sets: list[tuple[str, ...]] = [*_SEPARATE, *((fused,) for fused in _FUSED)]
        reads = next((names for names in sets if children.issuperset(names)), None)
        output = next((output for output in _OUTPUTS if output in children), None)
        if reads and output and not children.intersection(_LATENT):
            yield _Found(name, reads, output)


def _children(module: nn.Module) -> set[str]:
    """Names of a module's children, and of those of `self` and `output`, into which BERT divides its attention."""
    inner = {
        f"{name}.{child}"
        for name, one in module.named_children()
        if name in _PARTS
        for child, _ in one.named_children()
    }
    return {child for child, _ in module.named_children()} | inner


def _same_in_all(model: PreTrainedModel, layers: Sequence[nn.Module], geometry: Geometry) -> _Found:
    """The attention that all layers with heads share.

    Raises:
        UnsupportedModel: a layer has none, or several, or layers differ.
    """
    with_heads = [layers[number] for number in geometry.layers]
    found = [list(_attentions(layer, geometry.stack)) for layer in with_heads]
    without = [str(number) for number, of_layer in zip(geometry.layers, found, strict=True) if not of_layer]
    if without:
        first = with_heads[found.index([])]
        raise _refusal(
            model,
            _OF_LATENT
            if _is_latent(first)
            else f"layers {', '.join(without)} of {len(layers)} have no queries, keys and values of their own: they are "
            "recurrent, or use those of other layers",
        )
    if any(len(of_layer) > 1 for of_layer in found):
        raise _refusal(model, "a layer has several attention modules")
    shapes = {(of_layer[0], _shapes(layer, of_layer[0])) for layer, of_layer in zip(with_heads, found, strict=True)}
    if len(shapes) > 1:
        raise _refusal(model, "its layers differ in the shape of their attention")
    return found[0][0]


def _shapes(layer: nn.Module, found: _Found) -> tuple[Any, ...]:
    attention = layer.get_submodule(found.attention)
    modules = [attention.get_submodule(name) for name in (*found.reads, found.output)]
    return tuple(getattr(getattr(module, "weight", None), "shape", None) for module in modules)


def _candidates(
    model: PreTrainedModel, attention: nn.Module, found: _Found, geometry: Geometry
) -> Iterator[dict[str, StoredWeight]]:
    """The ways to divide the weights among heads that fit their shapes.

    Raises:
        UnsupportedModel: none does.
    """
    modules = [attention.get_submodule(name) for name in (*found.reads, found.output)]
    unknown = [type(module).__name__ for module in modules if _stored_as(module) is None]
    if unknown:
        raise _refusal(model, f"its attention has modules of type {unknown[0]}, which are no linear layers")
    heads, keys = geometry.n_heads * geometry.head_dim, geometry.n_kv_heads * geometry.head_dim
    turned = _stored_as(modules[-1]) == "Conv1D"
    widths = [_width(module) for module in modules[:-1]]
    expected = [heads, keys, keys] if len(found.reads) == 3 else [heads + 2 * keys]
    written = modules[-1].weight.numel() // geometry.hidden_size  # type: ignore[operator]
    gated = len(found.reads) == 3 and widths == [2 * heads, keys, keys]
    if (widths != expected and not gated) or written != heads:
        raise _refusal(
            model,
            f"its projections {', '.join(found.reads)} and {found.output} have {', '.join(map(str, widths))} and {written} "
            f"dimensions, where {geometry.n_heads} heads of {geometry.head_dim} dimensions with {geometry.n_kv_heads} of "
            f"keys and values need {', '.join(map(str, expected))} and {heads}",
        )
    o = {"o": StoredWeight(f"{found.output}.weight", conv1d_rows if turned else columns)}
    if len(found.reads) == 3:
        stored = {kind: StoredWeight(f"{name}.weight", rows) for kind, name in zip("qkv", found.reads, strict=True)}
        for read in (rows_and_gates, rows_before_gates) if gated else (rows,):
            yield stored | {"q": StoredWeight(stored["q"].tensor, read)} | o
        return
    turned = _stored_as(modules[0]) == "Conv1D"
    layouts = (kinds_in_blocks, grouped_kinds, heads_then_kinds)
    for layout in layouts:
        if layout is heads_then_kinds and geometry.n_heads != geometry.n_kv_heads:
            continue
        yield {
            kind: StoredWeight(f"{found.reads[0]}.weight", partial(layout, kind=number, turned=turned))
            for number, kind in enumerate("qkv")
        } | o


def _stored_as(module: nn.Module) -> str | None:
    from torch import nn

    if isinstance(module, nn.Linear):
        return "Linear"
    return "Conv1D" if type(module).__name__ == "Conv1D" else None


def _width(module: nn.Module) -> int:
    """The number of outputs of a linear layer."""
    weight: Any = module.weight
    return int(weight.shape[1 if _stored_as(module) == "Conv1D" else 0])


def _refusal(model: PreTrainedModel, why: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"headway cannot tell which weights of the architecture {model.config.model_type!r} belong to which head: {why}. "
        "Its attention may still be measured. If you know how its weights are stored, write an `Architecture` in "
        "headway/models/architectures.py; tests/models/test_weights.py then compares it with the forward pass"
    )

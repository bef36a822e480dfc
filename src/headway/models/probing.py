"""Try on a model's own forward pass whether its weights belong to the heads that an `Architecture` says.

The first layer with heads of a copy runs with random weights on a batch of equal texts. In each text but the first, the outputs of
one head's q, k or v projection are changed, at one token. A head's output then changes like this, and no other head's does:

                             in causal attention             in attention to all tokens
    q at the last token      at the last token alone         at the last token alone
    q at the first token     nowhere: it attends to one key  at the first token alone
    k at the first token     at later tokens                 at all tokens
    v at all tokens, to 0    to 0, at all tokens             to 0, at all tokens

This tells apart the kinds, the heads, and the heads that share a key. Norms within the attention are left out, because
some of them mix heads. Only modules that are called get weights: those of one layer. In hybrids, layers before it are skipped.

Shapes: B texts of T tokens, N query heads, K key and value heads, D head_dim, M hidden_size.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from headway.known_scores import DECODER, ENCODER

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from headway.models.architectures import Architecture, StoredWeight
    from headway.models.geometry import Geometry

_TOKENS = 3
# Outputs are about 1. Rounding in float32 stays below the first; a change that is there is far above the second.
_SAME, _CHANGED = 1e-5, 1e-4
# Biases that DeBERTa adds after its projection. Its outputs are changed to 0 before that.
_ADDED = ("q_bias", "v_bias")


class _Change(NamedTuple):
    """What is changed in one text: the outputs of one head of a kind, at one token or at all."""

    kind: str
    head: int
    token: int | None


class _Seen(Exception):
    """Ends the forward pass after the first layer's heads."""


def fault_of(model: PreTrainedModel, architecture: Architecture, geometry: Geometry) -> str | None:
    """Return what contradicts `architecture` in the forward pass of `model`, or None.

    Args:
        model: with its parameters on the meta device. It is not changed.
    """
    changes = list(_changes(geometry))
    try:
        outputs = _outputs(model, architecture, geometry, changes)
    except Exception as error:  # any architecture's code, called in a way that it may not support
        if not geometry.layers[0]:
            return _not_run(error)
        try:
            outputs = _outputs(model, architecture, geometry, changes, skipped_alone=False)
        except Exception:
            return _not_run(error)
    if outputs is None:
        return f"its first layer does not call {architecture.output_projection}"
    for change, of_text in zip(changes, outputs[1:], strict=True):
        if not _as_expected(change, outputs[0], of_text, geometry):
            return f"the weights taken for {change.kind} of head {change.head} are not that head's alone"
    return None


def _not_run(error: Exception) -> str:
    return f"its first layer cannot be run by itself ({type(error).__name__}: {str(error).partition(chr(10))[0]})"


def _changes(geometry: Geometry) -> Iterator[_Change]:
    for head in range(geometry.n_heads):
        yield _Change("q", head, _TOKENS - 1)
        yield _Change("q", head, 0)
    for head in range(geometry.n_kv_heads):
        yield _Change("k", head, 0)
        yield _Change("v", head, None)


def _as_expected(change: _Change, before: Tensor, after: Tensor, geometry: Geometry) -> bool:
    """Whether the heads' outputs (T, N, D) change as they must."""
    difference = (after - before).abs().amax(-1)  # (T, N)
    group = geometry.n_heads // geometry.n_kv_heads
    first = change.head if change.kind == "q" else change.head * group
    own = slice(first, first + (1 if change.kind == "q" else group))
    others = torch.ones(geometry.n_heads, dtype=torch.bool)
    others[own] = False
    if (difference[:, others] > _SAME).any():
        return False
    if change.kind == "v":
        return bool((after[:, own].abs() <= _SAME).all() and (before[:, own].abs().amax(-1) > _CHANGED).all())
    whole = geometry.stack != DECODER
    if change.kind == "k":
        return bool((difference[0 if whole else 1 :, own] > _CHANGED).all())
    if change.token == 0:
        # In a causal first row, a sink may take its share, so that the output gets shorter. A gate would turn it.
        there = bool((difference[0, own] > _CHANGED).all()) if whole else not _turned(before[0, own], after[0, own])
        return there and bool((difference[1:] <= _SAME).all())
    return bool((difference[-1, own] > _CHANGED).all() and (difference[:-1] <= _SAME).all())


def _turned(before: Tensor, after: Tensor) -> bool:
    """Whether outputs of heads (N, D) differ by more than their lengths."""
    lengths = (after * before).sum(-1, keepdim=True) / (before * before).sum(-1, keepdim=True)
    return bool(((after - lengths * before).abs() > _SAME).any())


def _outputs(
    model: PreTrainedModel,
    architecture: Architecture,
    geometry: Geometry,
    changes: list[_Change],
    *,
    skipped_alone: bool = True,
) -> Tensor | None:
    """The outputs of the first heads (B, T, N, D), or None if their output projection was not called.

    Args:
        skipped_alone: whether layers before them return what they read alone, or in a pair.
    """
    probe = _probe(model)
    for number in range(geometry.layers[0]):
        skipped = probe.get_submodule(architecture.layer.format(layer=number))
        skipped.forward = _unchanged if skipped_alone else _unchanged_in_a_pair
    layer = probe.get_submodule(architecture.layer.format(layer=geometry.layers[0]))
    by_tensor: dict[str, list[str]] = {}
    for kind in "qkv":
        by_tensor.setdefault(architecture.weights[kind].tensor, []).append(kind)
    for tensor, kinds in by_tensor.items():
        module = layer.get_submodule(tensor.rpartition(".")[0])
        module.register_forward_hook(_changing(architecture, geometry, changes, kinds))
    seen: list[Tensor] = []
    order = _channels(architecture.weights["o"], geometry, geometry.n_heads * geometry.head_dim)

    def see(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0][..., order])
        raise _Seen

    projection = layer.get_submodule(architecture.output_projection)
    _without_norms(layer.get_submodule(architecture.attention))
    projection.register_forward_pre_hook(see)
    texts = 1 + len(changes)
    generator = torch.Generator().manual_seed(1)
    embedded = torch.randn(1, _TOKENS, geometry.hidden_size, generator=generator).expand(texts, -1, -1)
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with contextlib.suppress(_Seen):
            _run(probe, layer, embedded, geometry)
    return seen[0].reshape(texts, _TOKENS, geometry.n_heads, geometry.head_dim) if seen else None


def _unchanged(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return hidden_states


def _unchanged_in_a_pair(hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    return hidden_states, None


def _run(probe: PreTrainedModel, layer: nn.Module, embedded: Tensor, geometry: Geometry) -> None:
    if geometry.stack == ENCODER and geometry.stack not in geometry.measured:
        layer(embedded.clone(), None)  # an encoder of audio takes no embedded tokens
        return
    if len(geometry.stacks) > 1:
        _run_half(probe, embedded, geometry.stack)
        return
    ids = torch.arange(3, 3 + embedded.shape[1]).expand(len(embedded), -1)
    try:
        probe.base_model(inputs_embeds=embedded.clone(), use_cache=False)
    except (TypeError, ValueError, NotImplementedError):  # it takes only ids
        probe.base_model(input_ids=ids, use_cache=False)


def _run_half(probe: PreTrainedModel, embedded: Tensor, stack: str) -> None:
    """Run one half of an encoder-decoder. The decoder attends to the same embedded tokens, so the encoder need not run."""
    from transformers.modeling_outputs import BaseModelOutput

    if stack == ENCODER:
        probe.get_encoder()(inputs_embeds=embedded.clone())
        return
    read: Any = BaseModelOutput(last_hidden_state=embedded.clone())
    probe.base_model(encoder_outputs=read, decoder_inputs_embeds=embedded.clone(), use_cache=False)


def _probe(model: PreTrainedModel) -> Any:
    """A copy whose modules get random weights when they are called."""
    probe: Any = copy.deepcopy(model).float().eval()
    for name, module in probe.named_modules():
        if name.endswith("rel_embeddings"):  # DeBERTa reads them without a call
            _filled(module, None)
        if any(parameter is not None and parameter.is_meta for parameter in module._parameters.values()):
            module.register_forward_pre_hook(_filled)
    return probe


def _filled(module: nn.Module, args: Any) -> None:
    for name, parameter in module._parameters.items():
        if parameter is not None and parameter.is_meta:
            values = torch.randn(parameter.shape)
            # Gains near 1. Weights are small, so that attention is nearly flat and each logit counts.
            values = values * 0.3 * parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 1 + values / 10
            if name in _ADDED:
                values.zero_()
            module._parameters[name] = torch.nn.Parameter(values, requires_grad=False)


def _without_norms(attention: nn.Module) -> None:
    for module in attention.modules():
        if "norm" in type(module).__name__.lower():
            module.register_forward_hook(lambda module, args, output: args[0])


def _changing(architecture: Architecture, geometry: Geometry, changes: list[_Change], kinds: list[str]) -> Any:
    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if output.numel() != (1 + len(changes)) * _TOKENS * output.shape[-1]:
            return output  # DeBERTa projects positions with the same weights
        flat = output.reshape(-1, _TOKENS, output.shape[-1]).clone()
        for kind in kinds:
            channels = _channels(architecture.weights[kind], geometry, output.shape[-1])
            for text, change in enumerate(changes, 1):
                if change.kind != kind:
                    continue
                where = channels[change.head]
                if change.token is None:
                    flat[text][:, where] = 0.0
                else:
                    flat[text, change.token, where] += 1 + torch.rand(len(where))
        return flat.reshape(output.shape)

    return hook


def _channels(weight: StoredWeight, geometry: Geometry, width: int) -> Tensor:
    """The channel of each dimension of each head: (heads, D). The reader of weights is asked, with hidden_size 1."""
    return weight.read(torch.arange(width), replace(geometry, hidden_size=1)).squeeze(-1)

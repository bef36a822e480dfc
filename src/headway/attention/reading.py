"""Read the attention of a transformers model during its forward pass.

One attention function, registered with transformers' AttentionInterface, serves every architecture that uses it. The
others hand out their matrices (`headway.attention.handed_out`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

from headway.attention.attention import Attention, attention_of
from headway.attention.handed_out import handed_out
from headway.attention.kernels import Logits
from headway.errors import UnsupportedModel

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

NAME = "headway"

# Arguments that models pass to every attention function and that do not change the attention computed here.
_WITHOUT_EFFECT = frozenset(
    {
        "cache",
        "cache_position",
        "layer_past",
        "num_items_in_batch",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "past_key_values",
        "position_embeddings",
        "position_ids",
        "return_dict",
        "use_cache",
    }
)


class EnoughError(Exception):
    """Raised by a reader to end the model's forward pass early."""


Reader = Callable[[int, Attention], None]
_reader: ContextVar[Reader] = ContextVar("headway_reader")


@contextmanager
def reading(model: nn.Module, reader: Reader) -> Iterator[None]:
    """While the block runs, each layer of `model` computes its attention here and passes it to `reader`.

    However the block ends, the model is left unchanged.

    A model whose attention does not go through AttentionInterface runs its eager attention instead.

    Raises:
        UnsupportedModel: in a forward pass whose attention cannot be read truthfully.
    """
    replaced = getattr(model, "_supports_attention_backend", False)
    token = _reader.set(reader)
    try:
        with (
            running_as(model, NAME if replaced else "eager", output_attentions=not replaced),
            nullcontext() if replaced else handed_out(model, reader),
        ):
            yield
    finally:
        _reader.reset(token)


@contextmanager
def running_as(model: nn.Module, implementation: str, *, output_attentions: bool) -> Iterator[None]:
    """While the block runs, `model` computes attention by `implementation`, without dropout.

    Args:
        output_attentions: whether its modules hand out their matrices. If not, its configs stay as they are.
    """
    configs = _configs(model)
    before = [(config._attn_implementation_internal, config.output_attentions) for config in configs]
    training = [module for module in model.modules() if module.training]
    try:
        for config in configs:
            config._attn_implementation_internal = implementation
            if output_attentions:
                config.output_attentions = True
        for module in training:
            module.training = False
        yield
    finally:
        for config, (own, handed) in zip(configs, before, strict=True):
            config._attn_implementation_internal = own
            if output_attentions:
                config.output_attentions = handed
        for module in training:
            module.training = True


def _configs(model: nn.Module) -> list[PreTrainedConfig]:
    models = (module for module in model.modules() if isinstance(module, PreTrainedModel))
    return list({id(module.config): module.config for module in models}.values())


def _attention_function(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls in every layer, with the signature that it expects."""
    unknown = [name for name, other in others.items() if other is not None and name not in _WITHOUT_EFFECT]
    if unknown:
        raise _refusal(module, f"hands {', '.join(sorted(unknown))} to its attention, which headway does not know")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is None and not causal:
        raise _refusal(module, "attends to later tokens; the scores are those of causal attention")
    if attention_mask is None and sliding_window is not None and sliding_window < query.shape[2]:
        raise _refusal(module, f"has a sliding window of {sliding_window} tokens but gives no mask for it")
    if query.shape[2] != key.shape[2]:
        raise _refusal(module, "attends to keys of other tokens than those of the text")
    mask, bias = _mask_and_bias(module, attention_mask, position_bias)
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    attention = attention_of(query, key, value, Logits(scale, mask, bias, softcap), s_aux)
    _reader.get()(module.layer_idx, attention)  # type: ignore[arg-type]
    return attention.output.transpose(1, 2).contiguous(), None


def _mask_and_bias(
    module: nn.Module, attention_mask: Tensor | None, position_bias: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    mask, bias = attention_mask, position_bias
    if attention_mask is not None and attention_mask.dtype != torch.bool:
        # A float mask is added to the logits: its lowest numbers mean 'not allowed', and others are a bias.
        mask = attention_mask > torch.finfo(attention_mask.dtype).min / 2
        if attention_mask[mask].any():
            bias = attention_mask if bias is None else bias + attention_mask
    if mask is not None and mask.triu(1).any():
        raise _refusal(module, "has a mask that allows later tokens; the scores are those of causal attention")
    return mask, bias


def _refusal(module: nn.Module, what: str) -> UnsupportedModel:
    return UnsupportedModel(f"{type(module).__name__} {what}: its scores would be wrong, so it is not measured")


AttentionInterface.register(NAME, _attention_function)
# An attention function without a registered mask function gets no mask, and would ignore sliding windows. The one of sdpa
# gives None for plain causal attention, and booleans otherwise.
AttentionMaskInterface.register(NAME, sdpa_mask)

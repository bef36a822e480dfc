"""One layer's attention, read without its T x T matrix; and how a model of transformers is made to hand it out.

Shapes: B texts of T tokens each, N query heads, K key and value heads, D head_dim.

With l[i] the log-sum-exp of row i's logits, A[i, j] = exp(s q[i].k[j] - l[i]) wherever an entry is wanted; and the
same fused attention with keys or positions for values gives sum_j A[i, j] k[j] and sum_j A[i, j] j, hence each row's
entropy and distance. Memory grows with T, not with T x T. Where a model gives a mask of its own (a sliding window
shorter than the text), that mask is T x T: one, shared by all heads and layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

from headway.errors import UnsupportedModel
from headway.measure.kernels import Logits, attend, repeated, rows_of_logits

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

NAME = "headway"

# What models hand to every attention function and what does not change the attention that they are asked for here.
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


class Attention:
    """One layer's attention A over a batch of texts of equal length. A row of A sums to 1, or to less with sinks.

    Everything it gives is in float32, or in float64 if the model is.

    Attributes:
        n_tokens: T.
        output: (B, N, T, D), what the layer passes on.
    """

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, logits: Logits, sinks: Tensor | None = None) -> None:
        self.n_tokens = q.shape[2]
        self._q, self._k, self._logits = q, k, logits
        output, self._log_sum_exp = attend(q, k, v, logits)
        self._mass: Tensor | None = None
        if sinks is not None:
            # A sink is one more logit in each row, whose attention goes to no token.
            total = torch.logaddexp(self._log_sum_exp, sinks.to(self._log_sum_exp.dtype).view(1, -1, 1))
            self._mass = (self._log_sum_exp - total).exp()
            self._log_sum_exp = total
            output = output * self._mass[..., None].to(output.dtype)
        self.output = output
        self._back: dict[int, Tensor] = {}  # several scores share these

    def back(self, distance: int) -> Tensor:
        """A[i, i - distance] for i = distance .. T-1: (B, N, T - distance)."""
        if distance not in self._back:
            q, k = self._wide_q[:, :, distance:], self._keys_of_queries[:, :, : self.n_tokens - distance]
            self._back[distance] = self._probability(
                (q * k).sum(-1), distance, lambda matrix: matrix.diagonal(-distance, -2, -1)
            )
        return self._back[distance]

    def to(self, position: int) -> Tensor:
        """A[i, position] for i = position .. T-1: (B, N, T - position)."""
        products = (self._wide_q[:, :, position:] @ self._keys_of_queries[:, :, position, :, None]).squeeze(-1)
        return self._probability(products, position, lambda matrix: matrix[..., position:, position])

    def _probability(self, products: Tensor, first_row: int, entries: Callable[[Tensor], Tensor]) -> Tensor:
        """exp(logit - l) of the rows from `first_row` on; `entries` picks the same ones from a T x T matrix."""
        logits = self._logits.of_products(products)
        if self._logits.bias is not None:
            logits = logits + entries(self._logits.bias)
        probability = (logits - self._log_sum_exp[:, :, first_row:]).exp()
        return probability if self._logits.mask is None else probability * entries(self._logits.mask)

    @cached_property
    def mass(self) -> Tensor:
        """sum over j of A[i, j]: (B, N, T). All ones but for models with attention sinks."""
        return torch.ones_like(self._log_sum_exp) if self._mass is None else self._mass

    @cached_property
    def entropy(self) -> Tensor:
        """-sum over j of A[i, j] log A[i, j], in nats: (B, N, T)."""
        among_tokens = self._fused_entropy() if self._logits.linear else self._plain_entropy()
        entropy = among_tokens.clamp_min(0.0)  # rounding may leave a row that attends to one token below
        return entropy if self._mass is None else self._mass * (entropy - self._mass.log())

    def _fused_entropy(self) -> Tensor:
        # -sum a log a = l - sum a (s q.k) = l - s q.(sum a k). Moving all keys by one vector changes no attention,
        # and with keys around 0 the two terms stay small, so that their difference keeps its digits.
        keys = self._k.to(self._wide)
        keys = keys - keys.mean(2, keepdim=True)
        mean_key, log_sum_exp = attend(self._wide_q, keys, keys, self._logits)
        return log_sum_exp - self._logits.scale * (self._wide_q * mean_key).sum(-1)

    def _plain_entropy(self) -> Tensor:
        blocks = (block.softmax(-1) for block in rows_of_logits(self._q, self._k, self._logits))
        return torch.cat([torch.special.entr(block).sum(-1) for block in blocks], 2)

    @cached_property
    def distance(self) -> Tensor:
        """sum over j of A[i, j] (i - j), in tokens: (B, N, T)."""
        positions = torch.arange(self.n_tokens, device=self._q.device, dtype=self._wide)
        values = positions[:, None].repeat(1, self._q.shape[-1]).expand(*self._k.shape)
        mean_position = attend(self._wide_q, self._k.to(self._wide), values, self._logits).output[..., 0]
        distance = (positions - mean_position).clamp_min(0.0)
        return distance if self._mass is None else self._mass * distance

    @cached_property
    def _wide(self) -> torch.dtype:
        return torch.promote_types(self._q.dtype, torch.float32)

    @cached_property
    def _wide_q(self) -> Tensor:
        return self._q.to(self._wide)

    @cached_property
    def _keys_of_queries(self) -> Tensor:
        return repeated(self._k.to(self._wide), self._q.shape[1])


class EnoughError(Exception):
    """Raised by a reader to leave the model's forward pass: nothing that comes after is wanted."""


Reader = Callable[[int, Attention], None]
_reader: ContextVar[Reader] = ContextVar("headway_reader")


@contextmanager
def reading(model: nn.Module, reader: Reader) -> Iterator[None]:
    """While the block runs, each layer of `model` computes its attention here and hands it to `reader` by number.

    Afterwards the model is as it was, however the block ends.

    Raises:
        UnsupportedModel: the architecture does not compute its attention through transformers' AttentionInterface.
    """
    if not getattr(model, "_supports_attention_backend", False):
        raise UnsupportedModel(
            f"{type(model).__name__} does not compute its attention through transformers' AttentionInterface, so its "
            "heads cannot be read. Architectures that do include GPT-NeoX, GPT-2, Llama, Mistral, OLMo and Qwen"
        )
    configs = _configs(model)
    before = [config._attn_implementation_internal for config in configs]
    training = [module for module in model.modules() if module.training]
    token = _reader.set(reader)
    try:
        for config in configs:
            config._attn_implementation_internal = NAME
        for module in training:
            module.training = False
        yield
    finally:
        _reader.reset(token)
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation_internal = implementation
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
    """What transformers calls in every layer; its signature is theirs."""
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
    attention = Attention(query, key, value, Logits(scale, mask, bias, softcap), s_aux)
    _reader.get()(module.layer_idx, attention)  # type: ignore[arg-type]
    return attention.output.transpose(1, 2).contiguous(), None


def _mask_and_bias(
    module: nn.Module, attention_mask: Tensor | None, position_bias: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    mask, bias = attention_mask, position_bias
    if attention_mask is not None and attention_mask.dtype != torch.bool:
        # Added to the logits: the lowest numbers stand for 'not allowed', other ones would be a bias.
        mask = attention_mask > torch.finfo(attention_mask.dtype).min / 2
        if attention_mask[mask].any():
            bias = attention_mask if bias is None else bias + attention_mask
    if mask is not None and mask.triu(1).any():
        raise _refusal(module, "has a mask that allows later tokens; the scores are those of causal attention")
    return mask, bias


def _refusal(module: nn.Module, what: str) -> UnsupportedModel:
    return UnsupportedModel(f"{type(module).__name__} {what}: its scores would be wrong, so it is not measured")


AttentionInterface.register(NAME, _attention_function)
# Without a mask function of its own, an attention function is handed no mask and would ignore sliding windows.
# PyTorch's is None where attention is plainly causal, else booleans.
AttentionMaskInterface.register(NAME, sdpa_mask)

"""Path patching: what one head does to another one, when only its part of the other's input is replaced.

Head a of an earlier layer writes its part W_O z(a) to the residual stream x. A head b of a later layer reads x through its
layer's norm, as queries, keys and values. Here a's part in *one* of these inputs of b is replaced, by its mean over texts or
by its part on another text, and nothing else changes: neither other heads and MLPs in between, nor b's other two inputs
(path patching as in Wang et al. 2022, "Interpretability in the Wild", and Goldowsky-Dill et al. 2023, "Localizing Model
Behavior with Path Patching"). The norm is computed anew on the changed input.

A model reads the texts once. Each pair then takes the attention of one layer, on the cached x, queries, keys and values.

Two effects are measured:

* b's score, from its changed attention pattern. It cannot change with values.
* the centred logit of the next token (its logit minus the mean logit), when b's changed output goes straight to the logits:
  only b's part of the final residual stream is replaced, and the final norm is computed anew.

Shapes: B texts of T tokens, N query heads, D head_dim, M hidden_size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from headway.attention.needs import Needs
from headway.attention.reading import NAME, reading
from headway.attention.scores import DEFINITIONS, Definition
from headway.errors import UnsupportedModel, UsageError
from headway.interventions.groups import Heads
from headway.models.anatomy import Head, anatomy, mean_outputs, recording
from headway.models.batches import batches
from headway.models.paths import Paths

if TYPE_CHECKING:
    from headway.attention.attention import Attention

INPUTS = ("q", "k", "v")
LOGIT = "next_token_logit"
_OWN_NAME = "headway paths"
Triple = tuple[Tensor, Tensor, Tensor]  # queries (B, N, T, D), keys and values (B, K, T, D), positions applied


class Key(NamedTuple):
    """One measured path: how a's part was replaced, in which input of b, and what was measured."""

    replaced_by: str
    input: str
    effect: str


@dataclass(frozen=True)
class PatchedPaths:
    """Effects of paths, as means over texts.

    Attributes:
        before: for each effect, its value for each receiver in the unchanged model: (receivers,).
        after: for each path, its value with the sender's part replaced: (senders, receivers); NaN unless the sender is in an
            earlier layer.
    """

    before: dict[str, NDArray[np.float64]]
    after: dict[Key, NDArray[np.float64]]


def patched_paths(
    model: PreTrainedModel,
    texts: Sequence[np.ndarray],
    senders: Heads,
    receivers: Heads,
    *,
    score: str | None = None,
    replacements: Sequence[str] = ("mean",),
    inputs: Sequence[str] = INPUTS,
    first_row: Callable[[int], int] = lambda n_tokens: 0,
) -> PatchedPaths:
    """Measure the path from every sender to every receiver. The model is left unchanged.

    Args:
        model: a causal language model of transformers, with its unembedding.
        texts: token ids of each text, at least 2.
        senders, receivers: (layer, head) pairs.
        score: a score of the attention pattern, measured of each receiver; only the logit is measured if None.
        replacements: what takes the place of the sender's output: `mean`, over all tokens of the texts, or `resample`, its
            outputs at the same positions of the next text. A shorter text is repeated.
        inputs: which inputs of the receivers are changed, one at a time: `q`, `k`, `v`.
        first_row: from the number of tokens of a text, the first row whose next token's logit counts.

    Raises:
        UnsupportedModel: headway does not know the model's norms, or cannot tell apart what its heads write or read.
        UsageError: a head does not exist, the score is none of the pattern, or there is one text to resample from.
    """
    definition = _definition(score)
    if "resample" in replacements and len(texts) < 2:
        raise UsageError("resampling takes a head's outputs on another text: give two texts or more")
    view = _View(model)
    view.body.require(Head(*pair) for pair in (*senders, *receivers))
    total = _Sums(len(senders), len(receivers))
    with torch.inference_mode():
        means = mean_outputs(model, texts, sorted({layer for layer, _ in senders})) if "mean" in replacements else {}
        for batch in batches(texts, padded_up_to=0):  # of one length each
            ids = torch.from_numpy(batch.ids).to(model.device)
            first = first_row(ids.shape[1])
            cached = view.read(ids, senders, receivers)
            score_of = _Effects(view, cached, ids, first, definition, score)
            for effect, of_receivers in score_of.before(receivers).items():
                total.add_before(effect, of_receivers)
            for word in replacements:
                parts = means if word == "mean" else _resampled(model, texts, batch.numbers, ids.shape[1], senders)
                for at, sender in enumerate(senders):
                    if any(layer > sender[0] for layer, _ in receivers):
                        change = view.part(sender, _own(parts, sender) - cached.outputs[sender[0]][:, :, sender[1]])
                        for key, numbers in score_of.after(receivers, sender[0], change, inputs).items():
                            total.add_after(Key(word, *key), at, numbers)
    return total.means(len(texts))


def _own(parts: Mapping[int, Tensor], sender: tuple[int, int]) -> Tensor:
    """What replaces the sender's output: (D,), or (B, T, D)."""
    return parts[sender[0]][..., sender[1], :]


def _definition(score: str | None) -> Definition | None:
    if score is None:
        return None
    definition = DEFINITIONS.get(score)
    if definition is None or definition.needs is not Needs.PATTERN:
        raise UsageError(f"{score} is no score of the attention pattern, so that a path cannot change it directly")
    return definition


class _Sums:
    """Sums over texts."""

    def __init__(self, n_senders: int, n_receivers: int) -> None:
        self._shape = n_senders, n_receivers
        self._before: dict[str, NDArray[np.float64]] = {}
        self._after: dict[Key, NDArray[np.float64]] = {}

    def add_before(self, effect: str, numbers: NDArray[np.float64]) -> None:
        """Add sums over the texts of a batch, of all receivers."""
        self._before[effect] = self._before.get(effect, 0.0) + numbers

    def add_after(self, key: Key, sender: int, numbers: Mapping[int, float]) -> None:
        """Add sums over the texts of a batch, by receiver."""
        own = self._after.setdefault(key, np.full(self._shape, np.nan))
        for receiver, number in numbers.items():
            own[sender, receiver] = number + (0.0 if np.isnan(own[sender, receiver]) else own[sender, receiver])

    def means(self, n: int) -> PatchedPaths:
        return PatchedPaths(
            {name: value / n for name, value in self._before.items()},
            {name: value / n for name, value in self._after.items()},
        )


@dataclass
class _Cached:
    """What a model computed when it read a batch.

    Attributes:
        outputs: of the heads of senders' layers: (B, T, N, D).
        residual: what the norm before the attention of each receivers' layer reads: (B, T, M).
        calls: how that layer's attention was called.
        triples: its queries, keys and values.
        attentions: the attention that follows from them.
        final: what the final norm reads: (B, T, M).
    """

    outputs: Mapping[int, Tensor] = field(default_factory=dict)
    residual: dict[int, Tensor] = field(default_factory=dict)
    calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    triples: dict[int, Triple] = field(default_factory=dict)
    attentions: dict[int, Attention] = field(default_factory=dict)
    final: Tensor = field(default_factory=lambda: torch.empty(0))


class _View:
    """The modules of a model that paths go through.

    Raises:
        UnsupportedModel: they are unknown, or what one head writes cannot be told from the rest.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self.paths, self.body = model, Paths(model), anatomy(model)
        architecture, name = self.paths.architecture, type(model).__name__
        if architecture.output_norm is not None:
            raise UnsupportedModel(
                f"{name} normalises what the heads of a layer write together, so that no head's part can be replaced alone. "
                "Path patching needs a model without a norm after attention"
            )
        if architecture.input_norm is None or not getattr(model, "_supports_attention_backend", False):
            raise UnsupportedModel(
                f"{name} computes queries, keys and values where headway cannot exchange them. Path patching needs a model "
                "whose attention goes through transformers' AttentionInterface"
            )
        self.input_norm, self.attention = architecture.input_norm, architecture.attention
        unembedding = self.paths.unembedding
        self._unembedding_mean = unembedding.double().mean(0)

    def norm(self, layer: int) -> nn.Module:
        return self.body.layers[layer].get_submodule(self.input_norm)

    def attention_of(self, layer: int) -> nn.Module:
        return self.body.layers[layer].get_submodule(self.attention)

    def part(self, head: tuple[int, int], outputs: Tensor) -> Tensor:
        """What the head writes to the residual stream with these outputs (..., D): (..., M), in float32 or wider."""
        rows = self.paths.writes(head[0])[head[1]]
        return outputs.to(rows.dtype) @ rows

    def directions(self, tokens: Tensor) -> Tensor:
        """The directions that give the centred logits of `tokens` (...) after the final norm: (..., M), in float64."""
        return self.paths.unembedding[tokens].double() - self._unembedding_mean

    def read(self, ids: Tensor, senders: Heads, receivers: Heads) -> _Cached:
        """Let the model read a batch, and keep what paths start from."""
        cached = _Cached()
        layers = {layer for layer, _ in receivers}

        def keep_inputs(layer: int, triple: Triple) -> Iterator[Triple]:
            if layer in layers:
                cached.triples[layer] = triple
            yield triple

        def keep_attention(layer: int, attention: Attention) -> None:
            if layer in layers:
                cached.attentions[layer] = attention

        with ExitStack() as stack:
            cached.outputs = stack.enter_context(recording(self.model, sorted({layer for layer, _ in senders})))
            for module, hook in self._hooks(cached, layers):
                stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
            stack.enter_context(reading(self.model, keep_attention))
            stack.enter_context(_exchanging(self.model, keep_inputs))
            self.model.base_model(input_ids=ids, use_cache=False)
        return cached

    def _hooks(self, cached: _Cached, layers: set[int]) -> Iterator[tuple[nn.Module, Callable[..., None]]]:
        def keep_residual(layer: int) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                cached.residual[layer] = args[0]

            return hook

        def keep_call(layer: int) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                cached.calls[layer] = args, kwargs

            return hook

        def keep_final(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            cached.final = args[0]

        for layer in layers:
            yield self.norm(layer), keep_residual(layer)
            yield self.attention_of(layer), keep_call(layer)
        yield self.paths.final_norm, keep_final

    def changed(self, layer: int, cached: _Cached, change: Tensor, inputs: Sequence[str]) -> dict[str, Attention]:
        """The attention of a layer with `change` (B, T, M) added to its residual stream, in one of its inputs at a time."""
        found: list[Attention] = []
        clean = cached.triples[layer]

        def exchange(at: int, triple: Triple) -> Iterator[Triple]:
            for name in inputs:
                mixed = [new if name == own else old for own, new, old in zip(INPUTS, triple, clean, strict=True)]
                yield mixed[0], mixed[1], mixed[2]

        args, kwargs = cached.calls[layer]
        states = self.norm(layer)(cached.residual[layer] + change.to(cached.residual[layer].dtype))
        args, kwargs = ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})
        with (
            reading(self.model, lambda at, attention: found.append(attention)),
            _exchanging(self.model, exchange),
        ):
            self.attention_of(layer)(*args, **kwargs)
        return dict(zip(inputs, found, strict=True))


class _Effects:
    """What is measured of receivers on a batch, as sums over its texts."""

    def __init__(
        self, view: _View, cached: _Cached, ids: Tensor, first: int, definition: Definition | None, score: str | None
    ) -> None:
        self._view, self._cached, self._rows = view, cached, slice(first, ids.shape[1] - 1)
        self._definition, self._score = definition, score
        self._directions = view.directions(ids[:, first + 1 :])  # (B, rows, M)
        self._outputs = {layer: own.output for layer, own in cached.attentions.items()}

    def before(self, receivers: Heads) -> dict[str, NDArray[np.float64]]:
        """Each effect of the unchanged model: (receivers,)."""
        logit = self._logit(self._cached.final[:, self._rows])
        found = {LOGIT: np.full(len(receivers), logit)}
        if self._definition is not None and self._score is not None:
            of_layer = {layer: self._scores(attention) for layer, attention in self._cached.attentions.items()}
            found[self._score] = np.array([of_layer[layer][head] for layer, head in receivers])
        return found

    def after(
        self, receivers: Heads, below: int, change: Tensor, inputs: Sequence[str]
    ) -> dict[tuple[str, str], dict[int, float]]:
        """Each input and effect, by the place of the receiver: of those above the layer `below`."""
        found: dict[tuple[str, str], dict[int, float]] = {}
        for layer in sorted({layer for layer, _ in receivers if layer > below}):
            for name, attention in self._view.changed(layer, self._cached, change, inputs).items():
                of_layer = self._scores(attention) if self._definition is not None and name != "v" else None
                differs = attention.output - self._outputs[layer]  # (B, N, T, D)
                for place, (own, head) in enumerate(receivers):
                    if own == layer:
                        part = self._view.part((layer, head), differs[:, head, self._rows])
                        final = self._cached.final[:, self._rows]
                        found.setdefault((name, LOGIT), {})[place] = self._logit(final + part.to(final.dtype))
                        if of_layer is not None and self._score is not None:
                            found.setdefault((name, self._score), {})[place] = float(of_layer[head])
        return found

    def _scores(self, attention: Attention) -> NDArray[np.float64]:
        """Sums over texts of each head's score: (N,)."""
        assert self._definition is not None
        found: NDArray[np.float64] = self._definition.formula(attention).double().sum(0).cpu().numpy()
        return found

    def _logit(self, final: Tensor) -> float:
        """Sum over texts of the mean over rows of the next token's centred logit."""
        read = self._view.paths.final_norm(final).double()
        return float((read * self._directions).sum(-1).mean(-1).sum())


def _resampled(
    model: PreTrainedModel, texts: Sequence[np.ndarray], numbers: Sequence[int], n_tokens: int, senders: Heads
) -> dict[int, Tensor]:
    """Outputs (B, T, N, D) of the heads of senders' layers on the text after each of `numbers`, the first after the last."""
    layers = sorted({layer for layer, _ in senders})
    found: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    with recording(model, layers) as recorded:
        for number in numbers:
            donor = texts[(number + 1) % len(texts)][:n_tokens]
            model.base_model(input_ids=torch.as_tensor(donor)[None].to(model.device), use_cache=False)
            positions = torch.arange(n_tokens, device=model.device) % len(donor)
            for layer, own in found.items():
                own.append(recorded[layer][0][positions])
    return {layer: torch.stack(own) for layer, own in found.items()}


Exchange = Callable[[int, Triple], Iterator[Triple]]
_exchange: list[Exchange] = []  # the innermost one counts


@contextmanager
def _exchanging(model: nn.Module, exchange: Exchange) -> Iterator[None]:
    """While the block runs, each layer's attention is computed once for each triple that `exchange` yields for it.

    Stands inside `reading`, whose attention function computes it. The layer goes on with the last one.
    """
    models = (module for module in model.modules() if isinstance(module, PreTrainedModel))
    configs = list({id(one.config): one.config for one in models}.values())
    before = [config._attn_implementation_internal for config in configs]
    _exchange.append(exchange)
    try:
        for config in configs:
            config._attn_implementation_internal = _OWN_NAME
        yield
    finally:
        _exchange.pop()
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation_internal = implementation


def _exchanged_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **others: Any
) -> tuple[Tensor, None]:
    """The attention function that transformers calls in a block of `_exchanging`."""
    read = ALL_ATTENTION_FUNCTIONS[NAME]
    answer: tuple[Tensor, None] | None = None
    for triple in _exchange[-1](module.layer_idx, (query, key, value)):  # type: ignore[arg-type]
        answer = read(module, *triple, attention_mask, **others)
    assert answer is not None
    return answer


AttentionInterface.register(_OWN_NAME, _exchanged_attention)
AttentionMaskInterface.register(_OWN_NAME, sdpa_mask)

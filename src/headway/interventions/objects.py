"""Interventions on heads, as small objects with a context manager.

    with Ablate([(3, 1), (3, 4)]).on(model):
        logits = model(ids).logits

The model is changed while the block runs. Afterwards, even after an exception, it is unchanged bit by bit.

    Ablate        set the heads' outputs to zero, to their mean, or to their outputs on another text
    Replace       set the heads' outputs to constants
    KeepOnly      ablate all other heads of the layers
    Permute       reorder the outputs, or chosen weights, of the heads within a layer
    SwapClusters  swap the heads of two clusters, pair by pair
    Patch         set the heads' outputs to those of another run on the same tokens

The output of a head is its input to the output projection, (T, head_dim). Outputs of all query heads in all layers can be
changed. With grouped queries, key and value weights belong to groups of query heads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from headway.errors import UnsupportedModel, UsageError
from headway.models import KINDS, geometry_of
from headway.models.anatomy import Anatomy, Change, Head, anatomy, changing, mean_outputs, recording
from headway.options import SUBSTITUTES

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from headway.models import Geometry


class Intervention(Protocol):
    def on(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """Change `model` while the block runs."""
        ...


@dataclass(frozen=True)
class Ablate:
    """Remove the contribution of single heads.

    Args:
        heads: (layer, head) pairs.
        with_: the substitute for their outputs. `zero` also removes a constant that later layers may rely on, so it
            overstates a head's role. `mean` is the mean output over all tokens of `reference`, which keeps the constant.
            `resample` takes the outputs at the same positions of a random text of `reference`, so that outputs stay
            realistic (causal scrubbing, Chan et al. 2022). It prefers texts that are long enough. The model must then
            read whole texts, without a cache.
        reference: token sequences, for `mean` and `resample`. A reference shorter than the text is repeated.
        seed: seed for the choice of texts in `resample`.

    Raises:
        UsageError: the substitute is unknown, or `reference` is missing; or `resample` is used and `model` is called with
            a cache, as `generate` does unless `use_cache=False`.
    """

    heads: Sequence[tuple[int, int]]
    with_: str = "zero"
    reference: Sequence[np.ndarray] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.with_ not in SUBSTITUTES:
            raise UsageError(f"unknown substitute {self.with_!r}: use one of {', '.join(SUBSTITUTES)}")
        if self.with_ != "zero" and not len(self.reference):
            raise UsageError(f"ablating with {self.with_!r} needs texts: give them as `reference`")

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        anatomy(model).require(Head(*head) for head in self.heads)
        layers = {layer for layer, _ in self.heads}
        with Substitutes(model, self.reference, self.seed, layers).ablation(self.with_, self.heads).on(model):
            yield


@dataclass(frozen=True)
class Replace:
    """Set the heads' outputs to constants, as in mean ablation with known means.

    Args:
        heads: (layer, head) pairs.
        values: for each layer (N, D), such as `mean_outputs` returns.
    """

    heads: Sequence[tuple[int, int]]
    values: Mapping[int, Tensor]

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        anatomy(model).require(Head(*head) for head in self.heads)
        by_layer = _by_layer(self.heads)
        with changing(model, {layer: _constant(heads, self.values[layer][heads]) for layer, heads in by_layer.items()}):
            yield


@dataclass(frozen=True)
class Resample:
    """Set the heads' outputs to their outputs on other texts, as resampling ablation with known outputs.

    Args:
        heads: (layer, head) pairs.
        outputs: for each layer (T, N, D) of each text, such as `head_outputs` returns.
        seed: seed for the choice of texts.

    Raises:
        UsageError: `model` is called with a cache: only new tokens pass through then, and their positions are unknown.
    """

    heads: Sequence[tuple[int, int]]
    outputs: Mapping[int, Sequence[Tensor]]
    seed: int = 0

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        anatomy(model).require(Head(*head) for head in self.heads)
        random = np.random.default_rng(self.seed)
        by_layer = _by_layer(self.heads)
        changes = {layer: _resample(heads, self.outputs[layer], random) for layer, heads in by_layer.items()}
        with _refusing_a_cache(model, "heads are resampled"), changing(model, changes):
            yield


@dataclass(frozen=True)
class Substitutes:
    """What ablated heads of a model say instead. Texts are read once for all ablations, when they are first needed.

    Args:
        model: the unchanged model.
        reference: token sequences, for `mean` and `resample`.
        seed: seed for the choice of texts in `resample`.
        layers: of the heads that will be ablated; all if None.
    """

    model: PreTrainedModel
    reference: Sequence[np.ndarray] = ()
    seed: int = 0
    layers: Collection[int] | None = None

    def ablation(self, with_: str, heads: Sequence[tuple[int, int]]) -> Intervention:
        """Return the ablation of `heads` by `zero`, `mean` or `resample`.

        Raises:
            UsageError: there is no such head.
        """
        body = anatomy(self.model)
        body.require(Head(*head) for head in heads)
        if with_ == "resample":
            return Resample(heads, self._outputs, self.seed)
        zero = torch.zeros(body.n_heads, body.head_dim)
        return Replace(heads, {layer: zero for layer, _ in heads} if with_ == "zero" else self._means)

    @cached_property
    def _means(self) -> dict[int, Tensor]:
        return mean_outputs(self.model, self.reference, self._read_layers)

    @cached_property
    def _outputs(self) -> dict[int, list[Tensor]]:
        return head_outputs(self.model, self.reference, self._read_layers)

    @property
    def _read_layers(self) -> Collection[int]:
        return geometry_of(self.model).layers if self.layers is None else self.layers


@dataclass(frozen=True)
class KeepOnly:
    """Ablate all heads of some layers except the given ones.

    Args:
        heads: (layer, head) pairs to keep.
        layers: the layers to ablate; the layers of `heads` if None. A layer without any of `heads` loses all heads.
        with_, reference, seed: as in `Ablate`.
    """

    heads: Sequence[tuple[int, int]]
    layers: Sequence[int] | None = None
    with_: str = "zero"
    reference: Sequence[np.ndarray] = ()
    seed: int = 0

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        body = anatomy(model)
        body.require(Head(*head) for head in self.heads)
        kept = set(map(tuple, self.heads))
        layers = sorted({layer for layer, _ in kept}) if self.layers is None else self.layers
        others = [(layer, head) for layer in layers for head in range(body.n_heads) if (layer, head) not in kept]
        if not others:
            yield
            return
        with Ablate(others, self.with_, self.reference, self.seed).on(model):
            yield


@dataclass(frozen=True)
class Permute:
    """Reorder heads within their layers.

    Args:
        orders: for each layer, the head that moves to each position: head `orders[layer][i]` moves to position i.
        kinds: if empty, the heads' outputs are reordered before the output projection, which equals moving q, k and v
            together. Otherwise some of `q`, `k`, `v`, `o`: only these weights are reordered, so that a head reads with
            another head's queries, for example. Their biases move too, as do other parameters of single heads: gains of
            a norm over all heads with q and k, attention sinks with q. Reordering all four kinds changes nothing,
            because the order of heads in a layer has no meaning.

    Raises:
        UsageError: an order is not a permutation of the layer's heads, a kind is unknown, or k or v belong to heads that
            several query heads share.
        UnsupportedModel: attention has a parameter of unknown meaning for the heads.
    """

    orders: Mapping[int, Sequence[int]]
    kinds: str = ""

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        body = anatomy(model)
        body.require(Head(layer, 0) for layer in self.orders)
        unknown = set(self.kinds) - set(KINDS)
        if unknown:
            raise UsageError(f"unknown kind of weight {min(unknown)!r}: use some of {', '.join(KINDS)}")
        for layer, order in self.orders.items():
            if sorted(order) != list(range(body.n_heads)):
                raise UsageError(f"layer {layer}: {list(order)} is not a permutation of heads 0 to {body.n_heads - 1}")
        if self.kinds:
            with _permuted_weights(model, body, self.orders, self.kinds):
                yield
        else:
            with changing(model, {layer: _reorder(order) for layer, order in self.orders.items()}):
                yield


@dataclass(frozen=True)
class SwapClusters:
    """Swap the heads of two clusters, pair by pair, as many as the smaller cluster has.

    Args:
        labels: for each layer, the cluster of each head. Heads are paired in order.
        kinds: as in `Permute`.
        which: the two clusters. They can be left out if there are no others.

    Raises:
        UsageError: a layer lacks one of the two clusters, or has more than two and `which` is not given.
    """

    labels: Mapping[int, Sequence[int]]
    kinds: str = ""
    which: Sequence[int] | None = None

    def on(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        orders = {layer: swap_order(labels, self.which) for layer, labels in self.labels.items()}
        return Permute(orders, self.kinds).on(model)


def swap_order(labels: Sequence[int], which: Sequence[int] | None = None) -> list[int]:
    """Return the order of heads after swapping the first heads of two clusters.

    Args:
        which: the two clusters. They can be left out if there are no others.

    Raises:
        UsageError: there are not exactly two clusters, or one of `which` does not exist.
    """
    clusters = sorted(set(labels if which is None else which))
    if len(clusters) != 2 or not set(clusters) <= set(labels):
        raise UsageError(
            f"a swap needs exactly two clusters: {list(labels)} has the clusters "
            f"{sorted(set(labels))}" + ("" if which is None else f", and {list(which)} was asked for")
        )
    order = list(range(len(labels)))
    first, second = ([head for head, label in enumerate(labels) if label == cluster] for cluster in clusters)
    for one, other in zip(first, second, strict=False):
        order[one], order[other] = other, one
    return order


@dataclass(frozen=True)
class Patch:
    """Set the heads' outputs to those of the same heads of another run on the same tokens.

    Args:
        from_run: a model of the same architecture and shape: another seed or another step. It reads the input of each
            call to `model` just before `model` does. So call `model` itself, not a part of it, on whole texts and
            without a cache.
        heads: (layer, head) pairs.

    Raises:
        UsageError: `from_run` is `model`, or its heads differ in number or size; or `model` is called with a cache, as
            `generate` does unless `use_cache=False`.
    """

    from_run: PreTrainedModel
    heads: Sequence[tuple[int, int]]

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        body, donor = anatomy(model), anatomy(self.from_run)
        body.require(Head(*head) for head in self.heads)
        if self.from_run is model:
            raise UsageError("heads cannot be patched from a model into itself: load the other run as a separate model")
        for what in ("n_layers", "n_heads", "head_dim"):
            if getattr(body, what) != getattr(donor, what):
                raise UsageError(
                    f"heads cannot be patched from a model with {what} {getattr(donor, what)} into one with "
                    f"{getattr(body, what)}"
                )
        by_layer = _by_layer(self.heads)

        def from_donor(layer: int, heads: list[int]) -> Change:
            def change(outputs: Tensor) -> Tensor:
                changed = outputs.clone()
                changed[..., heads, :] = recorded[layer][..., heads, :].to(outputs)
                return changed

            return change

        def run_donor(module: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            with torch.inference_mode():
                self.from_run(*args, **{**options, "use_cache": False})

        with ExitStack() as stack:
            recorded = stack.enter_context(recording(self.from_run, by_layer))
            changes = {layer: from_donor(layer, heads) for layer, heads in by_layer.items()}
            # With a cache the donor would read only the last token, and write into the cache of `model`.
            stack.enter_context(_refusing_a_cache(model, "heads are patched"))
            stack.enter_context(changing(model, changes))
            hook = model.register_forward_pre_hook(run_donor, with_kwargs=True)
            stack.callback(hook.remove)
            yield


@contextmanager
def _refusing_a_cache(model: PreTrainedModel, what: str) -> Iterator[None]:
    """While the block runs, forbid calling `model` or its base model with the cached keys and values of earlier tokens.

    Raises:
        UsageError: in such a call.
    """

    def refuse(module: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        if any(options.get(name) is not None for name in ("past_key_values", "cache")):
            raise UsageError(f"{what} only on whole texts: call the model with use_cache=False")

    with ExitStack() as stack:
        for module in {model, model.base_model}:
            stack.callback(module.register_forward_pre_hook(refuse, with_kwargs=True).remove)
        yield


def _by_layer(heads: Sequence[tuple[int, int]]) -> dict[int, list[int]]:
    layers: dict[int, list[int]] = {}
    for layer, head in sorted(set(map(tuple, heads))):
        layers.setdefault(layer, []).append(head)
    return layers


def _constant(heads: list[int], value: Tensor | float) -> Change:
    def change(outputs: Tensor) -> Tensor:
        changed = outputs.clone()
        changed[..., heads, :] = torch.as_tensor(value, dtype=outputs.dtype, device=outputs.device)
        return changed

    return change


def _resample(heads: list[int], pool: Sequence[Tensor], random: np.random.Generator) -> Change:
    def change(outputs: Tensor) -> Tensor:
        texts, tokens = outputs.shape[:2]
        long_enough = [one for one in pool if len(one) >= tokens] or pool
        donors = [long_enough[i] for i in random.integers(len(long_enough), size=texts)]
        changed = outputs.clone()
        positions = torch.arange(tokens, device=outputs.device)
        for text, donor in enumerate(donors):
            changed[text][:, heads, :] = donor[positions % len(donor)][:, heads, :]
        return changed

    return change


def _reorder(order: Sequence[int]) -> Change:
    places = list(order)
    return lambda outputs: outputs[..., places, :]


def output_norms(model: PreTrainedModel, sequences: Sequence[np.ndarray]) -> dict[int, Tensor]:
    """How much each head writes to the residual stream: for each layer (N,), the norm of W_O z, averaged over all tokens.

    Raises:
        UnsupportedModel: the architecture is unknown.
    """
    from headway.models.paths import HeadOutputs

    written, found = HeadOutputs(model), {}
    for layer, pool in head_outputs(model, sequences, written.geometry.layers).items():
        outputs, rows = torch.cat(pool).double(), written.writes(layer).detach().double()
        grams = rows @ rows.mT  # (N, D, D): ‖z W‖² = z W Wᵀ zᵀ
        squares = torch.einsum("tnd,nde,tne->tn", outputs, grams, outputs)
        found[layer] = squares.clamp_min(0).sqrt().mean(0)
    return found


def head_outputs(
    model: PreTrainedModel, sequences: Sequence[np.ndarray], layers: Iterable[int]
) -> dict[int, list[Tensor]]:
    """Outputs (T, N, D) of the heads on each of `sequences`, for each layer."""
    pools: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    with torch.inference_mode(), recording(model, layers) as recorded:
        for ids in sequences:
            model.base_model(input_ids=torch.as_tensor(ids)[None].to(model.device), use_cache=False)
            for layer, pool in pools.items():
                pool.append(recorded[layer][0])
    return pools


@contextmanager
def _permuted_weights(
    model: PreTrainedModel, body: Anatomy, orders: Mapping[int, Sequence[int]], kinds: str
) -> Iterator[None]:
    """Give parameters permuted copies of their data for the block. The original data is never written to."""
    geometry = geometry_of(model)
    if set(kinds) & set("kv") and geometry.n_kv_heads != geometry.n_heads:
        raise UsageError(
            f"{geometry.n_heads} query heads share {geometry.n_kv_heads} key and value heads, so k and v cannot be "
            "reordered by query head. Choose q or o"
        )
    saved: dict[torch.nn.Parameter, Tensor] = {}
    try:
        for layer, order in orders.items():
            for kind in kinds:
                for parameter, heads_of in _parts_of_heads(body, geometry, layer, kind):
                    if parameter not in saved:
                        saved[parameter] = parameter.data
                        parameter.data = parameter.data.clone()
                    heads = heads_of(parameter.data)
                    if heads.untyped_storage().data_ptr() != parameter.data.untyped_storage().data_ptr():
                        raise UnsupportedModel(
                            f"the heads of {kind} in {', '.join(body.architecture.model_types)} do not lie apart in its fused "
                            "weight, so headway cannot reorder them. Reorder outputs instead: leave out the kinds"
                        )
                    heads.copy_(heads[list(order)].clone())
        yield
    finally:
        for parameter, data in saved.items():
            parameter.data = data


def _parts_of_heads(
    body: Anatomy, geometry: Geometry, layer: int, kind: str
) -> Iterator[tuple[torch.nn.Parameter, Callable[[Tensor], Tensor]]]:
    """Parameters that hold one kind of a layer's heads, each with a function that views it as (heads, ...)."""
    parameters = dict(body.layers[layer].named_parameters())
    _require_known(body, parameters)
    weight = body.architecture.weights[kind]
    yield parameters[weight.tensor], lambda data: weight.read(data, geometry)
    bias = parameters.get(_bias(weight.tensor))
    # The bias of the output projection belongs to the layer, not to single heads.
    if bias is not None and kind != "o":
        yield bias, lambda data: weight.read(data, replace(geometry, hidden_size=1))
    for name in body.architecture.per_head.get(kind, ()):
        yield parameters[name], lambda data: data.view(geometry.n_kv_heads if kind in "kv" else geometry.n_heads, -1)


def _require_known(body: Anatomy, parameters: Mapping[str, torch.nn.Parameter]) -> None:
    """Check that every attention parameter is listed in the architecture.

    Raises:
        UnsupportedModel: one is not, so it is unknown which heads use it.
    """
    architecture = body.architecture
    weights = {weight.tensor for weight in architecture.weights.values()}
    known = weights | set(map(_bias, weights)) | architecture.shared | set().union(*architecture.per_head.values())
    attention = f"{architecture.attention}."
    for name in parameters:
        if name.startswith(attention) and name not in known:
            raise UnsupportedModel(
                f"headway does not know which heads use the parameter {name} of "
                f"{', '.join(sorted(architecture.model_types))}, so it cannot swap heads. List it in the entry in "
                "headway/models/architectures.py: in `per_head` if it splits into heads, in `shared` if all heads use it"
            )


def _bias(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"

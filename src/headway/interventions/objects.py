"""Interventions on heads: small objects that say what they do to which heads.

    with Ablate([(3, 1), (3, 4)]).on(model):
        logits = model(ids).logits

While the block runs the model behaves as changed; afterwards, also after an exception, it is bit for bit what it was.

    Ablate        the heads' outputs become zero, their mean, or what they are on another text
    Replace       the heads' outputs become constants
    KeepOnly      the same for all other heads of the layers
    Permute       outputs, or chosen weights, change places within a layer
    SwapClusters  heads of two clusters change places, pair by pair
    Patch         the heads' outputs become those of another run on the same tokens

'Output' is what a head hands to the output projection, (T, head_dim). All query heads of any layers can be reached;
with grouped queries that goes for outputs, and weights of keys and values belong to groups of heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from headway.errors import UnsupportedModel, UsageError
from headway.interventions.anatomy import Anatomy, Change, Head, anatomy, changing, recording
from headway.models import KINDS, geometry_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from headway.models import Geometry

SUBSTITUTES = ("zero", "mean", "resample")


class Intervention(Protocol):
    def on(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """While the block runs, `model` behaves as changed."""
        ...


@dataclass(frozen=True)
class Ablate:
    """Takes away what single heads say on the text at hand.

    Args:
        heads: (layer, head) pairs.
        with_: what their outputs become. `zero`: nothing, which also takes away a constant that later layers may
            rely on, and so overstates a head's part. `mean`: their mean over all tokens of `reference`, which keeps
            the constant. `resample`: their outputs at the same positions of another, random text of `reference`,
            which keeps outputs that the head really has (Chan et al. 2022, causal scrubbing); of a text that is long
            enough, if there is one. The model must then read whole texts, without a cache.
        reference: token sequences; needed for `mean` and `resample`. A reference shorter than the text starts again
            from its beginning.
        seed: of the choice of texts for `resample`.

    Raises:
        UsageError: an unknown substitute, or no reference where one is needed; or, with `resample`, `model` is called
            with a cache, as `generate` does unless `use_cache=False`.
    """

    heads: Sequence[tuple[int, int]]
    with_: str = "zero"
    reference: Sequence[np.ndarray] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.with_ not in SUBSTITUTES:
            raise UsageError(f"unknown substitute {self.with_!r}: use one of {', '.join(SUBSTITUTES)}")
        if self.with_ != "zero" and not len(self.reference):
            raise UsageError(f"to ablate with {self.with_!r}, give the texts to take it from as `reference`")

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        anatomy(model).require(Head(*head) for head in self.heads)
        by_layer = _by_layer(self.heads)
        changes: dict[int, Change]
        if self.with_ == "zero":
            changes = {layer: _constant(heads, 0.0) for layer, heads in by_layer.items()}
        elif self.with_ == "mean":
            means = mean_outputs(model, self.reference, by_layer)
            changes = {layer: _constant(heads, means[layer][heads]) for layer, heads in by_layer.items()}
        else:
            pools = _outputs(model, self.reference, by_layer)
            random = np.random.default_rng(self.seed)
            changes = {layer: _resample(heads, pools[layer], random) for layer, heads in by_layer.items()}
        with ExitStack() as stack:
            if self.with_ == "resample":  # with a cache the new tokens alone pass, whose positions are not seen
                stack.enter_context(_refusing_a_cache(model, "heads are resampled"))
            stack.enter_context(changing(model, changes))
            yield


@dataclass(frozen=True)
class Replace:
    """The heads' outputs become constants: mean ablation, where the means are known already.

    Args:
        heads: (layer, head) pairs.
        values: for each layer (N, D), such as `mean_outputs` gives.
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
class KeepOnly:
    """Ablates all heads of some layers but those given.

    Args:
        heads: (layer, head) pairs that stay.
        layers: the layers that are reduced to them; the layers of `heads` if None. A layer without any of `heads`
            loses all of its heads.
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
    """Heads change places within their layers.

    Args:
        orders: for each layer, which head's part each place gets: head `orders[layer][i]` comes to place i.
        kinds: empty: the heads' outputs change places before the output projection, which is what moving all of q, k
            and v to other places does. Else some of `q`, `k`, `v`, `o`: those weights alone change places, and a head
            reads with another's queries, say. With them go their biases and what else is a head's own: gains of a norm
            over all heads with q and k, attention sinks with q. All four together change nothing: the order of heads
            in a layer means nothing.

    Raises:
        UsageError: an order that is not a permutation of the layer's heads, an unknown kind, or k or v of heads that
            share them.
        UnsupportedModel: attention has a parameter of which it is not known how it belongs to the heads.
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
                raise UsageError(f"layer {layer}: {list(order)} is no order of its heads 0 to {body.n_heads - 1}")
        if self.kinds:
            with _permuted_weights(model, body, self.orders, self.kinds):
                yield
        else:
            with changing(model, {layer: _reorder(order) for layer, order in self.orders.items()}):
                yield


@dataclass(frozen=True)
class SwapClusters:
    """Heads of two clusters change places, pair by pair, as far as the smaller cluster goes.

    Args:
        labels: for each layer, each head's cluster. Heads are paired in their order.
        kinds: as in `Permute`.
        which: the two clusters; they need not be named where there are no others.

    Raises:
        UsageError: a layer lacks one of the two, or has more than two clusters and it is not said which.
    """

    labels: Mapping[int, Sequence[int]]
    kinds: str = ""
    which: Sequence[int] | None = None

    def on(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        orders = {layer: swap_order(labels, self.which) for layer, labels in self.labels.items()}
        return Permute(orders, self.kinds).on(model)


def swap_order(labels: Sequence[int], which: Sequence[int] | None = None) -> list[int]:
    """The order of heads in which the first heads of two clusters have changed places.

    Args:
        which: the two clusters; they need not be named where there are no others.

    Raises:
        UsageError: there are not exactly two clusters, or one that is named is not there.
    """
    clusters = sorted(set(labels if which is None else which))
    if len(clusters) != 2 or not set(clusters) <= set(labels):
        raise UsageError(
            f"to swap clusters there must be two, or two must be named: {list(labels)} has the clusters "
            f"{sorted(set(labels))}" + ("" if which is None else f", and {list(which)} was asked for")
        )
    order = list(range(len(labels)))
    first, second = ([head for head, label in enumerate(labels) if label == cluster] for cluster in clusters)
    for one, other in zip(first, second, strict=False):
        order[one], order[other] = other, one
    return order


@dataclass(frozen=True)
class Patch:
    """The heads' outputs become those that another run's heads of the same places have on the same tokens.

    Args:
        from_run: a model of the same architecture and shape: another seed, or another step. It reads whatever `model`
            is called with, just before it, which is why `model` itself must be called, not a part of it, and read
            whole texts, without a cache.
        heads: (layer, head) pairs.

    Raises:
        UsageError: the other model is `model` itself or has heads of another number or size; or `model` is called with
            a cache, as `generate` does unless `use_cache=False`.
    """

    from_run: PreTrainedModel
    heads: Sequence[tuple[int, int]]

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        body, donor = anatomy(model), anatomy(self.from_run)
        body.require(Head(*head) for head in self.heads)
        if self.from_run is model:
            raise UsageError(
                "heads cannot be patched from the model into itself: load the other run as a model of its own"
            )
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

        def run_donor(module: torch.nn.Module, args: tuple, options: dict) -> None:
            with torch.inference_mode():
                self.from_run(*args, **{**options, "use_cache": False})

        with ExitStack() as stack:
            recorded = stack.enter_context(recording(self.from_run, by_layer))
            changes = {layer: from_donor(layer, heads) for layer, heads in by_layer.items()}
            # The other model would read the last token alone, and write into this one's cache.
            stack.enter_context(_refusing_a_cache(model, "heads are patched"))
            stack.enter_context(changing(model, changes))
            hook = model.register_forward_pre_hook(run_donor, with_kwargs=True)
            stack.callback(hook.remove)
            yield


@contextmanager
def _refusing_a_cache(model: PreTrainedModel, what: str) -> Iterator[None]:
    """While the block runs, `model` and its base model cannot be called with the keys and values of earlier tokens.

    Raises:
        UsageError: in such a call.
    """

    def refuse(module: torch.nn.Module, args: tuple, options: dict) -> None:
        if any(options.get(name) is not None for name in ("past_key_values", "cache")):
            raise UsageError(f"{what} on whole texts: call the model with use_cache=False")

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


def _resample(heads: list[int], pool: list[Tensor], random: np.random.Generator) -> Change:
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


def mean_outputs(model: PreTrainedModel, sequences: Sequence[np.ndarray], layers: Iterable[int]) -> dict[int, Tensor]:
    """The heads' mean outputs (N, D) over all tokens of `sequences`, for each layer."""
    return {layer: torch.cat(pool).double().mean(0) for layer, pool in _outputs(model, sequences, layers).items()}


def _outputs(model: PreTrainedModel, sequences: Sequence[np.ndarray], layers: Iterable[int]) -> dict[int, list[Tensor]]:
    """The heads' outputs (T, N, D) on each of `sequences`, for each layer."""
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
    """Parameters get other data for the block, and their own back: nothing is written into the model's own."""
    geometry = geometry_of(model)
    if set(kinds) & set("kv") and geometry.n_kv_heads != geometry.n_heads:
        raise UsageError(
            f"{geometry.n_heads} query heads share {geometry.n_kv_heads} key and value heads: those cannot change "
            "places head by head"
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
                    heads.copy_(heads[list(order)].clone())
        yield
    finally:
        for parameter, data in saved.items():
            parameter.data = data


def _parts_of_heads(
    body: Anatomy, geometry: Geometry, layer: int, kind: str
) -> Iterator[tuple[torch.nn.Parameter, Callable[[Tensor], Tensor]]]:
    """The parameters in which a layer's heads have parts of their own of one kind, and each as (heads, ...)."""
    parameters = dict(body.layers[layer].named_parameters())
    _require_known(body, parameters)
    weight = body.architecture.weights[kind]
    yield parameters[weight.tensor], lambda data: weight.read(data, geometry)
    bias = parameters.get(_bias(weight.tensor))
    # The output projection's bias belongs to the layer, not to its heads.
    if bias is not None and kind != "o":
        yield bias, lambda data: weight.read(data, replace(geometry, hidden_size=1))
    for name in body.architecture.per_head.get(kind, ()):
        yield parameters[name], lambda data: data.view(geometry.n_kv_heads if kind in "kv" else geometry.n_heads, -1)


def _require_known(body: Anatomy, parameters: Mapping[str, torch.nn.Parameter]) -> None:
    """
    Raises:
        UnsupportedModel: attention has a parameter of which it is not known how it belongs to the heads.
    """
    architecture = body.architecture
    weights = {weight.tensor for weight in architecture.weights.values()}
    known = weights | set(map(_bias, weights)) | architecture.shared | set().union(*architecture.per_head.values())
    attention = architecture.output_projection.rpartition(".")[0] + "."
    for name in parameters:
        if name.startswith(attention) and name not in known:
            raise UnsupportedModel(
                f"headway does not know which heads use the parameter {name} of "
                f"{', '.join(sorted(architecture.model_types))}, so it cannot swap heads. List it in the entry in "
                "headway/models/architectures.py: in `per_head` if it splits into heads, in `shared` if all heads use it"
            )


def _bias(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"

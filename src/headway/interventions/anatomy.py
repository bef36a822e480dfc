"""Where a model's heads can be reached: their outputs, side by side before the output projection, and their weights.

Shapes: B texts of T tokens, N query heads, D head_dim.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from headway.errors import UnsupportedModel, UsageError
from headway.models import Architecture, architecture_of

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class Head(NamedTuple):
    """A query head; both count from 0."""

    layer: int
    head: int


class Change(Protocol):
    """Takes the outputs of a layer's heads (B, T, N, D) and gives what the output projection shall read instead."""

    def __call__(self, outputs: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Anatomy:
    """A model's layers, as far as heads are concerned.

    Attributes:
        layers: each layer's module.
        projections: the output projection of each layer, which reads (B, T, N * D).
        n_heads: N.
        head_dim: D.
    """

    architecture: Architecture
    layers: tuple[nn.Module, ...]
    projections: tuple[nn.Module, ...]
    n_heads: int
    head_dim: int

    @property
    def n_layers(self) -> int:
        return len(self.projections)

    def require(self, heads: Iterable[Head]) -> None:
        """
        Raises:
            UsageError: there are none, or one does not exist.
        """
        heads = list(heads)
        if not heads:
            raise UsageError("an intervention needs at least one head")
        for layer, head in heads:
            if not 0 <= layer < self.n_layers:
                raise UsageError(f"there is no layer {layer}: the model has layers 0 to {self.n_layers - 1}")
            if not 0 <= head < self.n_heads:
                raise UsageError(f"there is no head {head} in layer {layer}: it has heads 0 to {self.n_heads - 1}")


def anatomy(model: PreTrainedModel) -> Anatomy:
    """The anatomy of `model`, a causal language model of transformers or its base model.

    Raises:
        UnsupportedModel: its output projection is not known; the message says what to add.
    """
    config = model.config
    architecture = architecture_of(config.model_type)
    # Inside the causal language model the base model has a name; alone it has none.
    prefix = "" if hasattr(model, architecture.layer.partition(".")[0]) else architecture.layer.partition(".")[0] + "."
    layers, projections = [], []
    for layer in range(config.num_hidden_layers):
        name = architecture.layer.format(layer=layer).removeprefix(prefix)
        try:
            layers.append(model.get_submodule(name))
            projections.append(layers[-1].get_submodule(architecture.output_projection))
        except AttributeError as error:
            raise UnsupportedModel(
                f"{type(model).__name__} has no module {name}.{architecture.output_projection}, where "
                f"{config.model_type} has its output projection: mend the entry in headway/models/architectures.py"
            ) from error
    weight: Tensor = projections[0].weight  # type: ignore[assignment]
    width = weight.numel() // config.hidden_size
    return Anatomy(
        architecture, tuple(layers), tuple(projections), config.num_attention_heads, width // config.num_attention_heads
    )


@contextmanager
def changing(model: PreTrainedModel, changes: Mapping[int, Change]) -> Iterator[None]:
    """While the block runs, each layer's output projection reads what `changes[layer]` makes of the heads' outputs.

    No weight is touched: afterwards, however the block ends, the model is what it was bit for bit.
    """
    body = anatomy(model)

    def hook(change: Change):  # type: ignore[no-untyped-def]
        def changed(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            outputs = args[0].unflatten(-1, (body.n_heads, body.head_dim))
            return (change(outputs).flatten(-2), *args[1:])

        return changed

    handles = []
    try:
        for layer, change in changes.items():
            handles.append(body.projections[layer].register_forward_pre_hook(hook(change)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recording(model: PreTrainedModel, layers: Iterable[int]) -> Iterator[dict[int, Tensor]]:
    """A dict that holds, after each forward pass in the block, the heads' outputs (B, T, N, D) of each layer."""
    recorded: dict[int, Tensor] = {}

    def keep(layer: int) -> Change:
        def change(outputs: Tensor) -> Tensor:
            recorded[layer] = outputs.detach()
            return outputs

        return change

    with changing(model, {layer: keep(layer) for layer in layers}):
        yield recorded

"""Access to a model's heads: hooks on their outputs before the output projection, and the modules of their weights.

Shapes: B texts of T tokens, N query heads, D head_dim.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch

from headway.errors import UnsupportedModel, UsageError
from headway.models.architectures import Architecture
from headway.models.batches import read_together
from headway.models.geometry import require_layers
from headway.models.stacks import layers_without_heads
from headway.models.structure import architecture_for

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class Head(NamedTuple):
    """A query head. Both numbers start at 0."""

    layer: int
    head: int


class Change(Protocol):
    """Maps the outputs of a layer's heads (B, T, N, D) to the values that the output projection reads instead."""

    def __call__(self, outputs: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Anatomy:
    """The layers of a model that have heads, by their numbers, and the shape of the heads.

    Attributes:
        layers: module of each layer.
        projections: output projection of each layer, which reads (B, T, N * D).
        n_layers: layers of the model, with those of a hybrid that have no heads.
        n_heads: N.
        head_dim: D.
    """

    architecture: Architecture
    layers: Mapping[int, nn.Module]
    projections: Mapping[int, nn.Module]
    n_layers: int
    n_heads: int
    head_dim: int

    def require(self, heads: Iterable[Head]) -> None:
        """Check that `heads` exist.

        Raises:
            UsageError: there are none, or one does not exist.
        """
        heads = list(heads)
        if not heads:
            raise UsageError("an intervention needs at least one head")
        for layer, head in heads:
            require_layers([layer], self.n_layers, self.projections)
            if not 0 <= head < self.n_heads:
                raise UsageError(f"there is no head {head} in layer {layer}: it has heads 0 to {self.n_heads - 1}")


def anatomy(model: PreTrainedModel) -> Anatomy:
    """Return the anatomy of `model`, a causal language model of transformers or its base model.

    Raises:
        UnsupportedModel: the output projection is unknown. The message says what to add.
    """
    config = model.config.get_text_config()
    without = layers_without_heads(config)
    architecture = architecture_for(model)
    # The base model is an attribute of the causal language model. A base model alone lacks this prefix.
    prefix = "" if hasattr(model, architecture.layer.partition(".")[0]) else architecture.layer.partition(".")[0] + "."
    layers: dict[int, nn.Module] = {}
    projections: dict[int, nn.Module] = {}
    for layer in (layer for layer in range(config.num_hidden_layers) if layer not in without):
        name = architecture.layer.format(layer=layer).removeprefix(prefix)
        try:
            layers[layer] = model.get_submodule(name)
            projections[layer] = layers[layer].get_submodule(architecture.output_projection)
        except AttributeError as error:
            raise UnsupportedModel(
                f"{type(model).__name__} has no module {name}.{architecture.output_projection}, the output projection of "
                f"{config.model_type}: correct its entry in headway/models/architectures.py"
            ) from error
    weight: Tensor = next(iter(projections.values())).weight  # type: ignore[assignment]
    n_layers, n_heads = config.num_hidden_layers, config.num_attention_heads
    head_dim = weight.numel() // config.hidden_size // n_heads
    return Anatomy(architecture, layers, projections, n_layers, n_heads, head_dim)


@contextmanager
def changing(model: PreTrainedModel, changes: Mapping[int, Change]) -> Iterator[None]:
    """While the block runs, apply `changes[layer]` to the heads' outputs before each layer's output projection.

    Hooks are used, so no weight is written. After the block, even after an exception, the model is unchanged bit by bit.
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
    """Provide a dict that holds each layer's head outputs (B, T, N, D) after every forward pass in the block."""
    recorded: dict[int, Tensor] = {}

    def keep(layer: int) -> Change:
        def change(outputs: Tensor) -> Tensor:
            recorded[layer] = outputs.detach()
            return outputs

        return change

    with changing(model, {layer: keep(layer) for layer in layers}):
        yield recorded


@torch.inference_mode()
def mean_outputs(model: PreTrainedModel, sequences: Sequence[np.ndarray], layers: Iterable[int]) -> dict[int, Tensor]:
    """The mean output of each head over all tokens of `sequences`: float64 (N, D) for each layer."""
    body, layers = anatomy(model), list(layers)
    shape = (body.n_heads, body.head_dim)
    totals = {layer: torch.zeros(shape, dtype=torch.float64, device=model.device) for layer in layers}
    with recording(model, layers) as outputs:
        for batch in read_together(model, sequences):
            model.base_model(input_ids=torch.from_numpy(batch.ids).to(model.device), use_cache=False)
            for layer, total in totals.items():
                for texts, n_tokens in batch.parts:
                    total += outputs[layer][texts, :n_tokens].double().sum((0, 1))
    n_tokens = sum(map(len, sequences))
    return {layer: total / n_tokens for layer, total in totals.items()}

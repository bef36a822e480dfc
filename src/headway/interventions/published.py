"""The interventions of "Pythia clustering dynamics" as it made them, to be seen beside the right ones.

Two things differ from ablating and swapping heads:

* It silenced a head by zeroing slice h of the *output* of the attention's dense projection. There heads are summed: a slice is
  head_dim dimensions of the residual stream, to which every head writes.
* It swapped weights in its own reading of the fused weight, as thirds for Q, K and V, which exchanges parts of several heads. And
  it never undid the swap, so that whatever it measured afterwards was of the swapped model.

Here the model is unchanged after each. What the study does not say is done as follows: the rows of Q, K and V are swapped together,
biases stay where they are, and slices are zeroed in a model whose two clusters are swapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from headway import options
from headway.errors import CheckpointError, UnsupportedModel, UsageError
from headway.interventions.job import ClusterEffects, Clusters, Operation, swapped
from headway.models.anatomy import Head, anatomy
from headway.options import documented

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from headway.interventions.groups import Grouping, Heads
    from headway.interventions.objects import Intervention, Substitutes

OPERATIONS = ("zero", "swap")


@dataclass(frozen=True)
class ZeroSlices:
    """Set slices of the attention's output, after the projection that sums over heads, to zero.

    Args:
        heads: (layer, slice) pairs. Slice h is the dimensions h * head_dim to (h + 1) * head_dim - 1 of the residual stream.
    """

    heads: Sequence[tuple[int, int]]

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        body = anatomy(model)
        body.require(Head(*head) for head in self.heads)
        with ExitStack() as stack:
            for layer in sorted({layer for layer, _ in self.heads}):
                slices = [head for other, head in self.heads if other == layer]
                hook = body.projections[layer].register_forward_hook(_zeroing(slices, body.head_dim))
                stack.callback(hook.remove)
            yield


def _zeroing(slices: Sequence[int], size: int) -> Any:
    def zero(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        changed = output.clone()
        for one in slices:
            changed[..., one * size : (one + 1) * size] = 0
        return changed

    return zero


@dataclass(frozen=True)
class SwapRows:
    """Reorder heads in the published reading of GPT-NeoX's fused weight: (3, heads, head_dim, hidden_size).

    Args:
        orders: for each layer, the head of that reading that moves to each place.

    Raises:
        UnsupportedModel: another architecture.
    """

    orders: Mapping[int, Sequence[int]]

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        body = anatomy(model)
        if body.architecture.published is None:
            raise UnsupportedModel(
                f"the published swap exists only for GPT-NeoX's fused weight, which {type(model).__name__} does not have: leave "
                "--as published out"
            )
        name = body.architecture.published["q"].tensor
        weights = {layer: body.layers[layer].get_parameter(name) for layer in self.orders}
        before = {layer: weight.detach().clone() for layer, weight in weights.items()}
        try:
            with torch.no_grad():
                for layer, order in self.orders.items():
                    read = before[layer].view(3, body.n_heads, body.head_dim, -1)
                    weights[layer].copy_(read[:, list(order)].view_as(weights[layer]))
            yield
        finally:
            with torch.no_grad():
                for layer, weight in weights.items():
                    weight.copy_(before[layer])


@dataclass(frozen=True)
class Together:
    """Several interventions at once, the first one first."""

    interventions: Sequence[Intervention]

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        with ExitStack() as stack:
            for one in self.interventions:
                stack.enter_context(one.on(model))
            yield


@documented(options.INTERVENE)
@dataclass(frozen=True)
class PublishedEffects(ClusterEffects):
    """The job of `ClusterEffects` with the published interventions, table `interventions_published`.

    Attributes:
        {options}
        groupings: The clusters of each run, as in `ClusterEffects`; two in each layer.
        lacking: The reason for each run that has no clusters.
        choice: How the clusters were chosen.
    """

    table = "interventions_published"

    def __post_init__(self) -> None:
        kept = tuple(one for one in self.operations if one in OPERATIONS)
        if not kept:
            raise UsageError(
                f"--as published knows the operations {' and '.join(OPERATIONS)}, not {', '.join(self.operations)}"
            )
        object.__setattr__(self, "operations", kept)

    def operation(self, grouping: Grouping, operation: str, clusters: Clusters) -> Operation:
        both = grouping.clusters
        if len(both) != 2:
            raise CheckpointError(
                f"--as published takes two clusters in each layer, and {grouping.clustering} has {len(both)}: choose --k 2"
            )
        orders = swapped(grouping, tuple(both))
        return operation, orders if operation == "swap" else (orders, grouping.heads(*clusters))

    def heads_of(self, operation: Operation, grouping: Grouping, clusters: Clusters) -> list[Heads]:
        kind, what = operation
        return super().heads_of(operation, grouping, clusters) if kind == "swap" else [what[1]]

    def intervention(self, operation: Operation, substitutes: Substitutes) -> Intervention:
        kind, what = operation
        if kind == "swap":
            return SwapRows(dict(what))
        orders, heads = what
        return Together([SwapRows(dict(orders)), ZeroSlices(heads)])

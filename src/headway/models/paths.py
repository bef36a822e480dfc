"""The path of each head in a model: from the embedding through the head to the logits, with norms folded.

Shapes: N query heads, D head_dim, M hidden_size, V tokens.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from headway.errors import UnsupportedModel, UsageError
from headway.models.config import geometry_of
from headway.models.norms import Norm, norm_of
from headway.models.structure import architecture_for

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class HeadOutputs:
    """What the heads of a model write, which needs no knowledge of other norms than that behind them.

    Args:
        model: a causal language model of transformers, or its base model.

    Raises:
        UnsupportedModel: the architecture is unknown.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model, self._base = model, model.base_model
        self.architecture = architecture_for(model)
        self.geometry = geometry_of(model)

    def output_norm(self, layer: int) -> nn.Module | None:
        """The norm through which the output of a layer's attention goes to the residual stream, if there is one."""
        return self._within(layer, self.architecture.output_norm)

    def writes(self, layer: int) -> Tensor:
        """The rows with which each head writes to the residual stream: (N, D, M)."""
        rows, norm = self._heads("o", layer), self.output_norm(layer)
        return rows if norm is None else norm_of(norm).after(rows)

    def _heads(self, kind: str, layer: int) -> Tensor:
        stored = self.architecture.weights[kind]
        module, _, name = stored.tensor.rpartition(".")
        weight: Tensor = getattr(self._module(self._layer(layer), module), name)
        return stored.read(weight, self.geometry)

    def _layer(self, layer: int) -> nn.Module:
        return self._module(self._base, self._own_name(self.architecture.layer.format(layer=layer)))

    def _within(self, layer: int, name: str | None) -> nn.Module | None:
        return None if name is None else self._module(self._layer(layer), name)

    @staticmethod
    def _own_name(name: str) -> str:
        """A module's name in the base model, which lacks the first word."""
        return name.partition(".")[2]

    def _module(self, parent: nn.Module, name: str) -> nn.Module:
        try:
            return parent.get_submodule(name)
        except AttributeError as error:
            raise UnsupportedModel(
                f"{type(self._model).__name__} has no module {name}: correct the entry of {self.geometry.architecture} in "
                "headway/models/architectures.py"
            ) from error


class Paths(HeadOutputs):
    """The parts of a model that lie on the heads' paths. Norms are folded into the weights that read or write them.

    A norm divides by a scale that depends on the text. Folding leaves that scale out: who needs it records it.

    Args:
        model: a causal language model of transformers. Its base model alone has no unembedding.

    Raises:
        UnsupportedModel: the architecture or one of its norms is unknown.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        if self.architecture.final_norm is None:
            raise UnsupportedModel(
                f"headway does not know the norms of the architecture {model.config.model_type!r}, which scale what its heads "
                "read and write. Write an `Architecture` with them in headway/models/architectures.py"
            )
        self._final_norm = self.architecture.final_norm

    @property
    def embedding(self) -> Tensor:
        """(V, M) one row per token."""
        return _weight(self._model.get_input_embeddings())

    @property
    def unembedding(self) -> Tensor:
        """(V, M) one row per token, as stored: it reads the output of the final norm.

        Raises:
            UsageError: the model has none.
        """
        layer = self._model.get_output_embeddings()
        if layer is None:
            raise UsageError(
                f"{type(self._model).__name__} has no unembedding: load the causal language model, such as with "
                "`headway.models.load(folder, lm_head=True)`"
            )
        return _weight(layer)

    @cached_property
    def final_norm(self) -> nn.Module:
        """The norm before the unembedding."""
        return self._module(self._base, self._own_name(self._final_norm))

    def reads(self, kind: str, layer: int) -> Tensor:
        """The rows with which each query head reads the residual stream: (N, D, M).

        Args:
            kind: `q`, `k` or `v`. Heads that share a key or value each get it.

        Raises:
            UnsupportedModel: the model clips queries, keys and values.
        """
        if getattr(self._model.config, "clip_qkv", None):
            raise UnsupportedModel(
                f"{type(self._model).__name__} clips queries, keys and values (clip_qkv), so its weights alone do not say "
                "what its heads read"
            )
        rows = self._heads(kind, layer)
        if (own := self._within(layer, self.architecture.norms.get(kind))) is not None:
            gain = norm_of(own).gain
            assert gain is not None  # the norms of queries and keys all have one
            # One gain for each dimension of a head, or of all heads.
            rows = rows * gain.to(rows.dtype).view(-1, self.geometry.head_dim, 1)
        norm = self._within(layer, self.architecture.input_norm)
        rows = rows if norm is None else norm_of(norm).before(rows)
        return rows.repeat_interleave(self.geometry.n_heads // len(rows), 0)

    def centred(self, layer: int) -> bool:
        """Whether the norm that a layer's heads read through subtracts the mean over the hidden dimensions."""
        norm = self._within(layer, self.architecture.input_norm)
        return norm is not None and norm_of(norm).centred

    def readout(self, rows: Tensor) -> Tensor:
        """Fold the final norm into `rows` (..., M) that read its output, such as those of the unembedding."""
        return self._final.before(rows)

    @cached_property
    def _final(self) -> Norm:
        return norm_of(self.final_norm)


def _weight(module: nn.Module) -> Tensor:
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight

"""Per-head weights, read one layer and one kind at a time."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from headway.errors import UnsupportedModel, UsageError
from headway.models.architectures import KINDS
from headway.models.config import config_text, read_stacks
from headway.models.structure import architecture_of_config
from headway.models.tensors import TensorFiles, require_finite, require_unquantized

if TYPE_CHECKING:
    from torch import Tensor

LAYOUTS = ("true", "published")


class HeadWeights:
    """The attention weights of the checkpoint in `folder`, split into heads. Tensors are read on access.

    Args:
        folder: holds config.json and the weights.
        stack: whose weights, one of `known_scores.STACKS`; empty for the model's first stack. `stacks` gives all.
        layout: `true`, or `published`: GPT-NeoX's fused weight as "Pythia clustering dynamics" read it,
            which mixes heads and kinds.

    Attributes:
        geometry: the `Geometry` of the stack.

    Raises:
        CheckpointError: config or weights are missing or damaged.
        UnsupportedModel: headway does not know how this architecture stores its weights.
        UsageError: there is no such layout.
    """

    def __init__(self, folder: str | PathLike[str], layout: str = "true", stack: str = "") -> None:
        self._layout, self._all = layout, read_stacks(folder)
        self.geometry = next(one for one in self._all if stack in (one.stack, ""))
        self._architecture = architecture_of_config(config_text(folder), str(folder), self.geometry.stack)
        self._stored = self._architecture.weights
        if layout == "published":
            if self._architecture.published is None:
                raise UnsupportedModel(
                    f"{folder}: the published layout exists only for GPT-NeoX's fused weight. "
                    f"Use the true layout for {self.geometry.architecture}"
                )
            self._stored = self._architecture.published
        elif layout != "true":
            raise UsageError(f"unknown layout {layout!r}: use one of {', '.join(LAYOUTS)}")
        self._files = TensorFiles(folder)

    @property
    def stacks(self) -> tuple[HeadWeights, ...]:
        """The weights of each stack of the checkpoint, the decoder first."""
        return tuple(HeadWeights(self._files.folder, self._layout, one.stack) for one in self._all)

    def get(self, kind: str, layer: int) -> np.ndarray:
        """Return the float32 weights of one kind in one layer.

        Args:
            kind: `q`, `k`, `v` (rows read from the residual stream) or `o` (rows write to it).
            layer: counted from 0.

        Returns:
            (n_heads, head_dim, hidden_size); for `k` and `v`, n_kv_heads instead of n_heads. Biases are not included.

        Raises:
            UsageError: there is no such kind or layer, or the layer has no attention heads.
            CheckpointError: the tensor is missing, not finite, or has another shape than config.json says.
            UnsupportedModel: the tensor is quantized.
        """
        import torch

        if kind not in KINDS:
            raise UsageError(f"unknown kind of weight {kind!r}: use one of {', '.join(KINDS)}")
        self.geometry.require_layers([layer])
        stored = self._stored[kind]
        name, tensor = self._tensor(f"{self._architecture.layer.format(layer=layer)}.{stored.tensor}")
        require_unquantized(name, tensor, self._files.folder)
        try:
            heads = stored.read(tensor, self.geometry)
        except RuntimeError as error:
            raise self._misshapen(name, tensor) from error
        expected = self.geometry.n_kv_heads if kind in "kv" else self.geometry.n_heads
        if len(heads) != expected:
            raise self._misshapen(name, tensor)
        weights = heads.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        require_finite(name, weights, self._files.folder)
        return weights.numpy()

    def _tensor(self, name: str) -> tuple[str, Tensor]:
        """Return a tensor and its stored name.

        A base model that was saved alone lacks the first word of the name. Nemotron-H's files have another word there,
        `backbone` for `model`.
        """
        bare = name.partition(".")[2]
        if name not in self._files:
            others = (one for one in self._files.names if one == bare or one.partition(".")[2] == bare)
            name = next(others, name)
        return name, self._files[name]

    def _misshapen(self, name: str, tensor: Tensor) -> UsageError | UnsupportedModel:
        return UnsupportedModel(
            f"{self._files.folder}: tensor {name!r} has shape {tuple(tensor.shape)}, which does not fit {self.geometry}"
        )

"""A checkpoint's folder -> a ready torch module, without building or initialising it anew for each checkpoint."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from headway.errors import CheckpointError, UsageError
from headway.models.architectures import renamed
from headway.models.geometry import config_text, skeleton
from headway.models.tensors import TensorFiles, require_finite

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

DTYPES = ("float32", "bfloat16", "float16", "float64")

# What older versions of transformers stored beside the weights: causal masks and rotary frequencies. Models make
# their own now.
_STORED_BUFFERS = re.compile(r"\.(attn|attention)\.(bias|masked_bias)$|\brotary_emb\.inv_freq$")


def load(
    folder: str | PathLike[str], *, dtype: str = "float32", device: str = "cpu", lm_head: bool = False
) -> PreTrainedModel:
    """The checkpoint's model, ready to run, in evaluation mode.

    Args:
        folder: holds config.json and the weights.
        dtype: one of `DTYPES`.
        device: as torch names it, such as `cpu` or `cuda:0`.
        lm_head: whether next tokens are to be predicted; else only what makes hidden states and attention is read.

    Returns:
        The causal language model with `lm_head`, else its base model. Where nothing needs converting, its
        parameters are views into the memory-mapped file: changing them does not change the file.

    Raises:
        CheckpointError: a tensor is missing, unexpected, of another shape than config.json says, or not finite.
        UnsupportedModel: transformers does not know its architecture.
    """
    folder = Path(folder)
    model = copy.deepcopy(skeleton(config_text(folder), str(folder)))
    kept = model if lm_head else model.base_model
    prefix = f"{model.base_model_prefix}."
    expected = model.state_dict(keep_vars=True)
    stored = _Stored(TensorFiles(folder), expected, prefix, model.config.model_type)
    wanted = [name for name in expected if lm_head or name.startswith(prefix)]
    values = _read(wanted, expected, stored, folder, torch_dtype(dtype), device)
    model.load_state_dict(values, strict=False, assign=True)
    return kept.to(device).eval()  # type: ignore[return-value]  # moves the buffers that no file stores


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype called `name`.

    Raises:
        UsageError: it is not one of `DTYPES`.
    """
    import torch

    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}: use one of {', '.join(DTYPES)}")
    return getattr(torch, name)


class _Stored:
    """The files' tensors by the names that the causal language model gives them."""

    def __init__(self, files: TensorFiles, expected: Mapping[str, Tensor], prefix: str, model_type: str) -> None:
        self._files = files
        # A base model that was saved alone lacks the prefix that it has inside the causal language model.
        bare = not any(name.startswith(prefix) for name in files.names)

        def own_name(name: str) -> str:
            if name in expected:
                return name
            return prefix + name if bare else renamed(name, model_type)

        self._stored_name = {own_name(name): name for name in files.names}
        unexpected = [name for name in self._stored_name if name not in expected and not _STORED_BUFFERS.search(name)]
        if unexpected:
            raise CheckpointError(
                f"{files.folder}: the weights hold {_listed(unexpected)}, which the model of config.json does not "
                "have: config and weights belong to different models"
            )

    def __contains__(self, name: str) -> bool:
        return name in self._stored_name

    def __getitem__(self, name: str) -> Tensor:
        return self._files[self._stored_name[name]]


def _read(
    wanted: Iterable[str],
    expected: Mapping[str, Tensor],
    stored: _Stored,
    folder: Path,
    dtype: torch.dtype,
    device: str,
) -> dict[str, Tensor]:
    """What fills the `wanted` of the `expected` names; names that share a parameter get one."""
    sharing = _sharing(expected)
    sources = {name: [other for other in sharing[name] if other in stored] for name in wanted}
    missing = [name for name, found in sources.items() if not found]
    if missing:
        raise CheckpointError(
            f"{folder}: the weights lack {_listed(missing)}, which the model of config.json needs: the files are "
            "not complete, or config and weights belong to different models"
        )
    filled: dict[str, Tensor] = {}
    for name, (source, *others) in sources.items():
        if source not in filled:
            filled[source] = _ready(source, expected[source], stored[source], folder, dtype, device)
            _require_equal(source, others, stored, folder)
        filled[name] = filled[source]
    return filled


def _sharing(expected: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """For each name, all names of its parameter: more than its own only where weights are tied."""
    names_of: dict[int, list[str]] = {}
    for name, slot in expected.items():
        names_of.setdefault(id(slot), []).append(name)
    return {name: names_of[id(slot)] for name, slot in expected.items()}


def _require_equal(source: str, others: list[str], stored: _Stored, folder: Path) -> None:
    for other in others:
        if not stored[source].equal(stored[other]):
            raise CheckpointError(
                f"{folder}: config.json ties {other!r} to {source!r}, but the weights store two that differ"
            )


def _ready(name: str, slot: Tensor, tensor: Tensor, folder: Path, dtype: torch.dtype, device: str) -> Tensor:
    from torch import nn

    if tensor.shape != slot.shape:
        raise CheckpointError(
            f"{folder}: tensor {name!r} has shape {tuple(tensor.shape)}, where the model of config.json has "
            f"{tuple(slot.shape)}: config and weights belong to different models"
        )
    converted = tensor.to(dtype) if tensor.is_floating_point() else tensor
    require_finite(name, converted, folder)
    converted = converted.to(device)
    return nn.Parameter(converted, requires_grad=False) if isinstance(slot, nn.Parameter) else converted


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{len(names)} tensors ({shown}{', ...' if len(names) > 5 else ''})" if len(names) > 1 else f"tensor {shown}"

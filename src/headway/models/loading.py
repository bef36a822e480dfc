"""Load the weights in a checkpoint's folder into a torch module that is ready to run.

The module is built once per config and copied, because building and initialising takes longer than reading the weights.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.allocation import keep_freed_memory
from headway.errors import CheckpointError, UsageError
from headway.known_scores import DECODER
from headway.models.architectures import renamed
from headway.models.config import config_text, read_geometry, skeleton
from headway.models.stacks import stacks_of
from headway.models.tensors import TensorFiles, require_finite, require_unquantized

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

DTYPES = ("float32", "bfloat16", "float16", "float64")

# Buffers that older versions of transformers stored with the weights: causal masks and rotary frequencies. Models now
# compute their own.
_STORED_BUFFERS = re.compile(r"\.(attn|attention)\.(bias|masked_bias)$|\brotary_emb\.inv_freq$")

# BERT's first checkpoints have the names of TensorFlow in their norms.
_TENSORFLOW = re.compile(r"(?<=\bLayerNorm\.)(gamma|beta)$")
_NORM_PARTS = {"gamma": "weight", "beta": "bias"}


def _beside_stacks(model: PreTrainedModel, prefix: str) -> re.Pattern[str]:
    """Names of tensors that files of encoders hold and that no attention depends on.

    These are the layers of other tasks, such as the prediction of the next sentence in BERT, the pooled output, and what
    transformers itself ignores.
    """
    ignored = [str(getattr(one, "pattern", one)) for one in model._keys_to_ignore_on_load_unexpected or ()]
    heads = [rf"^(?!{re.escape(prefix)})"] if prefix else []
    return re.compile("|".join([*ignored, *heads, r"(^|\.)pooler\.", r"position_ids$"]))


def load(
    folder: str | PathLike[str], *, dtype: str = "float32", device: str = "cpu", lm_head: bool = False
) -> PreTrainedModel:
    """Return the checkpoint's model, ready to run, in evaluation mode.

    Args:
        folder: holds config.json and the weights.
        dtype: one of `DTYPES`.
        device: as torch names it, such as `cpu` or `cuda:0`.
        lm_head: whether to load the layer that predicts next tokens. Attention and hidden states do not need it.

    Returns:
        The causal language model with `lm_head`, else its base model. T5 is loaded whole. Parameters that need no conversion are views into
        the memory-mapped file. Changing them does not change the file.

    Raises:
        CheckpointError: a tensor is missing, unexpected, not finite, or has another shape than config.json says.
        UnsupportedModel: transformers does not know the architecture, or the weights are quantized, or `lm_head` is asked
            of a model that predicts no next tokens.
    """
    keep_freed_memory()
    folder = Path(folder)
    if lm_head:
        read_geometry(folder).require_causal("this command")
    model = copy.deepcopy(skeleton(config_text(folder), str(folder)))
    # T5 has no model of its own within the one that predicts tokens.
    prefix = f"{model.base_model_prefix}." if hasattr(model, model.base_model_prefix) else ""
    expected = model.state_dict(keep_vars=True)
    stored = _Stored(TensorFiles(folder), expected, prefix, model)
    wanted = [name for name in expected if lm_head or name.startswith(prefix)]
    if stored.unexpected:
        model = _converted(model, stored, wanted, torch_dtype(dtype))
    else:
        values = _read(wanted, expected, stored, folder, torch_dtype(dtype), device)
        model.load_state_dict(values, strict=False, assign=True)
    kept = model if lm_head else model.base_model
    return kept.to(device).eval()  # type: ignore[return-value]  # moves the buffers that no file stores


def require_dtype(name: str) -> None:
    """Check that `name` is one of `DTYPES`. It does not import torch.

    Raises:
        UsageError: it is not.
    """
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}: use one of {', '.join(DTYPES)}")


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch dtype called `name`.

    Raises:
        UsageError: `name` is not one of `DTYPES`.
    """
    import torch

    require_dtype(name)
    dtype: torch.dtype = getattr(torch, name)
    return dtype


class _Stored:
    """The stored tensors, by the names that the causal language model gives them.

    Attributes:
        files: the tensors by their stored names.
        unexpected: names that the model does not have, except buffers that older versions of transformers stored.
    """

    def __init__(self, files: TensorFiles, expected: Mapping[str, Tensor], prefix: str, model: PreTrainedModel) -> None:
        self.files = files
        # In a base model that was saved alone, names lack the prefix that they have in the language model.
        bare = not any(name.startswith(prefix) for name in files.names)

        def own_name(name: str) -> str:
            name = _TENSORFLOW.sub(lambda found: _NORM_PARTS[found[1]], name)
            if name in expected:
                return name
            return prefix + name if bare else renamed(name, model.config.model_type)

        self._stored_name = {own_name(name): name for name in files.names}
        dropped = _STORED_BUFFERS if stacks_of(model.config) == (DECODER,) else _beside_stacks(model, prefix)
        self.unexpected = [name for name in self._stored_name if name not in expected and not dropped.search(name)]

    def __contains__(self, name: str) -> bool:
        return name in self._stored_name

    def __getitem__(self, name: str) -> Tensor:
        return self.files[self._stored_name[name]]


def _converted(
    skeleton: PreTrainedModel, stored: _Stored, wanted: Iterable[str], dtype: torch.dtype
) -> PreTrainedModel:
    """Load a model whose files use other names or shapes than the installed transformers, such as one tensor per expert.

    transformers' own loading converts them. Tensors that it reports as missing or unexpected are errors here.

    The model is read in float32 and cast afterwards. Reading in another dtype changes PyTorch's default dtype meanwhile,
    also for threads that compute.

    Raises:
        CheckpointError: a tensor is missing, unexpected, not finite, or has another shape than config.json says.
        UnsupportedModel: a tensor is quantized.
    """
    import torch

    files, folder = stored.files, stored.files.folder
    tensors = {name: files[name] for name in files.names if not _STORED_BUFFERS.search(name)}
    for name, tensor in tensors.items():
        require_unquantized(name, tensor, folder)
        require_finite(name, tensor, folder)
    try:
        with _silent_transformers():
            loaded: Any = type(skeleton).from_pretrained(
                None, config=skeleton.config, state_dict=tensors, dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # each conversion fails in its own way if experts are missing or misshapen
        raise CheckpointError(
            f"{folder}: transformers cannot convert the weights ({_listed(stored.unexpected)}) to the model "
            f"of config.json: {_first_line(error)}. The files are incomplete or belong to different models"
        ) from error
    model: PreTrainedModel = loaded[0]
    found: dict[str, Any] = loaded[1]
    if unexpected := sorted(found["unexpected_keys"]):
        raise _unexpected(unexpected, folder)
    if missing := sorted(set(found["missing_keys"]) & set(wanted)):
        raise _missing(missing, folder)
    model.to(dtype)  # type: ignore[arg-type]  # transformers hides the parameters of `to`
    return model


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """Hide the progress bar and the report of transformers' loading. headway raises errors for what they report."""
    from logging import CRITICAL

    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _unexpected(names: list[str], folder: Path) -> CheckpointError:
    return CheckpointError(
        f"{folder}: the weights hold {_listed(names)}, which the model of config.json does not have. Config and weights "
        "belong to different models"
    )


def _missing(names: list[str], folder: Path) -> CheckpointError:
    return CheckpointError(
        f"{folder}: the weights lack {_listed(names)}, which the model of config.json needs. The files are incomplete, "
        "or config and weights belong to different models"
    )


def _read(
    wanted: Iterable[str],
    expected: Mapping[str, Tensor],
    stored: _Stored,
    folder: Path,
    dtype: torch.dtype,
    device: str,
) -> dict[str, Tensor]:
    """Return the `wanted` tensors by name, ready for the model.

    Names that share a parameter in the model get the same tensor. If the files store different values for them, each
    name gets its own, as in transformers.
    """
    sharing = _sharing(expected)
    sources = {name: [other for other in sharing[name] if other in stored] for name in wanted}
    missing = [name for name, found in sources.items() if not found]
    if missing:
        raise _missing(missing, folder)
    filled: dict[str, Tensor] = {}
    for name, found in sources.items():
        tied = len(found) < 2 or all(stored[found[0]].equal(stored[other]) for other in found[1:])
        source = found[0] if tied or name not in stored else name
        if source not in filled:
            filled[source] = _ready(source, expected[source], stored[source], folder, dtype, device)
        filled[name] = filled[source]
    return filled


def _sharing(expected: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """For each name, all names of the same parameter. Only tied weights have more than one."""
    names_of: dict[int, list[str]] = {}
    for name, slot in expected.items():
        names_of.setdefault(id(slot), []).append(name)
    return {name: names_of[id(slot)] for name, slot in expected.items()}


def _ready(name: str, slot: Tensor, tensor: Tensor, folder: Path, dtype: torch.dtype, device: str) -> Tensor:
    from torch import nn

    if tensor.shape != slot.shape:
        raise CheckpointError(
            f"{folder}: tensor {name!r} has shape {tuple(tensor.shape)}, but the model of config.json expects "
            f"{tuple(slot.shape)}. Config and weights belong to different models"
        )
    if slot.is_floating_point():
        require_unquantized(name, tensor, folder)
    converted = tensor.to(dtype) if tensor.is_floating_point() else tensor
    require_finite(name, converted, folder)
    converted = converted.to(device)
    return nn.Parameter(converted, requires_grad=False) if isinstance(slot, nn.Parameter) else converted


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{len(names)} tensors ({shown}{', ...' if len(names) > 5 else ''})" if len(names) > 1 else f"tensor {shown}"

"""The named tensors of a checkpoint's weight files, read on access."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable, Collection
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.errors import CheckpointError, UnsupportedModel
from headway.models.olmo_files import tensors_of
from headway.suites.hub_http import cache_dir

if TYPE_CHECKING:
    from torch import Tensor

_SAFETENSORS, _BIN = "model.safetensors", "pytorch_model.bin"


class TensorFiles:
    """The tensors in a folder of safetensors or PyTorch .bin files, whole or in shards.

    Safetensors are preferred. A .bin file is unpickled with `weights_only`, so it cannot run code. Tensors of a
    safetensors file are views into the memory-mapped file and are copied only when written to. Prefixes that PyTorch's
    wrappers add to names (torch.compile, DistributedDataParallel, FSDP, activation checkpointing) are removed. Tensors of
    OLMo's own library have the names that transformers gives them.

    Raises:
        CheckpointError: there are no weights, a shard is missing, or a file is truncated or of another format.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder)
        self._get: dict[str, Callable[[], Tensor]] = {}
        for path in self._files():
            self._get |= _open_safetensors(path) if path.suffix == ".safetensors" else _open_bin(path)
        self._get = tensors_of(self.folder, {_unwrapped(name, self._get): get for name, get in self._get.items()})

    @property
    def names(self) -> list[str]:
        return list(self._get)

    def __contains__(self, name: str) -> bool:
        return name in self._get

    def __getitem__(self, name: str) -> Tensor:
        try:
            get = self._get[name]
        except KeyError:
            raise CheckpointError(f"{self.folder}: the weights hold no tensor {name!r}") from None
        return get()

    def _files(self) -> list[Path]:
        for name in (_SAFETENSORS, _BIN):
            whole, index = self.folder / name, self.folder / f"{name}.index.json"
            if whole.exists():
                return [whole]
            if index.exists():
                return _shards(index)
        raise CheckpointError(f"{self.folder} holds no weights: neither {_SAFETENSORS} nor {_BIN}, whole or in shards")


_WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def _unwrapped(name: str, names: Collection[str]) -> str:
    if all(one.startswith("module.") for one in names):
        name = name.removeprefix("module.")
    return _WRAPPERS.sub("", name)


def require_unquantized(name: str, tensor: Tensor, folder: Path) -> None:
    """Check that `tensor` holds weights.

    Raises:
        UnsupportedModel: it holds the integer codes of a quantization.
    """
    if not tensor.is_floating_point() or tensor.dtype.itemsize < 2:
        raise UnsupportedModel(
            f"{folder}: tensor {name!r} is stored as {str(tensor.dtype).removeprefix('torch.')}, so its weights are "
            "quantized. headway reads float16, bfloat16, float32 and float64: use a checkpoint that is not quantized"
        )


def require_finite(name: str, tensor: Tensor, folder: Path) -> None:
    """Check that every value of `tensor` is finite, in one pass and without a copy: a sum is finite only if its terms are.

    Raises:
        CheckpointError: it holds NaN or an infinity.
    """
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return
    # A sum of finite terms can overflow. So values are counted before anything is reported.
    if not tensor.sum().isfinite() and (count := int(tensor.numel() - tensor.isfinite().sum())):
        raise CheckpointError(
            f"{folder}: tensor {name!r} holds {count} of {tensor.numel()} values that are NaN or infinite "
            f"as {str(tensor.dtype).removeprefix('torch.')}. The run diverged here, or the file is damaged, "
            "or it needs a wider dtype"
        )


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index} is not an index of shards: {error!r}") from error
    for name in names:
        if Path(name).name != name:
            raise CheckpointError(f"{index} names a shard outside its own folder: {name!r}")
    missing = [name for name in names if not (index.parent / name).exists()]
    if missing:
        raise CheckpointError(f"{index.parent} lacks {len(missing)} of {len(names)} shards: {', '.join(missing)}")
    return [index.parent / name for name in names]


def _advice(damaged: Path) -> str:
    """Advice for a damaged file. The cache can download it again; other folders belong to the user."""
    if damaged.is_relative_to(cache_dir()):
        return f"Remove {damaged.resolve()} to download it again"
    return "Copy it again from an intact source, or leave the checkpoint out"


def _open_safetensors(path: Path) -> dict[str, Callable[[], Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        file: Any = safe_open(path, framework="pt")
        names = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or damaged: {error}. {_advice(path)}") from error
    return {name: lambda name=name: file.get_tensor(name) for name in names}  # type: ignore[misc]


def _open_bin(path: Path) -> dict[str, Callable[[], Tensor]]:
    import torch

    try:
        mapped = zipfile.is_zipfile(path)  # older files are one pickle stream, which cannot be memory-mapped
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors. headway does not read it, because unpickling would run its "
            "code. Convert it to safetensors if you trust it"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or damaged: {error}. {_advice(path)}") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{path} does not hold one dictionary of tensors by name")
    return {name: lambda tensor=tensor: tensor for name, tensor in tensors.items()}  # type: ignore[misc]

"""Signatures of a checkpoint's weights: a few numbers of each tensor instead of all of them.

A signature holds the name and shape of every floating-point tensor, the tensors that are not finite (all values are
checked), and the direction of every matrix: 256 evenly spread entries, scaled to length 1. Distances between signatures
estimate distances between weights. The error is about 1 / sqrt(2 * 256) = 4% for one matrix, and 1% for a model of 25
matrices. A signature shows whether a matrix moved. It misses changes of a few weights, and matrices that are only scaled.

Each signature is a file of about ten kilobytes, named by the identity of the weights, so an interrupted audit can continue.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from headway.store.files import write_whole
from headway.suites.checkpoint import Checkpoint
from headway.suites.files import files

if TYPE_CHECKING:
    from torch import Tensor

ENTRIES = 256
# Raise it when the code makes different signatures of the same weights, so that saved ones are not reused.
_VERSION = 2
_LAYER = re.compile(r"(?:[^.]+\.)*?\d+\.")
_GOLDEN = (5**0.5 - 1) / 2
# Masks and frequencies are not weights. Some files store them and others do not.
_BUFFERS = re.compile(r"\.(attn|attention)\.(bias|masked_bias)$|\brotary_emb\.inv_freq$")


class Tensors(Protocol):
    """A folder's tensors, read on access."""

    @property
    def names(self) -> list[str]: ...

    def __getitem__(self, name: str) -> Tensor: ...


@dataclass(frozen=True)
class Signature:
    """The signature of a checkpoint's weights.

    Attributes:
        shapes: shape of every floating-point tensor, by name.
        directions: up to 256 entries of every finite matrix, scaled to length 1 (float32). Zero matrices stay zero.
        not_finite: names of the tensors with NaN or infinities.
        content: hash of all values of these tensors, independent of file headers and of the signs of zeros.
    """

    shapes: Mapping[str, tuple[int, ...]]
    directions: Mapping[str, np.ndarray]
    not_finite: tuple[str, ...] = ()
    content: str = ""

    def digest(self) -> str:
        """Hash of the directions, independent of the signs of zeros."""
        parts = [name.encode() + (direction + 0.0).tobytes() for name, direction in sorted(self.directions.items())]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def layers(self) -> dict[str, Signature]:
        """Signature of each layer, keyed by the prefix of tensor names up to the layer's number."""
        names: dict[str, list[str]] = {}
        for name in self.directions:
            if found := _LAYER.match(name):
                names.setdefault(found[0].rstrip("."), []).append(name)
        return {
            layer: Signature({name: self.shapes[name] for name in own}, {name: self.directions[name] for name in own})
            for layer, own in names.items()
        }

    def shared(self, other: Signature) -> list[str]:
        """Names of the matrices that both signatures have in the same shape."""
        return [
            name for name in self.directions if name in other.directions and self.shapes[name] == other.shapes[name]
        ]

    def likeness(self, other: Signature) -> float:
        """Mean cosine between the matrices that both signatures have; NaN if there are none."""
        names = self.shared(other)
        return float(np.mean([self.directions[name] @ other.directions[name] for name in names])) if names else np.nan

    def distance(self, other: Signature) -> float:
        """Root mean square distance between the directions of the matrices that both signatures have.

        It is 0 for equal and 1.41 for unrelated weights, and NaN if there are no common matrices.
        """
        names = self.shared(other)
        squares = [float(np.sum((self.directions[name] - other.directions[name]) ** 2)) for name in names]
        return float(np.sqrt(np.mean(squares))) if squares else np.nan


def sign(tensors: Tensors) -> Signature:
    """Compute the signature. Every tensor is read once, one at a time."""
    shapes, directions, not_finite, content = {}, {}, [], hashlib.sha256()
    for name in sorted(tensors.names):
        if _BUFFERS.search(name):
            continue
        tensor = tensors[name]
        if not tensor.is_floating_point() or tensor.numel() == 0:
            continue
        shapes[name] = tuple(tensor.shape)
        content.update(f"{name} {tensor.dtype} {shapes[name]}".encode())
        content.update(_values(tensor))
        # The minimum and maximum are finite only if all values are.
        if not all(extreme.isfinite() for extreme in tensor.aminmax()):
            not_finite.append(name)
        # Gains and biases start at 1 and 0 in every run, so they cannot identify a run's initialisation.
        elif tensor.ndim >= 2:
            directions[name] = _direction(tensor)
    return Signature(shapes, directions, tuple(not_finite), content.hexdigest())


def _values(tensor: Tensor) -> bytes:
    """Bytes of a tensor, with -0 replaced by 0."""
    import torch

    return (tensor + 0.0).contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _direction(tensor: Tensor) -> np.ndarray:
    flat = tensor.reshape(-1)
    if len(flat) > ENTRIES:
        flat = flat[_positions(len(flat))]
    entries = flat.double().numpy()
    length = np.linalg.norm(entries)
    return (entries / length if length > 0 else entries).astype(np.float32)


def _positions(n: int) -> np.ndarray:
    """Evenly spread positions: multiples of the golden ratio.

    Equal strides would hit the same few columns of a matrix again and again.
    """
    return (np.arange(ENTRIES) * _GOLDEN % 1 * n).astype(np.int64)


class Signatures:
    """Signatures by the identity of the weights. Each is computed once and saved in `folder`.

    Args:
        open_tensors: opens a folder's weights, such as `headway.models.tensors.TensorFiles`.
        keep_files: whether downloaded weights stay in the Hub's cache.
    """

    def __init__(self, folder: Path, open_tensors: Callable[[Path], Tensors], *, keep_files: bool = True) -> None:
        self.folder, self.open_tensors, self.keep_files = folder, open_tensors, keep_files

    def of(self, checkpoint: Checkpoint, identity: str) -> Signature:
        """Return the signature of `checkpoint`, whose weights have `identity`. Saved signatures need no download.

        Raises:
            CheckpointError: the weights cannot be downloaded or read.
            StorageError: the disk is full.
        """
        kept = self._kept(identity)
        if kept is not None:
            return kept
        with files(checkpoint, need={"weights"}, keep=self.keep_files) as found:
            signature = sign(self.open_tensors(found.folder))
        write_whole(self._path(found.identity), _encoded(signature))
        return signature

    def _path(self, identity: str) -> Path:
        return self.folder / f"{identity}.v{_VERSION}.safetensors"

    def _kept(self, identity: str) -> Signature | None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._path(identity), framework="np") as file:
                said = file.metadata()
                directions = {name: file.get_tensor(name) for name in list(file.keys())}
            shapes = {name: tuple(shape) for name, shape in json.loads(said["shapes"]).items()}
            return Signature(shapes, directions, tuple(json.loads(said["not_finite"])), said["content"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None  # missing or damaged: compute it again


def _encoded(signature: Signature) -> bytes:
    from safetensors.numpy import save

    said = {
        "shapes": json.dumps(signature.shapes),
        "not_finite": json.dumps(signature.not_finite),
        "content": signature.content,
    }
    return save(dict(signature.directions), metadata=said)

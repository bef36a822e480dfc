"""What an audit keeps of a checkpoint's weights: its signature, a few numbers of each tensor instead of all of them.

A signature holds the name and shape of every floating-point tensor, the tensors that are not finite (all their values
are looked at), and the direction of every matrix: 256 of its entries, spread evenly over it, scaled to length 1.
Distances between signatures stand for those between weights. That of one matrix is right to about
1 / sqrt(2 * 256) = 4 %, that of a model of 25 matrices to 1 %. So a signature sees what moves a matrix; it does not see a
handful of changed weights, nor a matrix that was only scaled.

Each is a file of some ten kilobytes, named by the identity of the weights: an audit that is stopped goes on from there.
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

from headway.store.directory import write_whole
from headway.suites.checkpoint import Checkpoint
from headway.suites.files import files

if TYPE_CHECKING:
    from torch import Tensor

ENTRIES = 256
# Raise it when the code makes other signatures of the same weights, so that none that was kept is taken for a new one.
_VERSION = 2
_LAYER = re.compile(r"(?:[^.]+\.)*?\d+\.")
_GOLDEN = (5**0.5 - 1) / 2
# Masks and frequencies, which some files store and others do not: no weights.
_BUFFERS = re.compile(r"\.(attn|attention)\.(bias|masked_bias)$|\brotary_emb\.inv_freq$")


class Tensors(Protocol):
    """A folder's tensors, read when they are asked for."""

    @property
    def names(self) -> list[str]: ...

    def __getitem__(self, name: str) -> Tensor: ...


@dataclass(frozen=True)
class Signature:
    """What is kept of a checkpoint's weights.

    Attributes:
        shapes: of every floating-point tensor, by its name.
        directions: of every finite matrix, up to 256 entries scaled to length 1 (float32; zeros stay zeros).
        not_finite: the tensors that hold NaN or infinities.
        content: a hash of all values of all these tensors; files' headers and the signs of zeros do not count.
    """

    shapes: Mapping[str, tuple[int, ...]]
    directions: Mapping[str, np.ndarray]
    not_finite: tuple[str, ...] = ()
    content: str = ""

    def digest(self) -> str:
        """The same for two signatures whose directions are the same; the signs of zeros do not count."""
        parts = [name.encode() + (direction + 0.0).tobytes() for name, direction in sorted(self.directions.items())]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def layers(self) -> dict[str, Signature]:
        """The signature of each layer alone, by the part of its tensors' names up to the layer's number."""
        names: dict[str, list[str]] = {}
        for name in self.directions:
            if found := _LAYER.match(name):
                names.setdefault(found[0].rstrip("."), []).append(name)
        return {
            layer: Signature({name: self.shapes[name] for name in own}, {name: self.directions[name] for name in own})
            for layer, own in names.items()
        }

    def shared(self, other: Signature) -> list[str]:
        """The matrices that both have, in the same shape."""
        return [
            name for name in self.directions if name in other.directions and self.shapes[name] == other.shapes[name]
        ]

    def likeness(self, other: Signature) -> float:
        """The cosine between two checkpoints' matrices, averaged over those that they share; NaN if they share none."""
        names = self.shared(other)
        return float(np.mean([self.directions[name] @ other.directions[name] for name in names])) if names else np.nan

    def distance(self, other: Signature) -> float:
        """Between the directions of two checkpoints' matrices, as a root mean square over those that they share: 0 for
        the same, 1.41 for unrelated ones; NaN if they share none."""
        names = self.shared(other)
        squares = [float(np.sum((self.directions[name] - other.directions[name]) ** 2)) for name in names]
        return float(np.sqrt(np.mean(squares))) if squares else np.nan


def sign(tensors: Tensors) -> Signature:
    """Reads every tensor once, one at a time."""
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
        # The extremes of a tensor are finite only if all of it is.
        if not all(extreme.isfinite() for extreme in tensor.aminmax()):
            not_finite.append(name)
        # Gains and biases start at 1 and 0 in every run: they say nothing of where it began.
        elif tensor.ndim >= 2:
            directions[name] = _direction(tensor)
    return Signature(shapes, directions, tuple(not_finite), content.hexdigest())


def _values(tensor: Tensor) -> bytes:
    """The bytes of a tensor in which -0 became 0."""
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
    """Multiples of the golden ratio lie evenly over the rows and over the columns of any matrix; equal strides would
    come back to the same few columns."""
    return (np.arange(ENTRIES) * _GOLDEN % 1 * n).astype(np.int64)


class Signatures:
    """Signatures by the identity of the weights: each is computed once, and kept in `folder`.

    Args:
        open_tensors: opens a folder's weights, such as `headway.models.tensors.TensorFiles`.
        keep_files: whether downloaded weights stay in the Hub's cache.
    """

    def __init__(self, folder: Path, open_tensors: Callable[[Path], Tensors], *, keep_files: bool = True) -> None:
        self.folder, self.open_tensors, self.keep_files = folder, open_tensors, keep_files

    def of(self, checkpoint: Checkpoint, identity: str) -> Signature:
        """The signature of `checkpoint`, whose weights are stated to be `identity`; nothing is fetched if it is kept.

        Raises:
            CheckpointError: the weights cannot be had or read.
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
            return None  # not there, or damaged: it is computed


def _encoded(signature: Signature) -> bytes:
    from safetensors.numpy import save

    said = {
        "shapes": json.dumps(signature.shapes),
        "not_finite": json.dumps(signature.not_finite),
        "content": signature.content,
    }
    return save(dict(signature.directions), metadata=said)

"""What the weights themselves tell of a suite: NaN, steps out of their place, runs that did not begin where they say.

Each checkpoint is read once, a tensor at a time. What is kept of it is its signature: up to 1,024 evenly spaced entries
of every matrix. Distances between signatures stand for those between weights, to a few per cent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from headway.errors import CheckpointError
from headway.progress import Progress, Silent
from headway.suites.audit_files import Finding, steps_in_words
from headway.suites.checkpoint import Checkpoint
from headway.suites.files import files

if TYPE_CHECKING:
    from torch import Tensor

ENTRIES = 1024
# Nearer to the end than to a neighbour by a fifth: signatures are samples, and late in training all steps are near.
_CLEARLY = 0.8
# Unrelated signatures of n entries have a cosine of about 0 ± 1 / sqrt(n).
_SIGMAS = 5.0


class Tensors(Protocol):
    """A folder's tensors, read when they are asked for."""

    @property
    def names(self) -> list[str]: ...

    def __getitem__(self, name: str) -> Tensor: ...


@dataclass(frozen=True)
class Signature:
    """A checkpoint's sampled entries (n,), NaN where they are not finite, and the tensors that hold such."""

    checkpoint: Checkpoint
    entries: np.ndarray
    not_finite: tuple[str, ...]


def weight_findings(
    checkpoints: Sequence[Checkpoint],
    open_tensors: Callable[[Path], Tensors],
    *,
    keep: bool = True,
    progress: Progress | None = None,
) -> list[Finding]:
    """What the weights give reason to say, run by run.

    Args:
        open_tensors: opens a folder's weights, such as `headway.models.tensors.TensorFiles`.
        keep: whether downloaded weights stay in the cache.
    """
    progress = progress or Silent()
    progress.start("weights", len(checkpoints))
    findings: list[Finding] = []
    by_run: dict[str, list[Signature]] = defaultdict(list)
    for checkpoint in checkpoints:
        try:
            with files(checkpoint, need={"weights"}, keep=keep) as found:
                by_run[checkpoint.run].append(_signature(checkpoint, open_tensors(found.folder)))
        except CheckpointError as error:
            findings.append(Finding("unreadable", checkpoint.run, (checkpoint.step,), str(error)))
        progress.advance(1, checkpoint.key)
    for run, signatures in by_run.items():
        findings += _not_finite(run, signatures)
        sound = [signature for signature in signatures if not signature.not_finite]
        findings += _out_of_place(run, sound)
    findings += _not_from_own_start(by_run)
    return findings


def _signature(checkpoint: Checkpoint, tensors: Tensors) -> Signature:
    entries, not_finite = [], []
    for name in sorted(tensors.names):
        tensor = tensors[name]
        if not tensor.is_floating_point() or tensor.numel() == 0:
            continue
        # The extremes of a tensor are finite only if all of it is.
        if not all(extreme.isfinite() for extreme in tensor.aminmax()):
            not_finite.append(name)
        # Gains and biases start at 1 and 0 in every run: they say nothing of where it began.
        if tensor.ndim >= 2:
            every = max(1, tensor.numel() // ENTRIES)
            entries.append(tensor.reshape(-1)[::every][:ENTRIES].float().numpy())
    return Signature(checkpoint, np.concatenate(entries) if entries else np.empty(0), tuple(not_finite))


def _not_finite(run: str, signatures: Sequence[Signature]) -> Iterator[Finding]:
    for found in signatures:
        if found.not_finite:
            step, first = found.checkpoint.step, found.not_finite[0]
            said = f"step {step}: NaN or infinities in {len(found.not_finite)} tensors, such as {first}"
            yield Finding("not_finite", run, (step,), said)


def _out_of_place(run: str, signatures: Sequence[Signature]) -> Iterator[Finding]:
    """Steps nearer to the end than to their neighbours, or far nearer than what comes after them."""
    points = [found.entries for found in signatures]
    if len({point.shape for point in points}) != 1 or len(points) < 3:
        return
    steps = [found.checkpoint.step for found in signatures]
    to_end = np.array([np.linalg.norm(point - points[-1]) for point in points])
    gaps = np.array([np.linalg.norm(a - b) for a, b in zip(points[1:], points[:-1], strict=True)])
    for i in range(len(points) - 1):
        neighbours = gaps[max(i - 1, 0) : i + 1]
        after = np.median(to_end[i + 1 : -1]) if i + 2 < len(points) - 1 else 0.0
        if to_end[i] < _CLEARLY * neighbours.min() or to_end[i] < _CLEARLY / 2 * after:
            said = (
                f"step {steps[i]} is at {to_end[i]:.3g} from the weights of the last step, {steps[-1]}, but at "
                f"{neighbours.min():.3g} from its neighbours' and the later steps are at {after:.3g} from the end"
            )
            yield Finding("out_of_place", run, (steps[i],), said)


def _not_from_own_start(by_run: Mapping[str, Sequence[Signature]]) -> Iterator[Finding]:
    """Steps that resemble another run's step 0 more than their own, or their own not at all at the run's beginning."""
    starts = {run: found[0].entries for run, found in by_run.items() if found and found[0].checkpoint.step == 0}
    for run, signatures in by_run.items():
        if run not in starts or starts[run].size == 0:
            continue
        foreign: dict[str, list[int]] = defaultdict(list)
        for found in signatures[1:]:
            alike = {
                name: _cosine(found.entries, start)
                for name, start in starts.items()
                if start.shape == found.entries.shape
            }
            chance = _SIGMAS / np.sqrt(found.entries.size)
            nearest = max(alike, key=alike.__getitem__, default=run)
            if run in alike and alike[nearest] > alike[run] + chance:
                foreign[nearest].append(found.checkpoint.step)
            elif found is signatures[1] and alike.get(run, 0.0) < chance:
                said = (
                    f"step {found.checkpoint.step} does not resemble step 0 at all (cosine {alike.get(run, 0.0):.3f})"
                )
                yield Finding("not_from_own_start", run, (found.checkpoint.step,), said)
        for other, steps in foreign.items():
            said = f"{steps_in_words(steps)} of {run} resembles the step 0 of {other} more than its own"
            yield Finding("not_from_own_start", run, tuple(steps), said)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms > 0 else 0.0

"""Find checkpoints whose loss on a fixed text is out of line with the steps around them.

The loss falls during training, so at each step it should lie between what it is before and what it is after. A step is out
of line if it lies outside the range of two medians, of the three steps before it and of the three after it, by more than a
threshold times the noise. Medians, because one wrong step must not throw doubt on its neighbours. A range, because a curve
that falls steeply passes far from any average of its neighbours, but never leaves the range.

The noise of a run is estimated from how far each step lies from the line through its two neighbours on a logarithmic axis
of steps, again by a median. The threshold depends on the number of steps: it is exceeded in 1 % of simulated runs with
Gaussian noise about a constant loss, where every step is as likely as it can be to leave the range
(`benchmarks/loss_alarms.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from headway.integrity.files import Finding

Curve = Sequence[tuple[int, float]]  # steps with their losses

_NEIGHBOURS = 3
# One wrong step spoils three of the distances that noise is estimated from. With fewer steps, these would be most of them.
FEWEST = 10
# By number of steps: what fewer than 1 % of sound runs exceed at any step, rounded up.
_THRESHOLDS = ((10, 6.1), (12, 5.9), (16, 5.4), (24, 5.1), (40, 4.8), (80, 4.6), (154, 4.6), (300, 4.7))
# Nats per token: smaller deviations are left alone, however little noise a run has.
_SMALLEST = 0.02


def loss_findings(run: str, curve: Iterable[tuple[int, float]]) -> Iterator[Finding]:
    """Findings for the steps of `run` whose loss is out of line. A run of fewer than `FEWEST` steps has none."""
    points = sorted(curve)
    if len(points) < FEWEST:
        return
    steps = np.array([step for step, _ in points])
    losses = np.array([loss for _, loss in points])
    before, after = medians(losses)
    far = excess(losses)
    for i in np.flatnonzero(far > max(threshold(len(points)) * float(noise(steps, losses)), _SMALLEST)):
        around = " and ".join(
            f"{median:.3g} {where}"
            for median, where in ((before[i], "before"), (after[i], "after"))
            if np.isfinite(median)
        )
        said = f"step {steps[i]}: the loss is {losses[i]:.3g} nats per token, but {around} it (medians of three steps)"
        yield Finding("odd_loss", run, (int(steps[i]),), said)


def medians(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Medians (..., n) of three losses before and of three after each of `losses` (..., n), ordered by step.

    Where fewer than three are before, the loss may have been as large as it likes, and where fewer are after, as small:
    one wrong step among so few would throw doubt on the others.
    """
    before, after = np.full(losses.shape, np.inf), np.full(losses.shape, -np.inf)
    windows = np.median(np.lib.stride_tricks.sliding_window_view(losses, _NEIGHBOURS, axis=-1), axis=-1)
    before[..., _NEIGHBOURS:] = windows[..., :-1]
    after[..., :-_NEIGHBOURS] = windows[..., 1:]
    return before, after


def excess(losses: np.ndarray) -> np.ndarray:
    """How far each loss (..., n) lies outside the range of its two medians; 0 inside it."""
    before, after = medians(losses)
    beyond = np.maximum(losses - np.maximum(before, after), np.minimum(before, after) - losses)
    return np.asarray(np.maximum(0, beyond))


def noise(steps: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Standard deviation (...) of losses (..., n) about a curve that is straight from one neighbour to the next."""
    x = np.log10(steps + 1.0)
    share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    distance = losses[..., 1:-1] - (1 - share) * losses[..., :-2] - share * losses[..., 2:]
    # The variance of the distance is the noise's, once for the step and in parts for its two neighbours.
    scaled = np.abs(distance) / np.sqrt(1 + share**2 + (1 - share) ** 2)
    return np.asarray(1.4826 * np.median(scaled, axis=-1))  # the median of |z| is 1 / 1.4826


def threshold(n: int) -> float:
    """The threshold for a run of `n` steps, in units of its noise."""
    counts, values = zip(*_THRESHOLDS, strict=True)
    return float(np.interp(np.log(n), np.log(counts), values))

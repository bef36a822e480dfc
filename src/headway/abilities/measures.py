"""Abilities from next-token predictions, each with its standard error.

Units are texts, sequences or items: tokens of one text depend on one another and do not count as observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headway.errors import CorpusError
from headway.known_abilities import ABILITIES, Ability, in_context, loss_between

# Positions of the in-context score, counted from 1: Olsson et al. (2022), "In-context Learning and Induction Heads".
EARLY, LATE = 50, 500


class Measured(NamedTuple):
    """An ability of a checkpoint; `std_error` is NaN if there is only one unit."""

    ability: Ability
    value: float
    std_error: float
    n_samples: int


class Estimate(NamedTuple):
    value: float
    std_error: float
    n: int


def ratio(sums: NDArray[np.floating], counts: NDArray[np.integer]) -> Estimate:
    """The mean over all tokens of units that hold `counts` tokens, with sum `sums` each.

    The standard error is that of a ratio of means: sqrt(k / (k - 1) · sum of (sum_i - value · count_i)²) / total count.
    With equal counts it is the standard deviation of the units' means over sqrt(k). Units without tokens do not count.
    """
    there = counts > 0
    sums, counts = sums[there].astype(np.float64), counts[there]
    k, total = len(sums), int(counts.sum())
    value = float(sums.sum() / total)
    spread = float(np.sqrt(k / (k - 1) * ((sums - value * counts) ** 2).sum()) / total) if k > 1 else nan
    return Estimate(value, spread, k)


def mean(values: NDArray[np.generic]) -> Estimate:
    """The mean of one number for each unit, and its standard error."""
    return ratio(np.asarray(values, dtype=np.float64), np.ones(len(values), dtype=np.int64))


def corpus_loss(loss: Sequence[NDArray[np.floating]], text: NDArray[np.integer]) -> list[Measured]:
    """The mean loss over all predicted tokens.

    Args:
        loss: (T - 1,) of each sequence, as in `Predictions`.
        text: the text of each sequence; windows of a text belong together.
    """
    return [Measured(ABILITIES["loss"], *ratio(*_totals(loss, text)))]


def loss_by_position(loss: Sequence[NDArray[np.floating]], text: NDArray[np.integer]) -> list[Measured]:
    """The mean loss at the tokens 2-3, 4-7, 8-15 and so on, as far as sequences reach; arguments as in `corpus_loss`."""
    longest = max(map(len, loss)) + 1
    found = []
    first = 2
    while first <= longest:
        last = 2 * first - 1
        # Token n, counted from 1, is predicted by the loss n - 2.
        found.append(
            Measured(loss_between(first, last), *ratio(*_totals([one[first - 2 : last - 1] for one in loss], text)))
        )
        first *= 2
    return found


def in_context_positions(lengths: Sequence[int]) -> tuple[int, int]:
    """The early and the late token of the in-context score, counted from 1: 50 and 500, as published.

    If fewer than half of the sequences have 500 tokens, the late token is the last one that half of them have, and the
    early one is a tenth of that, at least 2: token 1 has no loss.

    Raises:
        CorpusError: half of the sequences have fewer than 3 tokens.
    """
    half = sorted(lengths, reverse=True)[(len(lengths) - 1) // 2]
    if half >= LATE:
        return EARLY, LATE
    if half < 3:
        raise CorpusError(
            f"the in-context score compares two tokens of a text, and half of the texts have at most {half} tokens: give "
            "longer texts, or leave icl out of --abilities"
        )
    return max(2, half // 10), half


def in_context_score(loss: Sequence[NDArray[np.floating]], text: NDArray[np.integer]) -> list[Measured]:
    """The mean over texts of the loss at a late token minus that at an early one; arguments as in `corpus_loss`.

    Sequences that do not reach the late token do not count. Windows of a text are averaged first.
    """
    early, late = in_context_positions([len(one) + 1 for one in loss])
    reach = [number for number, one in enumerate(loss) if len(one) + 1 >= late]
    gains = [np.asarray([loss[number][late - 2] - loss[number][early - 2]], np.float64) for number in reach]
    sums, counts = _totals(gains, text[reach])
    return [Measured(in_context(early, late), *mean(sums / counts))]


def repetition(right: Sequence[NDArray[np.bool_]], rank: Sequence[NDArray[np.integer]]) -> list[Measured]:
    """Accuracy and mean rank on repeated tokens, by both conventions.

    Args:
        right, rank: (2L,) of each sequence of L tokens repeated once, as `Predictions` with `around`. Prediction i is of
            token i + 1, both counted from 0.
    """
    found = []
    for stem, numbers in (("accuracy", right), ("rank", rank)):
        length = len(numbers[0]) // 2
        # The second copy's first token cannot be known, and the token after its last one does not exist.
        second = np.array([one[length:-1].mean() for one in numbers])
        found.append(Measured(ABILITIES[f"repeat_{stem}"], *mean(second)))
        published = np.array([one[length:].mean() for one in numbers])
        found.append(Measured(ABILITIES[f"published_repeat_{stem}"], *mean(published)))
    return found


def _totals(
    values: Sequence[NDArray[np.floating]], text: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum and number of the values of each text, in float64."""
    _, number = np.unique(text, return_inverse=True)
    sums = np.bincount(number, [one.sum(dtype=np.float64) for one in values]).astype(np.float64)
    counts = np.bincount(number, [len(one) for one in values]).astype(np.int64)
    return sums, counts

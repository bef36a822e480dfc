"""Tests against random draws that stop once p cannot be small (Besag & Clifford 1991, Biometrika 78, 301-304)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDING = 1e-12  # draws that equal the observed value up to rounding count as reaching it
_ENOUGH = 20  # draws that reach the observed value, after which p cannot be small


class Sequential(NamedTuple):
    """p-value by null, and the number of draws of each."""

    p: dict[str, float]
    n_draws: int


def sequential_p(observed: float, draw: Callable[[int], dict[str, Floats]], fewest: int, most: int) -> Sequential:
    """p-value of each null from `fewest` to `most` draws. Sampling stops once 20 draws of any null reach `observed`.

    If draw l is the 20th to do so, p = 20 / l. If only e of all N draws do, p = (e + 1) / (N + 1). If the null is true,
    P(p <= α) is at most α in both cases.
    """
    return sequential_ps([observed], lambda _, n: [draw(n)], fewest, most)[0]


def sequential_ps(
    observed: Sequence[float],
    draw: Callable[[Sequence[int], int], Sequence[Mapping[str, Floats]]],
    fewest: int,
    most: int,
) -> list[Sequential]:
    """`sequential_p` of several tests side by side. `draw` gives n draws for each of the tests that it is asked for."""
    reached: list[dict[str, NDArray[np.bool_]]] = [{} for _ in observed]
    n_draws = [0] * len(observed)
    going, n = list(range(len(observed))), 0
    while going and n < most:
        batch = min(n or fewest, most - n)
        for test, drawn in zip(going, draw(going, batch), strict=True):
            for null, values in drawn.items():
                hits = values >= observed[test] - ROUNDING
                reached[test][null] = np.concatenate([reached[test][null], hits]) if n else hits
            n_draws[test] = n + batch
        n += batch
        going = [test for test in going if all(hits.sum() < _ENOUGH for hits in reached[test].values())]
    return [
        Sequential({null: _p(hits) for null, hits in of.items()}, n) for of, n in zip(reached, n_draws, strict=True)
    ]


def _p(hits: NDArray[np.bool_]) -> float:
    at = np.flatnonzero(hits)
    if len(at) >= _ENOUGH:
        return _ENOUGH / (int(at[_ENOUGH - 1]) + 1)
    return (len(at) + 1) / (len(hits) + 1)

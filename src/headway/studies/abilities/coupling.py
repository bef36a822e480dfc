"""Whether roles and abilities change together within runs, and whether an earlier role means an earlier ability across runs.

Two curves that rise correlate anyway. So changes between checkpoints are compared, not values, and what a run shares with the other
runs of its size is what chance gives: each run's role is set beside the ability of another run of the same size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headway.studies.roles.onsets import earlier

Array = NDArray[np.float64]
_FEWEST_CHANGES = 3
_FEWEST_RUNS = 2


def changes(wide: pl.DataFrame) -> Array:
    """(runs, steps - 1) changes between neighbouring steps, of a frame with a column per run and a row per step."""
    return np.diff(wide.to_numpy().astype(float), axis=0).T


def correlations(one: Array, other: Array) -> Array:
    """(n, m) Pearson's r of every row of `one` (n, t) with every row of `other` (m, t), over the places where both are finite.

    NaN with fewer than three such places, or where one of the two does not vary over them.
    """
    found = np.full((len(one), len(other)), np.nan)
    for i, x in enumerate(one):
        for j, y in enumerate(other):
            both = np.isfinite(x) & np.isfinite(y)
            if both.sum() >= _FEWEST_CHANGES and np.ptp(x[both]) > 0 and np.ptp(y[both]) > 0:
                found[i, j] = np.corrcoef(x[both], y[both])[0, 1]
    return found


def coupling(
    role: pl.DataFrame, ability: pl.DataFrame, shuffles: int, rng: np.random.Generator
) -> dict[str, Any] | None:
    """The mean correlation of changes of a role and an ability within runs, against runs of the same size exchanged.

    Args:
        role, ability: run, size, step, value.
        shuffles: exchanges for p; 0 leaves it out.

    Returns:
        n_runs, r, chance (mean of the exchanges) with its 95% range, and p, two-sided, the observed pairing included. None
        where no size has two runs with both.
    """
    blocks = []
    for (size,), of in role.group_by("size", maintain_order=True):
        own = ability.filter(pl.col("size") == size)
        runs = [run for run in of["run"].unique(maintain_order=True) if run in set(own["run"])]
        steps = sorted(set(of["step"]) & set(own["step"]))
        if len(runs) < _FEWEST_RUNS or len(steps) <= _FEWEST_CHANGES:
            continue
        matrix = correlations(*(changes(_wide(part, runs, steps)) for part in (of, own)))
        there = np.isfinite(np.diag(matrix))
        if there.sum() >= _FEWEST_RUNS:
            blocks.append(matrix[np.ix_(there, there)])
    if not blocks:
        return None

    def correlation(matrix: Array, orders: NDArray[np.intp]) -> Array:
        return np.asarray(np.nansum(matrix[np.arange(len(matrix)), orders], axis=1))

    return _exchanged(blocks, correlation, shuffles, rng)


def _wide(frame: pl.DataFrame, runs: list[str], steps: list[int]) -> pl.DataFrame:
    chosen = frame.filter(pl.col("run").is_in(runs), pl.col("step").is_in(steps))
    wide = chosen.pivot("run", index="step", values="value").sort("step")
    return wide.select(runs)


def timing(role: pl.DataFrame, ability: pl.DataFrame, shuffles: int, rng: np.random.Generator) -> dict[str, Any] | None:
    """Kendall's tau-b of the onsets of a role and of an ability over the runs of each size, against runs exchanged.

    Onsets are intervals (`lower`, `upper`): a pair of runs whose intervals overlap is a tie. None where no size has
    two runs whose roles, and two whose abilities, can be put in order.
    """
    blocks: list[Array] = []
    n_runs = 0
    for (size,), of in role.group_by("size", maintain_order=True):
        own = {row["run"]: row for row in ability.filter(pl.col("size") == size).to_dicts()}
        pairs = [(row, own[row["run"]]) for row in of.to_dicts() if row["run"] in own]
        signs = [_order([pair[side] for pair in pairs]) for side in (0, 1)]
        if len(pairs) >= _FEWEST_RUNS and all(sign.any() for sign in signs):
            blocks.append(np.stack(signs))
            n_runs += len(pairs)
    if not blocks:
        return None
    scale = np.sqrt(np.prod([sum((block[side] ** 2).sum() for block in blocks) for side in (0, 1)]))

    def concordance(block: Array, orders: NDArray[np.intp]) -> Array:
        exchanged = block[1][orders[:, :, None], orders[:, None]]
        return np.asarray((block[0] * exchanged).sum((1, 2)) * n_runs / scale)

    found = _exchanged([*blocks], concordance, shuffles, rng, n_runs)
    return {("tau" if name == "r" else name): value for name, value in found.items()}


def _order(rows: list[dict[str, Any]]) -> Array:
    """(n, n): 1 where the row's onset is earlier than the column's, -1 where later, 0 where it cannot be told."""
    sign = {"first": 1.0, "second": -1.0}
    return np.array([[sign.get(earlier(one, other), 0.0) for other in rows] for one in rows])


def _exchanged(
    blocks: list[Array],
    statistic: Callable[[Array, NDArray[np.intp]], Array],
    shuffles: int,
    rng: np.random.Generator,
    n_runs: int = 0,
) -> dict[str, Any]:
    """The sum of `statistic` over blocks / runs, as paired and with runs exchanged within blocks.

    `statistic` takes a block and orders of its runs (draws, runs), and gives a number for each order.
    """
    sizes = [block.shape[-1] for block in blocks]
    n_runs = n_runs or sum(sizes)
    # The given order comes first. Each exchange draws an order of every block.
    exchanges = [[np.arange(n) for n in sizes], *([rng.permutation(n) for n in sizes] for _ in range(shuffles))]
    values = np.sum(
        [
            statistic(block, np.array(orders))
            for block, orders in zip(blocks, zip(*exchanges, strict=True), strict=True)
        ],
        axis=0,
    )
    observed, drawn = float(values[0] / n_runs), values[1:] / n_runs
    row: dict[str, Any] = {"n_runs": n_runs, "r": observed}
    if shuffles:
        low, high = np.quantile(drawn, [0.025, 0.975])
        tails = [(drawn >= observed - 1e-12).sum(), (drawn <= observed + 1e-12).sum()]  # equal up to rounding counts
        p = min(1.0, 2 * (1 + min(tails)) / (1 + shuffles))
        row |= {"chance": float(drawn.mean()), "chance_lower": float(low), "chance_upper": float(high), "p": float(p)}
    return row

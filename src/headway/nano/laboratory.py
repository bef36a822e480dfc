"""A laboratory: a recipe whose runs differ in one or several factors, with seeds and sizes of choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import product
from typing import NamedTuple

from headway.devices import cores
from headway.errors import SelectionError, UsageError
from headway.nano.factors import FACTORS, parse_vary
from headway.nano.recipe import Recipe, Size
from headway.text import count


class PlannedRun(NamedTuple):
    """One run of a recipe.

    Attributes:
        size, seed: its shape, and the seed of its initialisation and data.
        recipe: its own recipe, without other sizes, seeds and levels.
        axes: its level of each factor that the recipe varies.
    """

    size: Size
    seed: int
    recipe: Recipe
    axes: dict[str, str]


def planned_runs(recipe: Recipe) -> dict[str, PlannedRun]:
    """Each run by its name, such as nano-50k-seed1 or nano-50k-repeated0.5-seed1; the costliest first.

    Raises:
        UsageError: levels of the factors do not go together.
    """
    planned = [
        PlannedRun(size, seed, replace(cell, sizes=(size,), seeds=(seed,)), axes)
        for axes, cell in cells(recipe)
        for size in cell.sizes
        for seed in cell.seeds
    ]
    planned.sort(key=lambda run: -run.size.n_params(run.recipe.vocab_size))
    return {_name(run): run for run in planned}


def cells(recipe: Recipe) -> list[tuple[dict[str, str], Recipe]]:
    """Each combination of the factors' levels, and the recipe that it gives.

    Raises:
        UsageError: levels of the factors do not go together.
    """
    names = [name for name, _ in recipe.vary]
    found = []
    for levels in product(*(levels for _, levels in recipe.vary)):
        axes = dict(zip(names, levels, strict=True))
        cell = replace(recipe, vary=())
        for name, level in axes.items():
            cell = FACTORS[name].apply(cell, level)
        cell.require_possible()
        found.append((axes, cell))
    return found


def _name(run: PlannedRun) -> str:
    levels = "".join(f"-{name}{level}" for name, level in run.axes.items())
    return f"nano-{run.size.name(run.recipe.vocab_size)}{levels.replace('_', '')}-seed{run.seed}"


# Multiplications and additions a second of one core, in training small runs. Measured with the preset
# `quick` on a 2.5 GHz server core in 2026: it says whether to expect minutes or hours.
_PER_SECOND = 1.6e10


def laboratory(recipe: Recipe, vary: Sequence[str] = (), seeds: int | None = None, sizes: Sequence[str] = ()) -> Recipe:
    """The recipe with these factors, seeds 1 to `seeds`, and those of its sizes that are named.

    Raises:
        UsageError: a factor or level is unknown, levels do not go together, or there would be no seed.
        SelectionError: the recipe has no size of that name.
    """
    if seeds is not None:
        if seeds < 1:
            raise UsageError(f"--seeds must be at least 1, not {seeds}")
        recipe = replace(recipe, seeds=tuple(range(1, seeds + 1)))
    if sizes:
        known = {size.name(recipe.vocab_size): size for size in recipe.sizes}
        for name in sizes:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                meant = f", did you mean {near[0]!r}?" if near else "."
                raise SelectionError(f"--sizes: the recipe has no size {name!r}{meant} It has {', '.join(known)}")
        recipe = replace(recipe, sizes=tuple(known[name] for name in dict.fromkeys(sizes)))
    if vary:
        recipe = replace(recipe, vary=parse_vary(vary))
        cells(recipe)  # raises for levels that do not go together
        _require_windows(recipe)
    return recipe


def _require_windows(recipe: Recipe) -> None:
    """Refuse windows that no run reaches: their runs would be equal to those without repeats."""
    for axes, cell in cells(recipe):
        for name in ("window", "withheld"):
            window = getattr(cell, name)
            if window is not None and window[0] >= recipe.steps[-1]:
                raise UsageError(
                    f"--vary {name}: {axes[name]} begins when training ends, at step {recipe.steps[-1]}. Give an earlier window"
                )


def announced(recipe: Recipe, runs: Sequence[str], workers: int) -> str:
    """How many runs will be trained, and about how long that takes."""
    planned = planned_runs(recipe)
    seconds = sum(cost(planned[run]) for run in runs) / min(workers, len(runs), cores())
    minutes = max(1, math.ceil(seconds / 60))
    duration = f"{count(minutes, 'minute')}" if minutes < 90 else f"{minutes / 60:.1f} hours"
    grid = " x ".join(
        [*(f"{len(levels)} levels of {name}" for name, levels in recipe.vary), count(len(recipe.sizes), "size"), count(len(recipe.seeds), "seed")]
    )  # fmt: skip
    done = len(planned) - len(runs)
    kept = f", {done} of them there already" if done else ""
    return f"{count(len(planned), 'run')} ({grid}){kept}. Training takes about {duration} with {count(workers, 'process', 'processes')}"


def cost(run: PlannedRun) -> float:
    """About how many seconds of one core a run takes: 6 operations for each parameter and token (Kaplan et al. 2020)."""
    recipe = run.recipe
    steps = recipe.steps[-1] - recipe.first_step
    read = recipe.vocab_size * run.size.hidden_size  # parameters that are only looked up
    return (
        6
        * (run.size.n_params(recipe.vocab_size) - read)
        * steps
        * recipe.batch_size
        * recipe.context_length
        / _PER_SECOND
    )

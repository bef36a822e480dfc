"""Abilities of runs, with or without a tie to a role of the same run."""

from __future__ import annotations

import numpy as np
import polars as pl

STEPS = (0, 1, 10, 30, 100, 300, 1000, 3000)


def made(
    n_runs: int, tied: bool, seed: int, sizes: tuple[str, ...] = ("1m", "5m")
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The heads table and the abilities of runs in which one head rises.

    Each run's rise has a middle and bumps of its own, around what its size shares. If `tied`, the ability repeats them; else
    it has its own. Both rise in every run, so that they correlate in any case.
    """
    rng = np.random.default_rng(seed)
    heads, abilities = [], []
    at = np.log10(np.array(STEPS) + 1)
    for size in sizes:
        for run in range(n_runs):
            own = [(1.5 + rng.normal(0, 0.35), rng.normal(0, 0.03, len(STEPS)) * (at > 0.5)) for _ in range(2)]
            role, free = (1 / (1 + np.exp(-4 * (at - middle))) + bumps for middle, bumps in own)
            name = f"toy-{size}-seed{run}"
            ability = role + rng.normal(0, 0.005, len(STEPS)) if tied else free
            place = {"run": name, "size": size, "seed": str(run)}
            for step, score, value in zip(STEPS, role, ability, strict=True):
                abilities.append(place | {"step": step, "ability": "repeat", "value": float(value)})
                for head in range(4):
                    quiet = float(0.05 + rng.normal(0, 0.002))
                    prev = 0.1 + 0.8 * float(np.clip(score, 0, 1)) if head == 1 else quiet
                    row = {"step": step, "layer": 0, "head": head, "prev": prev, "first": quiet, "suite": "made"}
                    heads.append(place | row | {"model": f"toy-{size}", "n_params": 10**6, "n_layers": 1, "n_heads": 4})
    frame = pl.DataFrame(abilities).with_columns(
        std_error=pl.lit(None, pl.Float64), higher_is_better=pl.lit(True), step=pl.col("step").cast(pl.Int64)
    )
    return pl.DataFrame(heads), frame

"""Heads tables with planted roles."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl

from headway.tables import HEADS_COLUMNS, schema, with_stack, with_tokens

STEPS = (0, 1, 10, 100, 200, 400, 1000)
LAYERS, HEADS = 4, 6


def table(onset, runs=8, sizes=("1m",), steps=STEPS, scores=("prev", "induction"), seed=0, spread=0.01):
    """Heads at 0.1 ± `spread`, and head (1, 2) of each score's own layer at 0.8 from `onset(size, run, score)` on."""
    rng = np.random.default_rng(seed)
    parts = []
    for size, run, step in product(sizes, range(runs), steps):
        layer, head = (axis.ravel() for axis in np.indices((LAYERS, HEADS)))
        part = {"layer": layer, "head": head}
        for place, score in enumerate(scores):
            value = 0.1 + rng.normal(0, spread, LAYERS * HEADS)
            at = onset(size, run, score)
            if at is not None and step >= at:
                value[(layer == 1 + place) & (head == 2)] = 0.8
            part[score] = value
        parts.append(
            pl.DataFrame(part).with_columns(
                suite=pl.lit("planted"), run=pl.lit(f"toy-{size}-seed{run}"), model=pl.lit(f"toy-{size}"), size=pl.lit(size),
                seed=pl.lit(str(run)), step=step, n_params=10**6, n_layers=LAYERS, n_heads=HEADS,
            )
        )  # fmt: skip
    types = schema(HEADS_COLUMNS)
    return with_stack(with_tokens(pl.concat(parts))).select(
        *(pl.col(name).cast(dtype) for name, dtype in types.items()), *scores
    )


def in_order(size, run, score):
    """Previous-token heads at 100 in even runs and 200 in odd ones, induction at 400; run 7 has both at 400."""
    if run == 7:
        return 400
    return 400 if score == "induction" else 100 + 100 * (run % 2)

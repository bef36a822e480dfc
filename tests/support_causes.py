"""A made-up laboratory, for the tests of the study of causes and of its chapter."""

import numpy as np
import polars as pl

from headway import sweep
from headway.tables import DATA_COLUMNS, HEADS_COLUMNS, MODEL_COLUMNS, schema

STEPS = (0, 1, 8, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 448)


def laboratory(rng, effect=0.0, *, factor="repeated", levels=("0.1", "0.5", "0.9"), seeds=6, other=None, never=()):
    """A heads table: one head of each run rises at its onset, by `effect` (log) later from level to level."""
    rows = []
    for number, level in enumerate(levels):
        for second in other or ("",):
            for seed in range(1, seeds + 1):
                onset = np.exp(rng.normal(5.0, 0.15) + effect * number)
                peak, run = rng.normal(0.8 + effect / 10 * number, 0.03), f"toy-{level}{second}-seed{seed}"
                for step in STEPS:
                    risen = 0.0 if level in never else 1 / (1 + (onset / (step + 1)) ** 8)
                    rows += [
                            {
                                "suite": "made", "run": run, "model": f"toy-{level}{second}", "size": "1k", "seed": str(seed),
                                "step": step, "n_params": 1000, "n_layers": 1, "n_heads": 2, "stack": "decoder", "layer": 0, "head": head,
                                "prev_self_ratio": rng.normal(0.05, 0.005) + (peak * risen if head == 0 else 0),
                                "repeat_accuracy": 0.9 * risen + rng.normal(0.02, 0.002), f"axis_{factor}": level,
                                **({"axis_second": second} if other else {}),
                            }
                            for head in range(2)
                        ]  # fmt: skip
    types = schema((*HEADS_COLUMNS, MODEL_COLUMNS[1]), [factor, *(["second"] if other else [])])
    return pl.DataFrame(rows, schema={**types, "prev_self_ratio": pl.Float64})


def store_data(rundir, heads):
    """The table `data` of a laboratory whose runs read `repeated` of repeats, and of whose entropy seeds decide."""
    frame = heads.select(*schema(DATA_COLUMNS[:6]), "axis_repeated").unique(maintain_order=True)
    share = pl.col("axis_repeated").cast(pl.Float64)
    numbers = {"sequences": 32.0, "tokens": 2048.0, "repeats": share, "repeated_ngrams": share / 2, "novel_ngrams": 1.0}
    frame = frame.filter(pl.col("step") < STEPS[-1]).with_columns(
        **{name: value if isinstance(value, pl.Expr) else pl.lit(value) for name, value in numbers.items()},
        entropy=pl.col("seed").cast(pl.Float64),
    )
    sweep.store(frame.select(*schema(DATA_COLUMNS, ["repeated"])), "data", rundir, identity={"suite": "made"})

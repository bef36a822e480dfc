"""Correlations of the runs' trajectories, against numpy's of each pair by itself."""

import numpy as np
import polars as pl
import pytest

from headway.studies.development.consistency import correlations
from headway.studies.development.heads import read_heads
from support_studies import heads_table

STEPS = (0, 10, 100, 1000, 5000, 9000)


def test_each_pair_correlates_over_the_steps_that_both_have():
    def value(size, seed, step, layer, head):
        return 1 + np.random.default_rng([int(size[:-1]), seed, step]).normal(size=len(layer)) ** 2

    table = heads_table(value, seeds=(1, 2, 3), steps=STEPS)
    run = sorted(table["run"].unique())
    gaps = [(run[0], (10,)), (run[1], (0, 1000)), (run[2], (0, 10, 100))]  # the last two share two steps
    for name, absent in gaps:
        table = table.filter((pl.col("run") != name) | ~pl.col("step").is_in(absent))
    constant = pl.when(pl.col("run") == run[3]).then(1.0).otherwise("prev_self_ratio")
    changed = pl.when(pl.col("layer") == 0).then(constant + pl.col("step") * 1e-9).otherwise(constant)
    table = table.with_columns(prev_self_ratio=pl.when(pl.col("run") == run[3]).then(constant).otherwise(changed))
    heads = read_heads(table, "prev_self_ratio")
    values = {name: dict(of.select("step", "value").rows()) for (name,), of in heads.trajectories.group_by("run")}
    found = correlations(heads)
    unknown = 0
    for one, other, cor, n in found.select("run1", "run2", "cor", "n_steps").iter_rows():
        shared = sorted(set(values[one]) & set(values[other]))
        assert n == len(shared)
        x, y = (np.array([values[name][step] for step in shared]) for name in (one, other))
        if n < 3 or run[3] in (one, other):
            assert cor is None
            unknown += 1
        else:
            # both add up at most six numbers of about 1, in another order
            assert cor == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-14)
    # the constant run's pairs, in both orders and with itself; and the two runs that share two steps, in both orders
    assert unknown == 2 * len(run) - 1 + 2

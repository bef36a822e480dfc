"""Did it jump or did it grow? Planted jumps, lines, curves and nothing."""

from collections import Counter

import numpy as np
import pytest

from headway import stats
from headway.errors import StatisticsError

STEPS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]
LOG = np.log10(np.array(STEPS) + 1)


def verdicts(curve, n, units=6, noise=0.05):
    random = np.random.default_rng(0)
    size = (units, len(STEPS)) if units > 1 else len(STEPS)
    found = (stats.change_points(STEPS, curve + noise * random.normal(size=size), n_boot=199, seed=i) for i in range(n))
    return Counter(one.verdict for one in found)


def test_false_changes_are_found_at_the_nominal_rate():
    found = verdicts(np.zeros(len(STEPS)), 300, units=1, noise=1.0)
    # 5 % of 300 are 15; three binomial standard errors more are 26.
    assert 300 - found["none"] <= 26


def test_a_planted_jump_is_never_called_gradual():
    found = verdicts((LOG > 1.2) * 1.0, 20)
    assert found["abrupt"] >= 16
    assert not {"gradual", "none"} & set(found)


@pytest.mark.parametrize("curve", [LOG, 1 / (1 + np.exp(-(LOG - 1.5) / 0.35))], ids=["line", "sigmoid"])
def test_planted_growth_is_never_called_abrupt(curve):
    found = verdicts(curve, 20)
    assert found["gradual"] >= 16
    assert not {"abrupt", "none"} & set(found)


def test_an_interval_is_of_whole_grid_intervals_at_the_last_step_too():
    """The published silhouettes of study 1's keys, which rise into the last two steps: steepest at the very end."""
    steps = [1000, 5000, 10000, 20000, 40000, 80000, 120000, 143000]
    found = stats.change_points(steps, [0.062, 0.090, 0.075, 0.070, 0.073, 0.084, 0.277, 0.467], n_boot=199)
    for before, after, lower, upper in found.places.iter_rows():
        assert {lower, upper} <= set(steps)
        assert lower <= before < after <= upper


@pytest.mark.parametrize("level", [3.0, 0.1, 3e-8, 1e100 / 3, 0.0])
def test_a_constant_has_no_change_even_where_its_mean_is_rounded(level):
    for values in (np.full(12, level), np.full((7, 12), level)):
        found = stats.change_points(STEPS, values, n_boot=99)
        assert (found.verdict, found.p_change) == ("none", 1.0)


def test_too_few_steps_are_refused():
    with pytest.raises(StatisticsError):
        stats.change_points([0, 1, 2], [0.0, 1.0, 2.0])

"""Did it jump or did it grow? Planted jumps, lines, curves and nothing."""

from collections import Counter

import numpy as np
import pytest

from headway import stats
from headway.errors import StatisticsError
from headway.stats.change_noise import memory, noise

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


def test_errors_that_remember_are_seldom_taken_for_a_change():
    found = Counter(change_in_noise(0.5, i) for i in range(150))
    # 10 % of 150 are 15; measured are 4 %. Independent errors taken for granted, 32 % were.
    assert 150 - found["none"] <= 15


@pytest.mark.parametrize("rho", [0.8, 1.0])
def test_a_drift_is_called_neither_abrupt_nor_gradual(rho):
    found = Counter(change_in_noise(rho, i) for i in range(100))
    # at 5 %, more than 10 of 100 have a chance of 1 %; 20 to 30 % were called one or the other
    assert found["abrupt"] + found["gradual"] <= 10


def change_in_noise(rho, seed):
    values = noise(np.random.default_rng(seed), 1, len(STEPS), rho)[0]
    return stats.change_points(STEPS, values, n_boot=199, seed=seed).verdict


def test_noise_remembers_as_it_is_told():
    series = noise(np.random.default_rng(0), 20_000, 12, 0.5)
    # standard errors of both are below 0.003
    assert np.mean(series[:, 1:] * series[:, :-1]) == pytest.approx(0.5, abs=0.01)
    assert series.std(axis=0) == pytest.approx(np.ones(12), abs=0.02)
    assert np.diff(noise(np.random.default_rng(0), 20_000, 12, 1.0)).std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_the_memory_of_several_units_is_read_from_their_deviations(rho):
    found = [memory(noise(np.random.default_rng([i, 3]), 8, 16, rho) + 3 * np.arange(16)) for i in range(60)]
    largest = np.array([high for _, high in found])
    assert np.mean(largest >= rho) >= 0.85  # an upper 95 % limit, rounded up; three binomial errors below
    assert np.mean(largest) <= rho + 0.35
    assert all(low == min(0.5, high) for low, high in found)
    assert memory(noise(np.random.default_rng(0), 3, 16, 0.0)) == (0.5, 1.0)  # too few units


def staggered(curve, seed):
    """Six units, whose curves rise around places of their own."""
    random = np.random.default_rng(seed)
    places = random.uniform(LOG[3], LOG[9], size=(6, 1))
    return curve(LOG - places) + 0.05 * random.normal(size=(6, len(STEPS)))


def test_staggered_jumps_are_not_averaged_into_growth():
    found = [stats.change_points(STEPS, staggered(lambda x: (x > 0) * 1.0, i), n_boot=99, seed=i) for i in range(12)]
    verdicts = Counter(one.verdict for one in found)
    assert verdicts["abrupt"] >= 9  # their mean was called gradual in half of the sets
    assert verdicts["gradual"] == 0
    assert all(one.staggered and one.places.height == 1 for one in found)
    assert "at a step of its own" in found[0].words


def test_staggered_growth_is_not_called_abrupt():
    curves = (staggered(lambda x: 1 / (1 + np.exp(-x / 0.35)), i) for i in range(12))
    verdicts = Counter(stats.change_points(STEPS, curve, n_boot=99, seed=i).verdict for i, curve in enumerate(curves))
    assert verdicts["abrupt"] == 0
    assert verdicts["none"] == 0


def test_what_drift_could_explain_is_said_not_to_be_told():
    """A jump of four standard deviations in one series of twelve steps."""
    random = np.random.default_rng(0)
    found = (
        stats.change_points(STEPS, (LOG > 1.2) + 0.25 * random.normal(size=len(STEPS)), n_boot=99) for _ in range(30)
    )
    told = [one for one in found if one.verdict != "none" and one.p_drift > 0.05]
    assert told
    for one in told:
        assert one.verdict == "undecided"
        assert "whether there is a change cannot be told" in one.words


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
    """The silhouettes of the keys in the published clustering study, which rise into the last two steps: steepest at the very end."""
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

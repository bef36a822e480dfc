"""Interval-censored times agree with R's survival, and with closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.studies.development.censored import normal_regression, resampled_weights, shares_until

# R 4.2, survival: d <- data.frame(l=LOWER, u=UPPER, x=X) with NA for an open end;
# survreg(Surv(l, u, type="interval2") ~ x, d, dist="gaussian"); survfit(Surv(l, u, type="interval2") ~ 1, d)
LOWER = np.array([1, 2, -np.inf, 1.5, 0.5, 2, 1, 3])
UPPER = np.array([2, 3, 1.5, np.inf, 1.5, 2.5, 4, 3.5])
X = np.stack([np.ones(8), [1, 1, 1, 1, 2, 2, 2, 2]], axis=1)
ONE = np.ones((1, 8))


def test_regression_agrees_with_survreg():
    beta, sigma = normal_regression(X, LOWER, UPPER, ONE)
    # survreg stops at a relative change of 1e-9 of the likelihood, good to about 1e-5 in the coefficients
    assert beta[0] == pytest.approx([1.3479587723, 0.4404294937], abs=2e-5)
    assert sigma[0] == pytest.approx(0.7444435497, abs=2e-5)


def test_narrow_intervals_give_least_squares():
    rng = np.random.default_rng(0)
    x = np.stack([np.ones(60), rng.normal(size=60)], axis=1)
    y = x @ [2.0, -1.0] + rng.normal(0, 0.5, 60)
    beta, sigma = normal_regression(x, y - 1e-4, y + 1e-4, np.ones((1, 60)))
    expected, rss, *_ = np.linalg.lstsq(x, y, rcond=None)
    # an interval of half width h adds h²/3 of variance: 1e-8 here
    assert beta[0] == pytest.approx(expected, abs=1e-6)
    assert sigma[0] == pytest.approx(np.sqrt(rss[0] / 60), abs=1e-6)


def test_weights_are_repetitions():
    weights = np.array([2, 1, 1, 3, 1, 1, 2, 1])
    rows = np.repeat(np.arange(8), weights)
    once = normal_regression(X, LOWER, UPPER, weights[None].astype(float))
    repeated = normal_regression(X[rows], LOWER[rows], UPPER[rows], np.ones((1, len(rows))))
    assert once[0] == pytest.approx(repeated[0], abs=1e-6)  # Newton stops at 1e-9 of the likelihood
    assert once[1] == pytest.approx(repeated[1], abs=1e-6)


def test_a_line_through_all_intervals_has_no_likelihood_slope():
    lower, upper = np.repeat([1.0, 3.0], 4), np.repeat([2.0, 5.0], 4)
    assert np.isnan(normal_regression(X, lower, upper, ONE)[0]).all()
    lower[0], upper[0] = 2.5, 3.0  # now no line does
    assert np.isfinite(normal_regression(X, lower, upper, ONE)[0]).all()


def test_shares_agree_with_turnbull():
    places = np.array([1, 1.5, 2, 2.5, 3, 3.5])
    shares = shares_until(places, LOWER, UPPER, ONE)[0]
    # survfit puts the mass of a cell at its middle; its own EM stops 5e-5 short of the limit
    assert shares == pytest.approx([0, 0.4285358, 0.4285859, 0.8095284, 0.8095284, 1], abs=1e-4)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_cells_of_one_grid_are_counted(cells):
    upper = np.array(cells, dtype=float)
    places = np.arange(6.0)
    shares = shares_until(places, upper - 1, upper, np.ones((1, len(cells))))[0]
    counted = [(upper <= place).mean() for place in places]
    assert shares == pytest.approx(counted, abs=1e-9)  # disjoint cells: one step of the EM is exact


def test_resampled_weights_draw_whole_clusters():
    labels = np.array(["a", "b", "a", "c", "b", "a"])
    weights = resampled_weights(labels, 500, np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()

"""GCV of few rows has several minima: the search ends at the lowest, whichever way the start leads."""

import numpy as np
import pytest

from headway.stats.penalties import Penalty
from headway.stats.smoothing import Problem, gcv, gcv_scores, minimise_gcv
from headway.stats.smooths import ThinPlate, sum_to_zero

STEPS = np.array([1, 2, 3, 5, 9, 17, 33, 65, 129, 257, 513, 1001, 10_001, 50_001, 100_001, 143_001])


def problem(seed):
    """Sixteen steps of a curve that rises late and then wobbles, as trajectories of runs do."""
    x = np.log10(STEPS)
    y = 3 / (1 + np.exp(-6 * (x - 3))) + np.random.default_rng(seed).normal(0, 0.6, len(x)) * (x > 2.5)
    basis = ThinPlate.of(x, 10)
    columns = basis.columns(x)
    zero = sum_to_zero(columns)
    penalty = zero.T @ basis.penalty @ zero
    matrix = np.column_stack([np.ones_like(x), columns @ zero])
    return Problem.of(matrix, y, (Penalty(slice(1, 10), ((penalty + penalty.T) / 2,), (8,), 8),))


def test_no_place_of_a_dense_search_lies_below_the_minimum():
    """Some of the draws have two minima. Scores are compared up to rounding."""
    two = 0
    for seed in range(40):
        one = problem(seed)
        scores = gcv_scores(one, np.arange(-25.0, 25.0, 0.25)[:, None] + one.initial())
        lower = scores[1:-1] < np.minimum(scores[:-2], scores[2:]) * (1 - 1e-9)
        two += int(lower.sum() > 1)
        assert minimise_gcv(one).score <= scores.min() * (1 + 1e-12)
    assert two > 0


def test_scores_of_many_places_are_those_of_each():
    one = problem(0)
    places = np.linspace(-8, 8, 9)[:, None]
    assert gcv_scores(one, places) == pytest.approx([gcv(one, place).score for place in places], rel=1e-12)

"""Groups told apart by distances, and the farthest of a few values."""

import numpy as np
import pytest

from headway import stats
from headway.errors import StatisticsError


def test_pseudo_f_of_distances_along_a_line_is_that_of_an_analysis_of_variance():
    from scipy.stats import f_oneway

    rng = np.random.default_rng(3)
    groups = np.repeat([0, 1, 2], [4, 6, 9])
    x = rng.normal(size=len(groups)) + groups
    found = stats.permanova(np.abs(x[:, None] - x), groups, 0, rng)
    f = f_oneway(*(x[groups == group] for group in range(3))).statistic
    assert found.f == pytest.approx(f, rel=1e-12)  # rounding
    between = f * 2 / (f * 2 + 16)
    assert found.r2 == pytest.approx(between, rel=1e-12)
    assert (found.df_between, found.df_within, found.p) == (2, 16, None)


def test_exchanging_all_labels_counts_each_split_as_often():
    """Two pairs far apart: 2 of the 6 splits into pairs are as extreme as the observed one, so p nears 1/3."""
    x = np.array([0.0, 0.1, 5.0, 5.1])
    found = stats.permanova(np.abs(x[:, None] - x), ["a", "a", "b", "b"], 20_000, np.random.default_rng(0))
    assert found.p == pytest.approx(1 / 3, abs=0.013)  # four standard errors of 20,000 draws


def test_exchanged_labels_reject_at_the_nominal_rate():
    rng = np.random.default_rng(1)
    p = []
    for _ in range(200):
        x = rng.normal(size=(12, 2))
        p.append(stats.permanova(np.linalg.norm(x[:, None] - x, axis=2), np.repeat([0, 1, 2], 4), 99, rng).p)
    assert (np.array(p) <= 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize("groups", [["a", "a", "a"], ["a", "b", "c"]])
def test_groups_that_cannot_be_compared_are_refused(groups):
    with pytest.raises(StatisticsError, match="two groups are needed"):
        stats.permanova(1 - np.eye(3), groups, 9, np.random.default_rng(0))


@pytest.mark.parametrize(("n", "g"), [(3, 1.155), (5, 1.715), (9, 2.215), (20, 2.709)])
def test_grubbs_meets_the_printed_critical_values(n, g):
    """Two-sided 5% values of Grubbs & Beck (1972), to their three digits: a sample with that G has p = 0.05."""
    values = np.sort(np.random.default_rng(n).normal(size=n - 1))

    def p_at(distance):
        return stats.grubbs(np.append(values, values.mean() + distance))

    low, high = values.std() * 1.01, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if p_at(middle)[2] > 0.05 else (low, middle)
    assert p_at(high)[1] == pytest.approx(g, abs=1e-3)


def test_grubbs_of_too_few_or_equal_values_is_not_defined():
    assert stats.grubbs([1.0, 2.0]) is None
    assert stats.grubbs([1.0, 1.0, 1.0]) is None
    place, _, p = stats.grubbs([1.0, 1.0, 1.0, 9.0])
    assert (place, p) == (3, 0.0)

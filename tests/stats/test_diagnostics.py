"""What diagnostic plots draw, beside R's qqnorm and acf (numbers printed by R 4.2 to 15 digits)."""

import numpy as np
import polars as pl
import pytest

from headway import stats
from headway.errors import StatisticsError
from headway.stats.diagnostics import AUTOCORRELATION, BY_FITTED, QUANTILES, autocorrelation, normal_quantiles

X = np.array([1, 3, 2, 5, 4, 7, 1, 0], dtype=float)


def test_quantiles_are_those_of_qqnorm_for_few_and_for_many():
    eight = [-1.434200159686379, -0.852495034274694, -0.472789120992267, -0.152505974246244]
    assert normal_quantiles(8)[0][:4] == pytest.approx(eight, rel=1e-12)
    fifteen = [-1.833914635815914, -1.281551565544601, -0.967421566101701]
    assert normal_quantiles(15)[0][:3] == pytest.approx(fifteen, rel=1e-12)


def test_the_band_holds_each_order_statistic_of_normal_samples_in_95_of_100():
    _, low, high = normal_quantiles(20)
    drawn = np.sort(np.random.default_rng(0).normal(size=(4000, 20)), axis=1)
    inside = ((drawn >= low) & (drawn <= high)).mean(axis=0)
    assert inside == pytest.approx(np.full(20, 0.95), abs=4 * np.sqrt(0.95 * 0.05 / 4000))  # four standard errors


def test_autocorrelation_is_that_of_acf_whatever_the_order_of_rows():
    expected = [0.0639067524115756, -0.1101286173633440, -0.3774115755627009]
    shuffled = np.random.default_rng(0).permutation(8)
    found, pairs = autocorrelation(X[shuffled], np.zeros(8), np.arange(8)[shuffled], 3)
    assert found == pytest.approx(expected, rel=1e-12)
    assert pairs.tolist() == [7, 6, 5]


def test_series_are_not_joined_end_to_end():
    """Two series of one pair each: only the pairs within them count."""
    found, pairs = autocorrelation(np.array([1.0, 1.0, -1.0, -1.0]), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert (found.tolist(), pairs.tolist()) == ([0.5], [2])


def test_every_kind_of_fit_has_its_panels():
    rng = np.random.default_rng(1)
    n = 90
    data = pl.DataFrame(
        {"x": rng.uniform(size=n), "g": [f"g{i % 9}" for i in range(n)], "run": np.repeat(np.arange(9), 10)}
    )
    data = data.with_columns(y=pl.Series(rng.normal(size=n)), hit=pl.Series((rng.uniform(size=n) < 0.5).astype(float)))
    fits = {
        "lmm": stats.lmm("y ~ x + (1 | g)", data),
        "ols": stats.ols("y ~ x", data),
        "gam": stats.gam("y ~ s(x, k=5)", data),
        "glmm": stats.glmm("hit ~ x + (1 | g)", data, family="binomial"),
    }
    for name, fit in fits.items():
        found = stats.diagnostics(fit, series=data["run"].to_numpy(), order=np.tile(np.arange(10), 9))
        panels = found["panel"].unique().to_list()
        assert {QUANTILES, BY_FITTED, AUTOCORRELATION} <= set(panels)
        assert any("effects: g" in panel for panel in panels) == (name in ("lmm", "glmm"))
        by_fitted = found.filter(pl.col("panel") == BY_FITTED)
        assert by_fitted["y"].std(ddof=0) == pytest.approx(1)
        assert np.sort(by_fitted["x"].to_numpy()) == pytest.approx(np.sort(fit.fitted))


def test_long_tables_are_thinned_and_short_series_refused():
    data = pl.DataFrame({"x": np.arange(1000.0), "y": np.random.default_rng(2).normal(size=1000)})
    fit = stats.ols("y ~ x", data)
    assert stats.diagnostics(fit, most=100).group_by("panel").len()["len"].to_list() == [100, 100]
    with pytest.raises(StatisticsError, match="each of the 1000 rows"):
        stats.diagnostics(fit, series=[1], order=[1])

"""Random effects, curves by groups, cyclic curves and surfaces beside mgcv: smooths.json is written by smooths.R."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from headway import stats
from headway.errors import StatisticsError

R = json.loads((Path(__file__).parent / "r" / "smooths.json").read_text())
DATA = pl.DataFrame(R["data"])


def array(value):
    return np.atleast_1d(np.asarray(value, dtype=float))


def agree_on_terms(fit, case):
    """Compare the table of smooths with R's."""
    # A smoothing parameter that goes to infinity stops at exp(18) in R (describe_gam.R), where edf is 1e-6 of a coefficient
    # short of its limit, for each coefficient that vanishes: at most 32 of them here.
    edf = array(case["edf"])
    np.testing.assert_allclose(fit.smooths["edf"], edf, rtol=3e-6, atol=3e-5)
    # The F of a term that vanished is rounding divided by rounding. Of a term that vanishes in some directions only, rounding
    # decides how many of them count as its rank in R. Their p do not move.
    there = edf > 1e-3
    ref_df, f = fit.smooths["ref_df"].to_numpy(), fit.smooths["f"].to_numpy()
    if fit.log_sp.max() < 18:
        np.testing.assert_allclose(ref_df[there], array(case["ref_df"])[there], rtol=1e-5)
    # F of a curve or surface has two values (test_gam.py): up to 1 % apart here.
    np.testing.assert_allclose((f * ref_df)[there], (array(case["f"]) * array(case["ref_df"]))[there], rtol=0.01)
    # mgcv's p comes from an integral that is good to some 1e-6, and rounds the residual df.
    np.testing.assert_allclose(fit.smooths["p"], array(case["p"]), rtol=3e-4, atol=5e-6)


@pytest.mark.parametrize("case", R["kinds"], ids=lambda case: f"{case['formula']}, {case['method']}")
def test_every_kind_of_smooth_is_mgcvs(case):
    fit = stats.gam(case["formula"], DATA, method=case["method"])
    assert fit.converged
    assert fit.smooths["term"].to_list() == case["terms"]
    agree_on_terms(fit, case)
    sd = case["scale"] ** 0.5
    np.testing.assert_allclose(fit.parametric["estimate"], array(case["estimate"]), rtol=0, atol=5e-6 * sd)
    np.testing.assert_allclose(fit.score, case["score"], rtol=1e-8)
    np.testing.assert_allclose(fit.scale, case["scale"], rtol=1e-6)
    predicted = fit.predict(DATA, se=True)
    np.testing.assert_allclose(predicted["fit"], array(case["fitted"]), rtol=0, atol=5e-6 * sd)
    np.testing.assert_allclose(predicted["se"], array(case["se"]), rtol=5e-6)


@pytest.mark.parametrize("case", R["directions"], ids=lambda case: case["formula"])
def test_mgcvs_directions_of_curves_by_groups_are_other_ones(case):
    """The scores differ by what rounding chose in mgcv: in these data by less than 0.2 units of log-likelihood."""
    fit = stats.gam(case["formula"], DATA, method="REML")
    assert 1e-6 < abs(fit.score - case["score"]) < 0.2


def test_random_effects_are_those_of_a_mixed_model():
    """`s(g, bs='re')` is `(1 | g)`: the same REML, by other algebra."""
    additive = stats.gam("y ~ x + s(g, bs='re')", DATA, method="REML")
    mixed = stats.lmm("y ~ x + (1 | g)", DATA)
    # Both optima are found to a slope of about 1e-9; the fitted values inherit its root.
    np.testing.assert_allclose(additive.fitted, mixed.fitted, atol=1e-6)
    np.testing.assert_allclose(2 * additive.score, mixed.criterion, rtol=1e-9)


def test_a_cyclic_curve_closes():
    fit = stats.gam("y ~ s(hour, bs='cc')", DATA, method="REML")
    ends = pl.DataFrame({"hour": [DATA["hour"].min(), DATA["hour"].max()]})
    closed = fit.predict(ends)
    assert closed[0] == pytest.approx(closed[1], abs=1e-12)
    for order in (1, 2):
        slopes = fit.derivative(ends, "s(hour)", order)["derivative"]
        assert slopes[0] == pytest.approx(slopes[1], abs=1e-10)
    period = DATA["hour"].max() - DATA["hour"].min()
    np.testing.assert_allclose(fit.predict(DATA.with_columns(pl.col("hour") + period)), fit.predict(DATA), atol=1e-10)


@pytest.mark.parametrize(
    ("formula", "term", "of"),
    [("y ~ te(x, z, k=4)", "te(x,z)", "z"), ("y ~ s(x, g, bs='fs', k=5)", "s(x,g)", "x"), ("y ~ s(g, x, bs='re')", "s(g,x)", "x")],
)  # fmt: skip
def test_derivatives_are_limits_of_differences(formula, term, of):
    fit = stats.gam(formula, DATA, method="REML")
    rows, h = DATA.head(20), 1e-5
    up, down = (fit.predict(rows.with_columns(pl.col(of) + step)) for step in (h, -h))
    slope = fit.derivative(rows, term, of=of)
    np.testing.assert_allclose(slope["derivative"], (up - down) / (2 * h), rtol=1e-5, atol=1e-6)  # h² and rounding / h
    assert slope.columns[:2] == term[term.index("(") + 1 : -1].split(",")


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ s(x, z)", r"needs one variable.*A surface of two variables is te\(x, z\)"),
        ("y ~ s(x, z, bs='fs')", "one number and one factor, and has 0 factors"),
        ("y ~ s(x, bs='ps')", "no basis bs='ps': choose 'tp' or 'cr' or 'cc' or 'fs' or 're'"),
        ("y ~ te(x)", "needs two variables or more"),
        ("y ~ te(x, z, bs='re')", "no basis bs='re'"),
        ("y ~ te(x, z, k=c(3, 4, 5))", "give one value for each variable"),
        ("y ~ te(x, g)", "g is categorical, and te"),
        ("y ~ s(hour, bs='cc', k=3)", "k must be at least 4"),
        ("y ~ s(x) + te(x, z)", r"te\(x,z\) can be made of the terms before it"),
    ],
)
def test_a_smooth_that_cannot_be_made_says_why(formula, words):
    with pytest.raises(StatisticsError, match=words):
        stats.gam(formula, DATA, method="REML")


def test_unknown_levels_and_variables_are_named():
    fit = stats.gam("y ~ te(x, z, k=4) + s(g, bs='re')", DATA, method="REML")
    with pytest.raises(StatisticsError, match="g has a level that is not in the fitted data: q"):
        fit.predict(DATA.with_columns(g=pl.lit("q")))
    with pytest.raises(StatisticsError, match=r"no numeric variable None to differentiate by: choose 'x' or 'z'"):
        fit.derivative(None, "te(x,z)")

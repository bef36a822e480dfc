"""GAMs beside mgcv: gams.json holds data and what mgcv 1.8-41 says of them, both written by gams.R."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway import stats
from headway.errors import StatisticsError

CASES = json.loads((Path(__file__).parent / "r" / "gams.json").read_text())["cases"]


def table(case):
    """The case's data; a column with `levels` becomes an ordered factor."""
    data = pl.DataFrame(case["data"], strict=False).to_pandas()
    for column, levels in (case.get("levels") or {}).items():
        data[column] = pd.Categorical(data[column], categories=levels, ordered=True)
    return data


def array(value):
    return np.atleast_1d(np.asarray(value, dtype=float))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['name']}, {case['method']}")
def test_a_fit_is_mgcvs(case):
    data = table(case)
    fit = stats.gam(case["formula"], data, method=case["method"])
    assert fit.converged
    assert fit.smooths["term"].to_list() == case["terms"]
    assert fit.parametric["term"].to_list() == case["parametric"]
    # R ran to a slope of 1e-12 of the score (describe_gam.R), headway to 1e-9: where λ goes to infinity, that is 1e-6 of edf.
    close = {"rtol": 2e-6, "atol": 1e-9}
    sd = case["scale"] ** 0.5
    np.testing.assert_allclose(fit.parametric["estimate"], case["estimate"], rtol=0, atol=1e-6 * sd)
    np.testing.assert_allclose(fit.smooths["edf"], array(case["edf"]), **close)
    np.testing.assert_allclose(fit.smooths["ref_df"], array(case["ref_df"]), **close)
    np.testing.assert_allclose(fit.score, case["score"], rtol=1e-8)  # flat at its minimum
    np.testing.assert_allclose(fit.scale, case["scale"], rtol=1e-6)
    np.testing.assert_allclose(fit.r_sq_adj, case["r_sq"], atol=1e-7)
    # Without an intercept mgcv's null model is 0 by GCV, and the mean by REML, where shares come out below 0: ours is 0.
    np.testing.assert_allclose(fit.deviance_explained, 1 - case["deviance"] / case["null_deviance"], atol=1e-7)
    if case["method"] == "GCV.Cp" or fit.frame.formula.intercept:
        np.testing.assert_allclose(fit.deviance_explained, case["dev"], atol=1e-7)
    predicted = fit.predict(data, se=True)
    np.testing.assert_allclose(predicted["fit"], array(case["fitted"]), rtol=0, atol=2e-6 * sd)
    np.testing.assert_allclose(predicted["se"], array(case["se"]), **close)
    np.testing.assert_allclose(fit.fitted, predicted["fit"], rtol=0, atol=1e-9 * case["scale"] ** 0.5)
    # The sign that rounding decides moves R's F by up to 5 % here; ours is the smaller of the two.
    np.testing.assert_allclose(fit.smooths["f"], array(case["f"]), rtol=0.05)
    assert (fit.smooths["f"].to_numpy() <= array(case["f"]) * (1 + 1e-4)).all()
    # mgcv's p comes from an integral that is good to some 1e-6, and rounds the residual df: 1e-4 of p.
    np.testing.assert_allclose(fit.smooths["p"], array(case["p"]), rtol=3e-4, atol=2e-6)


def test_more_basis_functions_than_values_is_an_error_that_says_so():
    data = pl.DataFrame({"x": [1.0, 2, 3, 4] * 5, "y": np.random.default_rng(0).normal(size=20)})
    with pytest.raises(StatisticsError, match=r"k=10 basis functions need 10 unique values, and there are 4"):
        stats.gam("y ~ s(x)", data)


def test_an_ordered_factor_of_one_level_leaves_no_curve():
    data = wavy(0).with_columns(f=pl.lit("only"))
    with pytest.raises(StatisticsError, match=r"ordered\(f\) is ordered and has one level only, only"):
        stats.gam("y ~ s(x) + s(x, by=ordered(f))", data)


FORMULAS = ["y ~ s(x)", "y ~ s(x, bs='cr', k=6)", "y ~ z + s(x, k=8)", "y ~ f + s(x, by=f)"]


def wavy(seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    x, z, f = rng.exponential(size=130), rng.normal(size=130), rng.integers(0, 2, 130)
    y = np.sin(3 * x) + 0.5 * f + 0.2 * z + rng.normal(0, 0.3, 130)
    return pl.DataFrame({"x": x, "z": z, "f": ["ab"[i] for i in f], "y": y})


# Rounding of the design moves the minimum of the score by 1e-8 of it, which leaves the curve good to about 1e-5.
SAME = {"rtol": 3e-5, "atol": 1e-7}


@pytest.mark.parametrize("method", ["GCV.Cp", "REML"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_order_of_rows_and_names_of_levels_do_not_matter(formula, method):
    data = wavy(1).with_row_index("row")
    shuffled = data.sample(fraction=1, shuffle=True, seed=2).with_columns(pl.col("f").replace({"a": "n", "b": "o"}))
    one, other = (stats.gam(formula, table, method=method) for table in (data, shuffled))
    np.testing.assert_allclose(one.smooths["edf"], other.smooths["edf"], **SAME)
    np.testing.assert_allclose(one.score, other.score, rtol=1e-7)
    back = np.argsort(shuffled["row"].to_numpy())
    np.testing.assert_allclose(one.fitted, np.asarray(other.fitted)[back], **SAME)


@pytest.mark.parametrize("method", ["GCV.Cp", "REML"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_shifting_and_scaling_y_and_x(formula, method):
    data = wavy(3)
    moved = data.with_columns(x=40 * pl.col("x") - 7, y=100 * pl.col("y") + 5)
    one, other = (stats.gam(formula, table, method=method) for table in (data, moved))
    np.testing.assert_allclose(one.smooths["edf"], other.smooths["edf"], **SAME)
    # In standard deviations of the noise, as beside mgcv.
    np.testing.assert_allclose(100 * np.asarray(one.fitted) + 5, other.fitted, rtol=0, atol=3e-5 * other.scale**0.5)
    np.testing.assert_allclose(one.smooths["p"], other.smooths["p"], rtol=3e-4, atol=2e-6)
    np.testing.assert_allclose(one.r_sq_adj, other.r_sq_adj, rtol=1e-6)


HARD = next(case for case in CASES if case["name"] == "a faint signal" and case["method"] == "GCV.Cp")


@settings(max_examples=25, deadline=None)
@given(
    st.floats(-8, 8), st.sampled_from([*FORMULAS, "y ~ s(x, k=8) + s(z, k=8)"]), st.sampled_from(["GCV.Cp", "REML"]), st.integers(0, 99)
)  # fmt: skip
def test_the_unit_of_y_decides_nothing(exponent, formula, method, seed):
    data, unit = wavy(seed), 10.0**exponent
    one, other = (stats.gam(formula, table, method=method) for table in (data, data.with_columns(pl.col("y") * unit)))
    assert one.converged
    assert other.converged
    # Two searches that end where the slope is below 1e-9 of the score: edf is good to 1e-6 where λ goes to infinity.
    np.testing.assert_allclose(other.smooths["edf"], one.smooths["edf"], rtol=2e-6)
    np.testing.assert_allclose(other.smooths["p"], one.smooths["p"], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(other.fitted / unit, one.fitted, rtol=0, atol=2e-6 * one.scale**0.5)
    np.testing.assert_allclose(other.r_sq_adj, one.r_sq_adj, atol=1e-7)


@pytest.mark.parametrize("unit", [1e-8, 1e-4, 1e4, 1e8])
def test_a_faint_signal_has_mgcvs_curves_in_any_unit(unit):
    """mgcv itself does not: its tolerances depend on the unit (docs/statistics.md)."""
    data = table(HARD)
    fit = stats.gam(HARD["formula"], data.assign(y=data["y"] * unit))
    np.testing.assert_allclose(fit.smooths["edf"], HARD["edf"], rtol=2e-6)


def test_a_straight_line_with_k_of_enough_smoothness_is_least_squares():
    """Without noise about a line, a thin-plate spline has nothing to bend for: its null space is the line."""
    x = np.random.default_rng(5).uniform(size=80)
    data = pl.DataFrame({"x": x, "y": 2 + 3 * x + 1e-9 * np.sin(50 * x)})
    fit, line = stats.gam("y ~ s(x)", data, method="REML"), stats.ols("y ~ x", data)
    np.testing.assert_allclose(fit.fitted, line.fitted, atol=1e-7)
    derivative = fit.derivative(data, "s(x)")
    np.testing.assert_allclose(derivative["derivative"], 3, atol=1e-5)

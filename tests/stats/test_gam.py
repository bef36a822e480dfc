"""GAMs beside mgcv: gams.json holds data and what mgcv 1.8-41 says of them, both written by gams.R."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from headway import stats
from headway.errors import StatisticsError

CASES = json.loads((Path(__file__).parent / "r" / "gams.json").read_text())["cases"]


def array(value):
    return np.atleast_1d(np.asarray(value, dtype=float))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['name']}, {case['method']}")
def test_a_fit_is_mgcvs(case):
    data = pl.DataFrame(case["data"], strict=False)
    fit = stats.gam(case["formula"], data, method=case["method"])
    # Both optimise to about 1e-7 of the score, which near its minimum leaves edf and the curve good to about 1e-5.
    close = {"rtol": 3e-5, "atol": 1e-9}
    np.testing.assert_allclose(fit.smooths["edf"], array(case["edf"]), **close)
    np.testing.assert_allclose(fit.smooths["ref_df"], array(case["ref_df"]), **close)
    np.testing.assert_allclose(fit.score, case["score"], rtol=1e-6)
    np.testing.assert_allclose(fit.scale, case["scale"], rtol=1e-6)
    np.testing.assert_allclose(fit.r_sq_adj, case["r_sq"], atol=1e-6)
    np.testing.assert_allclose(fit.deviance_explained, case["dev"], atol=1e-6)
    predicted = fit.predict(data, se=True)
    np.testing.assert_allclose(predicted["fit"], array(case["fitted"]), rtol=0, atol=3e-5 * case["scale"] ** 0.5)
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

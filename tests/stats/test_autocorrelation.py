"""Additive models with autocorrelated errors beside mgcv's bam: smooths.json is written by smooths.R."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from headway import stats
from headway.errors import StatisticsError

R = json.loads((Path(__file__).parent / "r" / "smooths.json").read_text())
SERIES = pl.DataFrame(R["series"])
ONE = SERIES.filter(pl.col("run") == "r1")


@pytest.mark.parametrize(
    "case", R["errors"], ids=lambda case: f"{case['formula']}, {case['method']}, rho {case['rho']}"
)
def test_a_fit_with_given_rho_is_bams(case):
    data = ONE if case["data"] == "one" else SERIES
    # fREML is the same criterion by another algorithm. bam has no control of its search by GCV, which stops 1e-4 of edf early.
    method = case["method"].replace("fREML", "REML")
    loose = 100 if method == "GCV.Cp" else 1
    fit = stats.gam(case["formula"], data, method=method, rho=case["rho"], ar_start="start" if case["starts"] else None)
    assert fit.converged
    np.testing.assert_allclose(fit.score, case["score"], rtol=1e-8)
    np.testing.assert_allclose(fit.smooths["edf"], case["edf"], rtol=2e-6 * loose)
    np.testing.assert_allclose(fit.smooths["ref_df"], case["ref_df"], rtol=2e-6 * loose)
    np.testing.assert_allclose(fit.smooths["f"], case["f"], rtol=2e-3)  # two values, as in test_gam.py
    np.testing.assert_allclose(fit.smooths["p"], case["p"], rtol=3e-4, atol=2e-6)
    np.testing.assert_allclose(fit.parametric["estimate"], case["estimate"], atol=1e-6)
    np.testing.assert_allclose(fit.scale, case["scale"], rtol=1e-6 * loose)
    np.testing.assert_allclose(fit.r_sq_adj, case["r_sq"], atol=1e-6)
    predicted = fit.predict(data, se=True)
    np.testing.assert_allclose(predicted["fit"], case["fitted"], atol=1e-6 * loose)
    np.testing.assert_allclose(predicted["se"], case["se"], rtol=2e-6 * loose)
    np.testing.assert_allclose(fit.standardised_residuals, case["standardised"], atol=1e-6 * loose)


def test_rho_from_residuals_is_that_of_rs_acf():
    fit = stats.gam(R["estimated"]["formula"], ONE, method="REML", rho="estimate")
    assert fit.rho == pytest.approx(R["estimated"]["rho"], abs=1e-7)  # the fits differ by 1e-9
    assert "rho = 0.09552 (lag-1 autocorrelation" in fit.summary()


def test_the_most_likely_rho_minimises_bams_score():
    fit = stats.gam(R["estimated"]["likely_formula"], SERIES, method="REML", rho="REML", ar_start="start")
    assert fit.rho == pytest.approx(R["estimated"]["likely"], abs=2e-4)  # the search ends within 1e-4
    assert "by restricted maximum likelihood" in fit.summary()


def series(rho, seed):
    """Six runs of 40 steps with the planted autocorrelation."""
    rng, parts = np.random.default_rng(seed), []
    for run in range(6):
        errors = rng.normal(size=40)
        for t in range(1, 40):
            errors[t] = rho * errors[t - 1] + np.sqrt(1 - rho**2) * errors[t]
        y = np.sin(np.arange(40) / 8) + rng.normal(0, 0.5) + 0.4 * errors
        parts.append(pl.DataFrame({"run": f"r{run}", "step": np.arange(40), "start": np.arange(40) == 0, "y": y}))
    return pl.concat(parts)


def test_planted_autocorrelation_is_found():
    found = [
        stats.gam("y ~ s(step) + s(run, bs='re')", series(0.7, seed), method="REML", rho="REML", ar_start="start").rho
        for seed in range(8)
    ]
    # One estimate has a standard deviation of about √((1 - 0.7²)/240) = 0.046; four of the mean of eight are 0.065.
    assert np.mean(found) == pytest.approx(0.7, abs=0.065)


def test_a_run_whose_first_row_is_missing_starts_with_the_next():
    holes = SERIES.with_columns(y=pl.when(pl.col("start")).then(None).otherwise(pl.col("y")))
    second = SERIES.filter(~pl.col("start")).with_columns(start=pl.col("step") == 2)
    one, other = (
        stats.gam("y ~ s(step)", table, method="REML", rho=0.6, ar_start="start") for table in (holes, second)
    )
    assert one.errors.starts.sum() == 6
    np.testing.assert_allclose(one.fitted, other.fitted, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rho": 1.0}, "rho is 1.0: give a number between -1 and 1"),
        ({"rho": "acf"}, "rho is 'acf'"),
        ({"rho": "REML", "method": "GCV.Cp"}, 'needs method="REML"'),
        ({"rho": 0.5, "ar_start": "begin"}, "no column 'begin' for the starts of runs"),
        ({"rho": 0.5, "ar_start": "step"}, "step must be true in the first row of each run"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(StatisticsError, match=words):
        stats.gam("y ~ s(step)", SERIES, **{"method": "REML", **options})

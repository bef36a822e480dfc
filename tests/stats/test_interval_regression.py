"""Interval-censored regression against survreg of R's survival (tests/stats/r/inference.R), and on data with known answers."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import chi2

from headway import stats
from headway.errors import StatisticsError

R = json.loads((Path(__file__).parent / "r" / "inference.json").read_text())
TIMES = pl.DataFrame(R["times"])


def close(ours, theirs, tolerance):
    np.testing.assert_allclose(np.asarray(ours, float), np.asarray(theirs, float), rtol=tolerance, atol=tolerance)


def fitted(formula, data=TIMES, **options):
    return stats.interval_regression(formula, data, "after", "by", **options)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case['distribution']} {case['formula']}") for case in R["censored"]]
)
def test_every_quantity_agrees_with_survreg(case):
    fit = fitted(case["formula"], distribution=case["distribution"])
    assert fit.converged
    assert fit.coefficients["term"].to_list() == case["term"]
    # Both optima are good to 1e-8; standard errors take second derivatives, here by differences of exact slopes.
    close(fit.beta, case["estimate"], 1e-6)
    close([fit.scale, fit.log_lik], [case["scale"], case["log_lik"]], 1e-7)
    close(fit.coefficients["std_error"], case["std_error"], 1e-6)
    close(fit.log_scale_std_error, case["log_scale_std_error"], 1e-6)
    close(fit.predict(TIMES.head(5)), case["medians"], 1e-6)
    close(fit.predict(TIMES.head(5), 0.9), case["late"], 1e-6)
    clustered = fitted(case["formula"], distribution=case["distribution"], cluster="cl")
    close(clustered.coefficients["std_error"], case["robust"][:-1], 1e-5)  # R's are numerical derivatives
    close(clustered.log_scale_std_error, case["robust"][-1], 1e-5)
    close(clustered.beta, fit.beta, 1e-12)  # the same fit


@pytest.mark.parametrize("distribution", ["lognormal", "loglogistic", "weibull"])
def test_profile_bounds_lie_where_the_likelihood_has_fallen_by_the_quantile(distribution):
    fit = fitted("~ x", distribution=distribution)
    for side, bound in zip((-1, 1), fit.confint(method="profile").row(1)[1:], strict=True):
        # x with its coefficient fixed: the times divided by exp(bound x), in a model without x
        moved = TIMES.with_columns(pl.col("after", "by") / (bound * pl.col("x")).exp())
        without = fitted("~ 1", moved, distribution=distribution)
        shift = float(
            bound * TIMES.filter(pl.col("after") == pl.col("by"))["x"].sum()
        )  # log t of exact times has moved
        fall = 2 * (fit.log_lik - (without.log_lik - shift))
        assert fall == pytest.approx(chi2.ppf(0.95, 1), rel=1e-6), side


def test_exact_times_are_least_squares_of_their_logarithms():
    data = TIMES.filter(pl.col("after") == pl.col("by")).with_columns(y=pl.col("after").log())
    fit, least = fitted("~ x", data), stats.ols("y ~ x", data)
    close(fit.beta, least.beta, 1e-7)
    assert fit.scale == pytest.approx(np.sqrt(least.rss / least.n_obs), rel=1e-7)  # maximum likelihood divides by n
    assert fit.n_censored == {"exact": len(data), "interval": 0, "left": 0, "right": 0}


def test_profile_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(1)
    edges, covered = np.array([0, 1, 2, 4, 8, np.inf]), []
    for _ in range(150):
        x = rng.normal(size=30)
        place = np.searchsorted(edges, np.exp(1 + 0.5 * x + 0.6 * rng.normal(size=30)))
        data = pl.DataFrame({"x": x, "after": edges[place - 1], "by": edges[place]})
        _, low, high = fitted("~ x", data).confint(0.9, "profile").row(1)
        covered.append(low <= 0.5 <= high)
    # 150 trials at 90% have a standard error of 2.4 points; 30 rows cost a point or two.
    assert np.mean(covered) == pytest.approx(0.9, abs=0.075)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fitted("y ~ x"), "must start with ~"),
        (lambda: fitted("~ x + (1 | cl)"), "no random effects"),
        (lambda: fitted("~ q"), "no column 'q'"),
        (lambda: fitted("~ x", distribution="gamma"), "unknown distribution 'gamma'"),
        (lambda: fitted("~ x", cluster="q"), "no column 'q' of clusters"),
        (lambda: fitted("~ x", TIMES.with_columns(after=-1.0)), "after is negative in 150 rows"),
        (lambda: fitted("~ x", TIMES.with_columns(after=20.0, by=3.0)), "after is above by in 150 rows"),
        (lambda: fitted("~ x", TIMES.with_columns(by=0.0, after=0.0)), "by is not positive"),
        (lambda: fitted("~ x", TIMES.with_columns(after=None, by=None).cast({"after": pl.Float64, "by": pl.Float64})), "0 rows with a bound"),
        (lambda: fitted("~ x").predict(quantile=2), "between 0 and 1"),
        (lambda: fitted("~ x").confint(method="boot"), "unknown method 'boot'"),
        (lambda: stats.interval_regression("~ x", TIMES, "after", "cl"), "cl are categorical"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, words):
    with pytest.raises(StatisticsError, match=words):
        call()


def test_pandas_and_mappings_give_the_same_fit():
    fit = fitted("~ x + f")
    assert fitted("~ x + f", TIMES.to_pandas()).log_lik == pytest.approx(fit.log_lik, rel=1e-12)
    assert fitted("~ x + f", TIMES.to_dict(as_series=False)).log_lik == pytest.approx(fit.log_lik, rel=1e-12)
    assert "Distribution: lognormal; 150 rows:" in fit.summary()
    assert repr(fit) == "<IntervalRegression ~ x + f: 150 observations>"

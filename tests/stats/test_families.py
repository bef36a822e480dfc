"""Additive models of binary answers, shares, counts, positive numbers and proportions, beside mgcv (smooths.R)."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats as scipy_stats
from scipy.special import expit

from headway import stats
from headway.errors import StatisticsError
from headway.stats.additive_fits import Parts
from headway.stats.families import SMOOTH_FAMILIES
from headway.stats.formula import parse
from headway.stats.laml import LaplacePoint, LaplaceProblem, minimise_laplace
from headway.stats.model_frame import model_frame

R = json.loads((Path(__file__).parent / "r" / "smooths.json").read_text())
ANSWERS = pl.DataFrame(R["answers"])


@pytest.mark.parametrize("case", R["families"], ids=lambda case: f"{case['formula']}, {case['family']}")
def test_a_family_is_mgcvs(case):
    fit = stats.gam(case["formula"], ANSWERS, "REML", family=case["family"], weights=case.get("weights") or None)
    assert fit.converged
    assert fit.smooths["term"].to_list() == case["terms"]
    # The search ends here at a slope of 1e-9 of n, which leaves edf good to 1e-6. Where a curve becomes a line, R stops at a smoothing parameter whose edf is 2e-4 above the limit.
    straight = fit.log_sp.max() > 15
    close = {"rtol": 4e-4 if straight else 2e-6, "atol": 3e-5 if straight else 1e-7}
    np.testing.assert_allclose(fit.score, case["score"], atol=1e-4 if straight else 1e-8)
    np.testing.assert_allclose(fit.smooths["edf"], case["edf"], **close)
    np.testing.assert_allclose(fit.smooths["ref_df"], case["ref_df"], **close)
    # A curve's statistic has two values (test_gam.py): up to 3 % apart here. p comes from an integral good to 1e-6 in R.
    np.testing.assert_allclose(fit.smooths[:, 3], case["statistic"], rtol=0.03)
    np.testing.assert_allclose(fit.smooths["p"], case["p"], rtol=3e-4, atol=5e-6)
    np.testing.assert_allclose(fit.scale, case["scale"], **close)
    np.testing.assert_allclose(fit.parametric["estimate"], case["estimate"], **close)
    np.testing.assert_allclose(fit.parametric["std_error"], case["std_error"], **close)
    np.testing.assert_allclose(fit.parametric["p"], case["p_parametric"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose([fit.r_sq_adj, fit.deviance_explained], [case["r_sq"], case["dev"]], **close)
    np.testing.assert_allclose(fit.deviance, case["deviance"], **close)
    rows = ANSWERS.head(60)
    linear, mean = fit.predict(rows, se=True, link=True), fit.predict(rows, se=True)
    for ours, theirs in ((linear, ("link", "link_se")), (mean, ("fitted", "se"))):
        np.testing.assert_allclose(ours["fit"], case[theirs[0]], **close)
        np.testing.assert_allclose(ours["se"], case[theirs[1]], **close)
    if case["family"] == "beta":
        assert fit.extra == pytest.approx(case["theta"], rel=1e-6)


DENSITIES = {
    "gaussian": lambda y, mu, w, e: scipy_stats.norm.logpdf(y, mu, np.sqrt(np.exp(e) / w)),
    "binomial": lambda y, mu, w, e: scipy_stats.binom.logpmf(np.round(y * w), w, mu),
    "poisson": lambda y, mu, w, e: w * scipy_stats.poisson.logpmf(y, mu),
    "gamma": lambda y, mu, w, e: scipy_stats.gamma.logpdf(y, w * np.exp(-e), scale=mu / (w * np.exp(-e))),
    "beta": lambda y, mu, w, e: w * scipy_stats.beta.logpdf(y, mu * np.exp(e), (1 - mu) * np.exp(e)),
}
RESPONSES = {
    "gaussian": (np.array([-1.0, 0.5, 2.0]), np.array([1.0, 2.0, 0.5])),
    "binomial": (np.array([0.0, 0.5, 1.0]), np.array([3.0, 4.0, 1.0])),
    "poisson": (np.array([0.0, 2.0, 7.0]), np.array([1.0, 2.0, 0.5])),
    "gamma": (np.array([0.3, 1.5, 6.0]), np.array([1.0, 2.0, 0.5])),
    "beta": (np.array([0.02, 0.5, 0.9]), np.array([1.0, 2.0, 0.5])),
}
MEANS = {"identity": lambda eta: eta, "log": np.exp, "logit": expit}


@pytest.mark.parametrize("name", SMOOTH_FAMILIES)
def test_densities_are_scipys_and_derivatives_are_limits_of_differences(name):
    family, (y, prior), eta, h = SMOOTH_FAMILIES[name], RESPONSES[name], np.array([-0.7, 0.2, 1.1]), 1e-5
    extra = 0.4 if family.extra_name else None
    here = family.derivatives(y, eta, prior, extra)
    np.testing.assert_allclose(family.mean(eta), MEANS[family.link](eta), rtol=1e-12)
    np.testing.assert_allclose(here.value, DENSITIES[name](y, family.mean(eta), prior, extra), rtol=1e-10, atol=1e-12)

    def difference(part, by_extra=False):
        shift = (0 * eta, h) if by_extra else (h, 0.0)
        up = family.derivatives(y, eta + shift[0], prior, None if extra is None else extra + shift[1])
        down = family.derivatives(y, eta - shift[0], prior, None if extra is None else extra - shift[1])
        return (getattr(up, part) - getattr(down, part)) / (2 * h)

    close = {"rtol": 1e-7, "atol": 1e-8}  # rounding of 1e-15 divided by h, and h²
    np.testing.assert_allclose(here.first, difference("value"), **close)
    np.testing.assert_allclose(here.second, difference("first"), **close)
    np.testing.assert_allclose(here.third, difference("second"), **close)
    np.testing.assert_allclose(family.slope(family.mean(eta)), (MEANS[family.link](eta + h) - MEANS[family.link](eta - h)) / (2 * h), rtol=1e-7)  # fmt: skip
    if extra is not None:
        np.testing.assert_allclose(here.by_extra, difference("value", by_extra=True).sum(), **close)
        np.testing.assert_allclose(here.first_by_extra, difference("first", by_extra=True), **close)
        np.testing.assert_allclose(here.second_by_extra, difference("second", by_extra=True), **close)


@pytest.mark.parametrize("name", SMOOTH_FAMILIES)
def test_expected_information_is_the_mean_of_the_second_derivative(name):
    family, rng = SMOOTH_FAMILIES[name], np.random.default_rng(0)
    extra, n = (0.4 if family.extra_name else None), 200_000
    mu = float(family.mean(np.array([0.3]))[0])
    size = np.exp(0.4)
    y = {
        "gaussian": lambda: rng.normal(mu, np.sqrt(size), n),
        "binomial": lambda: rng.binomial(1, mu, n).astype(float),
        "poisson": lambda: rng.poisson(mu, n).astype(float),
        "gamma": lambda: rng.gamma(1 / size, mu * size, n),
        "beta": lambda: rng.beta(mu * size, (1 - mu) * size, n),
    }[name]()
    at = family.derivatives(y, np.full(n, 0.3), np.ones(n), extra)
    four = 4 * at.second.std() / np.sqrt(n) + 1e-12
    assert np.mean(-at.second) == pytest.approx(at.expected[0], abs=four)
    assert np.var(y) == pytest.approx(
        family.variance(np.array([mu]))[0] * {"gaussian": size, "gamma": size, "beta": 1 / (1 + size)}.get(name, 1),
        abs=4 * np.sqrt(np.var((y - mu) ** 2) / n),
    )


def problem(formula, family):
    parts = Parts.of(model_frame(parse(formula), ANSWERS))
    return LaplaceProblem.of(SMOOTH_FAMILIES[family], parts.frame.y, parts.prior, parts.matrix, parts.penalties), parts


@pytest.mark.parametrize(
    ("formula", "family"), [("hit ~ te(x, z, k=4)", "binomial"), ("positive ~ s(x) + s(z)", "gamma"), ("proportion ~ s(x)", "beta")]
)  # fmt: skip
def test_the_gradient_is_the_limit_of_differences(formula, family):
    data, _ = problem(formula, family)
    theta, h = np.array([-1.0, 0.5, 0.3])[: len(data.roots) + bool(data.family.extra_name)], 1e-4
    numeric = [(LaplacePoint(data, theta + step).score - LaplacePoint(data, theta - step).score) / (2 * h) for step in h * np.eye(len(theta))]  # fmt: skip
    # Differences over 1e-4 of a score of 100 that is good to 1e-13 of it.
    np.testing.assert_allclose(LaplacePoint(data, theta).gradient, numeric, rtol=1e-6, atol=1e-6)


def test_laplaces_approximation_of_a_gaussian_is_reml():
    """The approximation is exact there: the same score and parameters as by the algebra of smoothing.py."""
    formula = "positive ~ s(x) + te(x, z, k=3, by=trials)"
    exact = stats.gam(formula, ANSWERS, method="REML")
    _, parts = problem(formula, "gaussian")
    found = minimise_laplace(SMOOTH_FAMILIES["gaussian"], parts.frame.y, parts.prior, parts.matrix, parts.penalties)
    assert found.score == pytest.approx(exact.score, rel=1e-9)
    np.testing.assert_allclose(parts.matrix @ found.coefficients, exact.fitted, atol=1e-5)


def test_intervals_of_shares_stay_between_0_and_1_and_hold_the_fit():
    fit = stats.gam("hit ~ s(x)", ANSWERS, family="binomial")
    band = fit.interval(ANSWERS)
    assert (band["lower"] > 0).all()
    assert (band["upper"] < 1).all()
    np.testing.assert_allclose(band["fit"], fit.fitted, atol=1e-12)
    linear = fit.predict(ANSWERS, se=True, link=True)
    pointwise = fit.interval(ANSWERS, simultaneous=False)
    np.testing.assert_allclose(pointwise["upper"], expit(linear["fit"] + 1.959963985 * linear["se"]), rtol=1e-8)
    assert "Family: binomial" in fit.summary()
    assert "Chi.sq" in fit.summary()


def test_separated_answers_and_precise_proportions():
    x = np.linspace(0, 1, 100)
    apart = stats.gam("y ~ s(x)", {"x": x, "y": (x > 0.5).astype(float)}, family="binomial")
    assert "some fitted means are 0 or 1 up to rounding" in apart.notices[0]
    # A precision of 50,000: the log density is a difference of numbers that are 1e5 times larger.
    rng, mean = np.random.default_rng(0), 0.3 + 0.4 * x
    fit = stats.gam("y ~ s(x)", {"x": x, "y": rng.beta(5e4 * mean, 5e4 * (1 - mean))}, family="beta")
    assert fit.converged
    assert fit.extra == pytest.approx(5e4, rel=4 * np.sqrt(2 / 100))  # four standard errors of a precision
    np.testing.assert_allclose(fit.fitted, mean, atol=4 * 0.5 / np.sqrt(5e4))


@pytest.mark.parametrize(
    ("formula", "options", "words"),
    [
        ("hit ~ s(x)", {"family": "logit"}, "unknown family 'logit': choose 'binomial', 'poisson', 'gaussian', 'gamma', 'beta'"),
        ("hit ~ s(x)", {"family": "binomial", "method": "GCV.Cp"}, 'needs method="REML"'),
        ("hit ~ s(x)", {"family": "binomial", "rho": 0.5}, "autocorrelated errors"),
        ("hit ~ s(x)", {"family": "beta"}, "strictly between 0 and 1"),
        ("hit ~ s(x)", {"family": "gamma"}, "must be positive"),
        ("positive ~ s(x)", {"family": "poisson"}, "must be a count"),
    ],
)  # fmt: skip
def test_a_family_that_does_not_suit_is_refused(formula, options, words):
    with pytest.raises(StatisticsError, match=words):
        stats.gam(formula, ANSWERS, **options)

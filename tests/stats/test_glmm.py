"""Generalised mixed models against lme4's glmer (tests/stats/r/inference.R), their own derivatives, and on bad input."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, roots_hermitenorm

from headway import stats
from headway.errors import StatisticsError
from headway.stats.deviance import Shape
from headway.stats.families import FAMILIES
from headway.stats.laplace import Mode, Problem

R = json.loads((Path(__file__).parent / "r" / "inference.json").read_text())
COUNTS = pl.DataFrame(R["counts"])


def close(ours, theirs, tolerance):
    np.testing.assert_allclose(np.asarray(ours, float), np.asarray(theirs, float), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["formula"]) for case in R["generalised"]])
def test_every_quantity_agrees_with_glmer(case):
    fit = stats.glmm(case["formula"], COUNTS, case["family"], weights=case["weights"] or None)
    assert fit.converged
    assert fit.fixed["term"].to_list() == case["term"]
    # flat at the optimum, and û is found to 1e-12 in both
    close([fit.log_lik, fit.aic, fit.bic], [case["log_lik"], case["aic"], case["bic"]], 1e-7)
    # R's optimiser ends about 1e-6 from the optimum, and its Hessian is of finite differences.
    close(fit.fixed["estimate"], case["estimate"], 5e-6)
    close(fit.fixed["std_error"], case["std_error"], 5e-5)
    close(fit.fixed["p"], case["p"], 1e-4)
    close(fit.random["sd"], case["sd"], 2e-5)
    close(fit.random_correlations["correlation"], case["correlation"], 2e-5)
    close(fit.fitted[:20], case["fitted"], 1e-5)
    close(fit.predict(COUNTS.head(5)), case["predicted"], 1e-5)
    close(fit.predict(COUNTS.head(5), random=False), case["population"], 1e-5)
    close(np.quantile(fit.residuals, [0, 0.25, 0.5, 0.75, 1]), case["scaled"], 2e-5)
    ours = {(row["level"], row["term"]): row["value"] for row in fit.ranef.iter_rows(named=True)}
    theirs = dict(zip(zip(case["level"], case["effect"], strict=True), case["value"], strict=True))
    close([ours[key] for key in theirs], list(theirs.values()), 5e-5)


def test_the_fixtures_hold_a_singular_fit():
    fit = stats.glmm("flat ~ x + (1 | h)", COUNTS)
    assert fit.singular
    assert "boundary (singular) fit" in fit.notices[0]
    assert fit.random["sd"].to_list() == [0.0]


@pytest.mark.parametrize("family", ["binomial", "poisson"])
def test_the_gradient_is_that_of_the_deviance(family):
    rng = np.random.default_rng(5)
    n, shape = 60, Shape((2, 1), (5, 4))
    codes, other, x = rng.integers(0, 5, n), rng.integers(0, 4, n), rng.normal(size=(n, 2))
    z = np.zeros((n, 14))
    z[np.arange(n), 2 * codes], z[np.arange(n), 2 * codes + 1], z[np.arange(n), 10 + other] = 1, x[:, 0], 1
    prior = rng.integers(1, 6, n).astype(float) if family == "binomial" else np.ones(n)
    y = rng.binomial(prior.astype(int), 0.4) / prior if family == "binomial" else rng.poisson(2.0, n).astype(float)
    problem = Problem(FAMILIES[family], y, prior, 0.1 * x[:, 1], x, z, shape)
    point = np.array([0.8, -0.3, 0.5, 0.7, 0.4, -0.2])

    def deviance(at):
        return Mode(problem, at[:4], at[4:], np.zeros(14)).deviance

    numeric = [(deviance(point + h) - deviance(point - h)) / 2e-5 for h in 1e-5 * np.eye(6)]
    # central differences: an error of 1e-10 by the step, and of 1e-12 / 1e-5 by rounding
    close(Mode(problem, point[:4], point[4:], np.zeros(14)).gradient, numeric, 1e-5)


def test_the_likelihood_is_near_that_of_numerical_integration():
    fit = stats.glmm("share ~ x + (1 | g)", COUNTS, weights="trials")
    nodes, weights = roots_hermitenorm(80)
    sd = fit.random["sd"][0]
    eta = fit.x.matrix @ fit.beta
    trials, hits = COUNTS["trials"].to_numpy(), COUNTS["share"].to_numpy() * COUNTS["trials"].to_numpy()
    total = 0.0
    for level in range(15):
        rows = fit.frame.groups["g"].codes == level
        p = expit(eta[rows, None] + sd * nodes)
        log = hits[rows] @ np.log(p) + (trials - hits)[rows] @ np.log1p(-p)
        total += np.log(np.sum(weights * np.exp(log - log.max())) / np.sqrt(2 * np.pi)) + log.max()
    constants = fit.family.log_density(
        COUNTS["share"].to_numpy(), np.full(300, 0.5), trials.astype(float)
    ).sum() + trials.sum() * np.log(2)
    # 80 nodes integrate exactly. Laplace's error is of the order of 1 / (trials in a group), 15 groups of about 130.
    assert fit.log_lik == pytest.approx(total + constants, abs=0.1)


def test_shares_with_trials_are_the_answers_one_by_one():
    one_by_one = COUNTS.select(
        "g",
        "x",
        hit=pl.concat_list(pl.lit(1).repeat_by("hits"), pl.lit(0).repeat_by(pl.col("trials") - pl.col("hits"))),
    ).explode("hit")
    together = stats.glmm("share ~ x + (1 | g)", COUNTS, weights="trials")
    apart = stats.glmm("hit ~ x + (1 | g)", one_by_one)
    close(together.beta, apart.beta, 1e-7)  # one likelihood but for a constant; both optima are good to 1e-8
    close(together.fixed["std_error"], apart.fixed["std_error"], 1e-6)


def test_marginal_means_are_on_the_scale_of_the_link():
    fit = stats.glmm("share ~ f + (1 | g)", COUNTS, weights="trials")
    means = stats.marginal_means(fit, "f")
    close(means.table["mean"], fit.beta[0] + np.array([0, *fit.beta[1:]]), 1e-12)  # the same sums
    assert np.isinf(means.table["df"].to_numpy()).all()


@pytest.mark.parametrize(
    ("formula", "family", "weights", "words"),
    [
        ("x ~ f + (1 | g)", "binomial", None, "must lie between 0 and 1"),
        ("share ~ f + (1 | g)", "binomial", None, "give the trials as weights"),
        ("share ~ f + (1 | g)", "poisson", None, "must be a count"),
        ("answer ~ f + (1 | g)", "gamma", None, "unknown family 'gamma': choose 'binomial' or 'poisson'"),
        ("answer ~ f", "binomial", None, "no random term"),
        ("answer ~ s(x) + (1 | g)", "binomial", None, "no smooth terms"),
    ],
)
def test_bad_input_of_a_generalised_model_is_named(formula, family, weights, words):
    with pytest.raises(StatisticsError, match=words):
        stats.glmm(formula, COUNTS, family, weights=weights)


def test_separation_is_named():
    data = COUNTS.with_columns(y=(pl.col("x") > 0).cast(pl.Int64))
    assert any("without bound" in notice for notice in stats.glmm("y ~ x + (1 | g)", data).notices)


def test_the_summary_reads_like_lme4s():
    text = stats.glmm("share ~ x + (x | g)", COUNTS, weights="trials").summary()
    assert "Family: binomial  ( logit )" in text
    assert "z value Pr(>|z|)" in text
    assert "Corr" in text

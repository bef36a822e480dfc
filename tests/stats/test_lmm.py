"""Mixed models against lme4 and lmerTest (tests/stats/r/mixed_models.R), against closed forms, and on bad input."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import support_stats
from headway import stats
from headway.errors import StatisticsError

R = json.loads((Path(__file__).parent / "r" / "mixed_models.json").read_text())
TABLES = {name: support_stats.frame(columns) for name, columns in R["tables"].items()}
CROSSED = TABLES["crossed"]

# R ran bobyqa to a trust region of 1e-9 (describe.R) and takes derivatives numerically (Richardson extrapolation):
# its estimates are good to about 1e-6. What a criterion says is flat at its minimum, hence far better.
TOLERANCE = dict.fromkeys(("criterion", "log_lik", "aic, bic"), 1e-7)
ELSEWHERE = 5e-6


@pytest.mark.parametrize("r", R["lmm"], ids=lambda r: f"{r['table']}: {r['formula']} {r['method']}")
def test_every_quantity_agrees_with_r(r):
    table = TABLES[r["table"]]
    fit = stats.lmm(r["formula"], table, method=r["method"])
    for quantity, difference in support_stats.lmm_differences(fit, r, table).items():
        assert difference <= TOLERANCE.get(quantity, ELSEWHERE), quantity


def test_the_fixtures_hold_what_they_are_for():
    formulas = {(r["formula"], r["method"]): r for r in R["lmm"]}
    assert formulas["y ~ x + (1 | g)", "REML"]["singular"]
    correlation = formulas["y ~ x + (x | g)", "ML"]
    assert max(r["n_groups"].get("g", 0) for r in R["lmm"]) == len(TABLES["many"]["g"].unique()) >= 300
    assert correlation["random_correlations"]["correlation"]


@pytest.mark.parametrize("r", R["lrt"], ids=lambda r: r["big"])
def test_likelihood_ratio_agrees_with_r(r):
    table = TABLES[r["table"]]
    test = stats.lrt(stats.lmm(r["small"], table), stats.lmm(r["big"], table))
    assert test.df == r["df"]
    np.testing.assert_allclose(test.chi2, r["chi2"], rtol=1e-7)  # a difference of two criteria, each good to 1e-8
    np.testing.assert_allclose(test.p, r["p"], rtol=1e-5)
    assert test.small.method == test.big.method == "ML"


@pytest.mark.parametrize(
    ("small", "big", "words"),
    [
        ("y ~ x + (1 | g)", "y ~ z + f + (1 | g)", r"does not contain x of the first"),
        ("y ~ f + (1 | g)", "y ~ x * z + (1 | g) + (1 | h)", r"does not contain fhi, flo|does not contain flo, fmid"),
        ("y ~ x + (1 | h)", "y ~ x + z + (1 | g)", r"does not contain \(1 \| h\)"),
        ("y ~ x + (x | g)", "y ~ x + z + f + (x || g)", r"does not contain \(1 \+ x \| g\)"),
        ("y ~ x + (1 | g)", "y ~ x + z + (0 + x | g)", r"does not contain \(1 \| g\)"),
        ("y ~ log10(n_params) + (1 | g)", "y ~ n_params + x + (1 | g)", r"does not contain log10\(n_params\)"),
    ],
)
def test_models_that_are_not_nested_are_refused(small, big, words):
    table = TABLES["unbalanced"]
    for method in ("REML", "ML"):
        with pytest.raises(StatisticsError, match=words):
            stats.lrt(stats.lmm(small, table, method=method), stats.lmm(big, table, method=method))


@pytest.mark.parametrize(
    ("small", "big"),
    [
        ("y ~ I(x - 2*z) + (1 | g)", "y ~ x + z + (1 | g)"),  # spanned, under other names
        ("y ~ x + (1 | factor(g))", "y ~ x + (f | g)"),
        ("y ~ ordered(f) + (1 | g)", "y ~ f + x + (1 | g)"),
        ("y ~ x + (1 | g) + (1 | h)", "y ~ x + (x | h) + (1 | g)"),
    ],
)
def test_models_that_are_nested_under_other_names_are_compared(small, big):
    table = TABLES["unbalanced"]
    test = stats.lrt(stats.lmm(small, table), stats.lmm(big, table, method="ML"))
    assert test.df > 0
    # R's anova takes what refits by ML say
    refits = [stats.lmm(formula, table, method="ML").log_lik for formula in (small, big)]
    np.testing.assert_allclose(test.chi2, 2 * (refits[1] - refits[0]), rtol=1e-9)


def test_lrt_is_for_mixed_models():
    table = TABLES["unbalanced"]
    mixed, plain = stats.lmm("y ~ x + (1 | g)", table), stats.ols("y ~ x", table)
    with pytest.raises(StatisticsError, match="the first is a fit of ols"):
        stats.lrt(plain, mixed)
    with pytest.raises(StatisticsError, match="the second is a fit of gam"):
        stats.lrt(mixed, stats.gam("y ~ s(x)", table))


# Fits that are not determined -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("random", "terms", "as_good"),
    [
        # lmer warns of each by REML or ML: "failed to converge", "degenerate Hessian", "nearly unidentifiable"
        ("(f || g)", ("(1 | g)", "(0 + f | g)"), "(0 + f | g)"),
        ("(1 | g) + (1 | g)", ("(1 | g)", "(1 | g)"), "(1 | g)"),
        ("(1 | g) + (1 | twin)", ("(1 | g)", "(1 | twin)"), "(1 | g)"),
        ("(x || g) + (1 | g)", ("(1 | g)", "(1 | g)"), "(x || g)"),
        ("(0 + x | g) + (x | g)", ("(0 + x | g)", "(1 + x | g)"), "(x | g)"),
        ("(even | g)", ("(1 + even | g)",), None),  # a number of two values that do not vary within a group
        ("(x + I(2*x) | g)", ("(1 + x + I(2 * x) | g)",), "(x | g)"),
    ],
)
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_a_fit_that_the_data_do_not_determine_says_so(random, terms, as_good, method):
    number = pl.col("g").str.slice(1).cast(pl.Int64)
    table = TABLES["unbalanced"].with_columns(twin=pl.col("g").str.reverse(), even=number % 2)
    fit = stats.lmm(f"y ~ x + {random}", table, method=method)
    assert fit.undetermined == terms
    assert "the data do not determine the variances of" in fit.summary()
    if as_good:  # what the terms add to each other is nothing
        one = stats.lmm(f"y ~ x + {as_good}", table, method=method)
        assert not one.undetermined
        np.testing.assert_allclose(fit.criterion, one.criterion, atol=1e-6)


def test_the_variance_between_groups_that_are_fixed_effects_is_determined_by_ml_alone():
    """R: lmer(y ~ x + g + (1 | g)) gives 3.934, where its search started, by REML, and 0 by ML."""
    table = TABLES["unbalanced"]
    assert stats.lmm("y ~ x + g + (1 | g)", table, method="REML").undetermined == ("(1 | g)",)
    by_ml = stats.lmm("y ~ x + g + (1 | g)", table, method="ML")
    assert (by_ml.undetermined, by_ml.singular) == ((), True)


@pytest.mark.parametrize("r", R["lmm"], ids=lambda r: f"{r['table']}: {r['formula']} {r['method']}")
def test_fits_that_r_takes_are_determined(r):
    table = TABLES[r["table"]]
    assert not stats.lmm(r["formula"], table, method=r["method"]).undetermined


def test_effects_far_from_orthogonal_are_determined():
    table = TABLES["unbalanced"].with_columns(x=pl.col("x") + 1e5)
    assert not stats.lmm("y ~ x + (x | g)", table).undetermined


# Closed forms ---------------------------------------------------------------------------------------------------


def test_balanced_one_way_layout_is_the_analysis_of_variance():
    rng = np.random.default_rng(3)
    n_groups, n_each = 7, 5
    group = np.repeat(np.arange(n_groups), n_each)
    y = rng.normal(size=n_groups)[group] * 2 + rng.normal(size=len(group))
    fit = stats.lmm("y ~ 1 + (1 | g)", pl.DataFrame({"y": y, "g": group}))
    means = y.reshape(n_groups, n_each).mean(axis=1)
    within = np.sum((y - means[group]) ** 2) / (n_groups * (n_each - 1))
    between = n_each * means.var(ddof=1)
    # Searle, Casella & McCulloch 1992, ch. 3: REML equals the ANOVA estimators where these are positive
    np.testing.assert_allclose(fit.sigma**2, within, rtol=1e-9)
    np.testing.assert_allclose(fit.random["variance"][0], (between - within) / n_each, rtol=1e-9)
    np.testing.assert_allclose(fit.fixed["df"][0], n_groups - 1, rtol=1e-9)  # the grand mean's error is `between`
    np.testing.assert_allclose(fit.fixed["std_error"][0], np.sqrt(between / len(y)), rtol=1e-9)


def test_likelihood_is_that_of_the_multivariate_normal():
    from scipy.stats import multivariate_normal

    data = TABLES["unbalanced"]
    fit = stats.lmm("y ~ x + (x | g) + (1 | h)", data, method="ML")
    v = fit.sigma**2 * np.eye(len(data))
    x = np.column_stack([np.ones(len(data)), data["x"]])
    g, h = (data[name].to_numpy() for name in "gh")
    v += (g[:, None] == g) * (x @ fit.covariances["g"] @ x.T)
    v += (h[:, None] == h) * fit.covariances["h"][0, 0]
    exact = multivariate_normal.logpdf(data["y"].to_numpy(), x @ fit.beta, v)
    np.testing.assert_allclose(fit.log_lik, exact, rtol=1e-11)


def test_all_zero_random_effects_are_least_squares():
    data = TABLES["none"]
    mixed, plain = stats.lmm("y ~ x + (1 | g)", data), stats.ols("y ~ x", data)
    assert mixed.singular
    assert mixed.random["variance"][0] == 0
    for column in ("estimate", "std_error", "t", "p"):
        np.testing.assert_allclose(mixed.fixed[column], plain.coefficients[column], rtol=1e-10)
    np.testing.assert_allclose(mixed.fixed["df"], plain.df_resid, rtol=1e-10)
    np.testing.assert_allclose(mixed.fitted, plain.fitted, rtol=1e-12)


def test_derivatives_are_those_of_the_deviance():
    """The exact gradient and Hessian, against central differences of the deviance."""
    from headway.stats.deviance import State

    for formula in ("y ~ x + (x | g) + (z | h)", "y ~ x + (x | g) + (1 | h) + (1 | f)", "y ~ x + (x + z | g)"):
        fit = stats.lmm(formula, TABLES["unbalanced"])
        state = fit.state
        for reml in (True, False):
            theta = state.theta + np.linspace(0.1, 0.4, len(state.theta))

            def at(theta, state=state, reml=reml):
                return State(state.products, state.shape, theta, reml)

            step, k = 1e-4, len(theta)
            ups = [at(theta + step * np.eye(k)[i]) for i in range(k)]
            downs = [at(theta - step * np.eye(k)[i]) for i in range(k)]
            gradient = [(up.deviance - down.deviance) / (2 * step) for up, down in zip(ups, downs, strict=True)]
            hessian = [(up.gradient - down.gradient) / (2 * step) for up, down in zip(ups, downs, strict=True)]
            # central differences of step 1e-4 are good to about 1e-6 of the largest derivative
            np.testing.assert_allclose(at(theta).gradient, gradient, atol=1e-5 * np.abs(gradient).max())
            np.testing.assert_allclose(at(theta).hessian, hessian, atol=1e-5 * np.abs(hessian).max())


# Properties -----------------------------------------------------------------------------------------------------

designs = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "n": st.integers(30, 80),
        "groups": st.integers(3, 8),
        "sd": st.sampled_from([0.0, 0.5, 2.0]),
        "method": st.sampled_from(["REML", "ML"]),
        "random": st.sampled_from(["(1 | g)", "(x | g)", "(1 | g) + (1 | h)"]),
    }
)


def drawn(seed, n, groups, sd, **_):
    rng = np.random.default_rng(seed)
    g = rng.integers(0, groups, n)
    g[:groups] = np.arange(groups)
    h = rng.integers(0, 4, n)
    h[:4] = np.arange(4)
    x = rng.normal(size=n)
    y = 1 + x + sd * rng.normal(size=groups)[g] + rng.normal(size=n)
    return pl.DataFrame({"y": y, "x": x, "g": [f"g{i}" for i in g], "h": [f"h{i}" for i in h]})


def fit_of(data, design):
    return stats.lmm(f"y ~ x + {design['random']}", data, method=design["method"])


# Two fits of the same data by other roads meet where the deviance is flat to rounding: θ to about 1e-6 of the
# residual's sd (and a df, which is a ratio of its derivatives, to 1e-4).
SAME = {"rtol": 1e-5, "atol": 1e-6}


@settings(max_examples=25, deadline=None)
@given(designs)
def test_order_of_rows_and_names_of_groups_do_not_matter(design):
    data = drawn(**design)
    fit = fit_of(data, design)
    shuffled = data.sample(fraction=1, shuffle=True, seed=design["seed"])
    renamed = shuffled.with_columns(g=pl.col("g").str.replace("g", "x").str.reverse())
    other = fit_of(renamed, design)
    np.testing.assert_allclose(other.criterion, fit.criterion, rtol=1e-9)
    for column in ("estimate", "std_error"):
        np.testing.assert_allclose(other.fixed[column], fit.fixed[column], **SAME)
    np.testing.assert_allclose(other.random["sd"], fit.random["sd"], atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(designs, st.floats(-1e3, 1e3), st.sampled_from([1e-3, 7.0, 1e4]), st.sampled_from([0.01, 3.0, 1e3]))
def test_shifting_and_scaling_y_and_x(design, shift, by_y, by_x):
    data = drawn(**design)
    fit = fit_of(data, design)
    other = fit_of(data.with_columns(y=(pl.col("y") + shift) * by_y, x=pl.col("x") * by_x), design)
    intercept, slope = fit.beta
    np.testing.assert_allclose(
        other.beta, [(intercept + shift) * by_y, slope * by_y / by_x], rtol=1e-5, atol=1e-5 * by_y
    )
    np.testing.assert_allclose(other.fixed["df"], fit.fixed["df"], rtol=1e-3)
    np.testing.assert_allclose(other.sigma, fit.sigma * by_y, rtol=1e-5)
    np.testing.assert_allclose(other.scaled_residuals, fit.scaled_residuals, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(designs)
def test_predictions_at_the_data_are_the_fitted_values_and_residuals_are_orthogonal(design):
    data = drawn(**design)
    fit = fit_of(data, design)
    np.testing.assert_allclose(fit.predict(data), fit.fitted, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(fit.predict(data, random=False), fit.predict(random=False), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(fit.x.matrix.T @ fit.residuals, 0, atol=1e-8 * len(data))  # the normal equations
    assert fit.converged


@settings(max_examples=15, deadline=None)
@given(designs)
def test_the_optimum_is_below_its_neighbourhood(design):
    from headway.stats.deviance import State

    fit = fit_of(drawn(**design), design)
    state = fit.state
    rng = np.random.default_rng(design["seed"])
    for size in (1e-3, 0.1, 1.0, 5.0):
        for _ in range(10):
            theta = state.theta + size * rng.normal(size=len(state.theta))
            assert State(state.products, state.shape, theta, state.reml).deviance >= state.deviance - 1e-8


# What a reader sees ---------------------------------------------------------------------------------------------


def test_summary_reads_like_lmertest():
    text = stats.lmm("y ~ x + (x | subject) + (1 | item)", CROSSED).summary()
    for words in (
        "Linear mixed model fit by REML. t-tests use Satterthwaite's method",
        "Formula: y ~ x + (x | subject) + (1 | item)",
        "REML criterion at convergence:",
        "Scaled residuals:",
        "Groups   Name        Variance Std.Dev. Corr",
        "Number of obs: 360, groups:  subject, 24; item, 15",
        "Estimate Std. Error",
        "Correlation of Fixed Effects:",
    ):
        assert words in text
    assert "singular" not in text
    assert "boundary (singular) fit" in stats.lmm("y ~ x + (1 | g)", TABLES["none"], method="ML").summary()


def test_collinear_columns_are_left_out_with_a_notice():
    fit = stats.lmm("y ~ x + z + w + (1 | g)", TABLES["twice"])
    assert fit.dropped == ("w",)
    assert "left out: w" in fit.summary()
    with pytest.raises(StatisticsError, match="type III tests are not defined"):
        fit.anova()


def test_satterthwaite_interval_holds_the_t_quantile_of_its_df():
    from scipy.stats import t

    fit = stats.lmm("y ~ x + (1 | subject) + (1 | item)", CROSSED)
    margin = t.ppf(0.95, fit.fixed["df"]) * fit.fixed["std_error"].to_numpy()
    np.testing.assert_allclose(fit.confint(0.9)["upper"], fit.beta + margin, rtol=1e-12)


# Bad input ------------------------------------------------------------------------------------------------------

NUMBERS = pl.DataFrame({"y": np.arange(12.0) ** 1.5, "x": [1.0, 3, 2] * 4, "g": list("aabbcc") * 2, "id": range(12)})


@pytest.mark.parametrize(
    ("formula", "data", "words"),
    [
        ("y ~ q + (1 | g)", NUMBERS, "no column 'q'"),
        ("y ~ x", NUMBERS, "no random term"),
        ("y ~ s(x) + (1 | g)", NUMBERS, "no smooth terms"),
        ("g ~ x + (1 | id)", NUMBERS, "response g is not numeric"),
        ("y ~ x + (1 | g)", NUMBERS.with_columns(g=pl.lit("a")), "the group g has one level only"),
        ("y ~ x + (1 | id)", NUMBERS, "the group id has a level for every one of the 12 rows"),
        ("y ~ x + (x + I(x^2) + I(x^3) | g)", NUMBERS, "random effects for 12 rows"),
        ("y ~ x + (1 | g)", NUMBERS.with_columns(y=pl.lit(2.0)), "does not vary: it is 2 in every row"),
        ("y ~ x + (1 | g)", NUMBERS.head(0), "the table is empty"),
        ("y ~ x + (1 | g)", NUMBERS.with_columns(x=pl.lit(None, pl.Float64)), "no row is left"),
        ("I(2*x + 1) ~ x + (1 | g)", NUMBERS, "without residual"),
        ("y ~ x * factor(id) + (1 | g)", NUMBERS, "Give more rows, or fewer effects"),
        ("y ~ x + (0 | g)", NUMBERS, "this random term has no effects"),
        ("y ~ x + (1 | g)", NUMBERS.with_columns(x=pl.lit(float("inf"))), "x is infinite in 12 rows"),
        ("y ~ x + (1 | g)", [1, 2], "pass a polars or pandas data frame"),
    ],
)
def test_bad_input_is_named(formula, data, words):
    with pytest.raises(StatisticsError) as caught:
        stats.lmm(formula, data)
    assert words in str(caught.value)


def test_other_bad_requests():
    fit = stats.lmm("y ~ x + (1 | subject)", CROSSED)
    with pytest.raises(StatisticsError, match='choose "REML" or "ML"'):
        stats.lmm("y ~ x + (1 | subject)", CROSSED, method="reml")
    with pytest.raises(StatisticsError, match=r"levels that are not in the fitted data \(s99\)"):
        fit.predict(CROSSED.head(3).with_columns(subject=pl.lit("s99")))
    with pytest.raises(StatisticsError, match="between 0 and 1"):
        fit.confint(95)
    with pytest.raises(StatisticsError, match="fitted to different rows"):
        stats.lrt(fit, stats.lmm("y ~ x + (1 | subject) + (1 | item)", CROSSED.head(300)))
    with pytest.raises(StatisticsError, match="give the smaller model first"):
        stats.lrt(stats.lmm("y ~ x + z + (1 | subject)", CROSSED), fit)

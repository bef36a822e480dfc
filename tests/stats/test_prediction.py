"""poly(), all other columns by `.`, and prediction intervals: beside R (linear.R), closed forms, and planted truth."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import t

from headway import stats
from headway.errors import StatisticsError

R = json.loads((Path(__file__).parent / "r" / "linear.json").read_text())
DATA, NEW = (pl.DataFrame(R[name], strict=False) for name in ("data", "new"))


@pytest.mark.parametrize("case", R["linear"], ids=lambda case: case["formula"])
def test_linear_models_and_their_intervals_are_rs(case):
    weights = case.get("weights") or None
    fit = stats.ols(case["formula"], DATA.select(case["columns"]), weights=weights)
    assert list(fit.x.names) == case["term"]
    close = {"rtol": 1e-8, "atol": 1e-10}  # both by orthogonal factorisations
    np.testing.assert_allclose(fit.beta, case["estimate"], **close)
    np.testing.assert_allclose(fit.coefficients["std_error"], case["std_error"], **close)
    for kind, level in (("confidence", 0.9), ("prediction", 0.95)):
        found = fit.predict(NEW, interval=kind, level=level)
        for ours, theirs in (("fit", "fit"), ("lower", "lwr"), ("upper", "upr")):
            np.testing.assert_allclose(found[ours], case[kind][theirs], **close)


@pytest.mark.parametrize("case", R["mixed"], ids=lambda case: case["formula"])
def test_polynomials_in_mixed_models_are_lme4s(case):
    fit = stats.lmm(case["formula"], DATA)
    assert fit.fixed["term"].to_list() == case["term"]
    # R's optimiser ends a relative 1e-6 from the optimum.
    np.testing.assert_allclose(fit.beta, case["estimate"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fit.criterion, case["criterion"], atol=1e-7)
    np.testing.assert_allclose(fit.random["sd"], case["sd"], rtol=1e-5)
    np.testing.assert_allclose(fit.predict(NEW), case["predicted"], rtol=1e-5, atol=1e-5)


def test_polynomials_are_orthonormal_and_span_the_powers():
    fit = stats.ols("y ~ poly(x, 3)", DATA)
    columns = fit.x.matrix[:, 1:]
    np.testing.assert_allclose(columns.T @ columns, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(columns.sum(axis=0), 0, atol=1e-12)
    powers = stats.ols("y ~ x + I(x^2) + I(x^3)", DATA)
    np.testing.assert_allclose(fit.fitted, powers.fitted, atol=1e-10)
    np.testing.assert_allclose(fit.predict(NEW), powers.predict(NEW), rtol=1e-9)


def test_the_dot_leaves_out_response_groups_and_smooths():
    data = DATA.select("y", "x", "z", "f", "g")
    assert stats.lmm("y ~ . + (1 | g)", data).fixed["term"].to_list() == ["(Intercept)", "x", "z", "flo", "fmid"]
    assert stats.gam("y ~ . - g + s(x)", data).parametric["term"].to_list() == ["(Intercept)", "z", "flo", "fmid"]


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ poly(x, 1.5)", "must be a whole number"),
        ("y ~ poly(x, 90)", "needs more than 90 different values"),
        ("y ~ log(poly(x, 2))", "has several columns"),
        ("y ~ (1 | poly(x, 2))", "has several columns"),
        ("y ~ log(.)", "cannot be computed with"),
        ("y ~ poly(x, 2, raw=TRUE)", "takes one column and a degree"),
    ],
)
def test_mistakes_are_pointed_at(formula, words):
    with pytest.raises(StatisticsError, match=words):
        (stats.lmm if "|" in formula else stats.ols)(formula, DATA)


def test_the_dot_of_nothing_is_an_error():
    with pytest.raises(StatisticsError, match="there are none here"):
        stats.ols("y ~ .", DATA.select("y"))


def groups(rng, n_groups=12, n_each=6, sd=0.8, slope_sd=0.0):
    """A table with effects of groups, and those effects."""
    effects, slopes = rng.normal(0, sd, n_groups), rng.normal(0, slope_sd, n_groups)
    g = np.repeat(np.arange(n_groups), n_each)
    x = rng.normal(size=len(g))
    y = 1 + x + effects[g] + slopes[g] * x + rng.normal(size=len(g))
    return pl.DataFrame({"y": y, "x": x, "g": [f"g{i:02}" for i in g]}), effects, slopes


def test_a_balanced_design_has_the_textbooks_variance():
    """New group: σ² + σ_b² + (σ_b² + σ²/m)/k, with k groups of m rows."""
    data, *_ = groups(np.random.default_rng(1))
    fit = stats.lmm("y ~ 1 + (1 | g)", data)
    between, within = fit.random["variance"]
    expected = np.sqrt(within + between + (between + within / 6) / 12)
    found = fit.predict(data.head(1), random=False, interval="prediction")
    assert found["se"][0] == pytest.approx(expected, rel=1e-9)
    half = (found["upper"][0] - found["lower"][0]) / 2
    assert half == pytest.approx(t.ppf(0.975, found["df"][0]) * expected, rel=1e-9)
    # Satterthwaite's df of σ_b²(1 + 1/k) + σ²(1 + 1/(mk)) from the two mean squares, on 11 and 60 df.
    a, b = (1 + 1 / 12) / 6, 1 + 1 / 72 - (1 + 1 / 12) / 6
    ms = np.array([within + 6 * between, within])
    df = (a * ms[0] + b * ms[1]) ** 2 / ((a * ms[0]) ** 2 / 11 + (b * ms[1]) ** 2 / 60)
    assert found["df"][0] == pytest.approx(df, rel=1e-5)  # derivatives by differences over 1e-4


@pytest.mark.parametrize("formula", ["y ~ x + (x | g)", "y ~ x + (1 | g) + (1 | h)"])
def test_the_variance_is_that_of_dense_matrices(formula):
    """(x - X'V⁻¹Gz)'Vβ(x - …) + z'(G - GZ'V⁻¹ZG)z + σ²: the same prediction error by V instead of Henderson's equations."""
    data, *_ = groups(np.random.default_rng(2), slope_sd=0.6)
    data = data.with_columns(h=pl.Series([f"h{i % 5}" for i in range(len(data))]))
    fit = stats.lmm(formula, data)
    levels = {name: sorted(data[name].unique()) for name in ("g", "h")}
    z = []
    for term in fit.terms:
        own = np.array([levels[term.name].index(level) for level in data[term.name]])
        hot = np.eye(len(levels[term.name]))[own]
        columns = np.column_stack([np.ones(len(data)), data["x"].to_numpy()][: term.n_effects])
        z.append((hot[:, :, None] * columns[:, None, :]).reshape(len(data), -1))
    g = [np.kron(np.eye(term.n_levels), fit.covariances[term.name]) for term in fit.terms]
    middle = sum(a @ b @ a.T for a, b in zip(z, g, strict=True))  # ZGZ'
    x, v = fit.x.matrix, middle + fit.sigma**2 * np.eye(len(data))
    inverse = np.linalg.inv(v)
    beta = np.linalg.inv(x.T @ inverse @ x)
    left = x.T - x.T @ inverse @ middle
    known = np.diag(left.T @ beta @ left) + np.diag(middle - middle @ inverse @ middle) + fit.sigma**2
    new = np.diag(x @ beta @ x.T) + np.diag(middle) + fit.sigma**2
    for random, expected in ((True, known), (False, new)):
        for rows in (None, data):
            found = fit.predict(rows, random=random, interval="prediction")
            np.testing.assert_allclose(found["se"], np.sqrt(expected), rtol=1e-8)


def test_intervals_hold_new_responses_of_known_and_of_new_groups():
    rng, n_sets = np.random.default_rng(3), 80
    held = {True: 0, False: 0}
    for _ in range(n_sets):
        data, effects, slopes = groups(rng, slope_sd=0.4)
        fit = stats.lmm("y ~ x + (x | g)", data)
        x = rng.normal(size=12)
        rows = pl.DataFrame({"x": x, "g": [f"g{i:02}" for i in range(12)]})
        fresh, tilt = rng.normal(0, 0.8, 12), rng.normal(0, 0.4, 12)
        for random, level, slope in ((True, effects, slopes), (False, fresh, tilt)):
            y = 1 + x + level + slope * x + rng.normal(size=12)
            band = fit.predict(rows, random=random, interval="prediction")
            held[random] += int(np.sum((band["lower"].to_numpy() <= y) & (y <= band["upper"].to_numpy())))
    # 960 responses each. Those of a set share its fit: the share's standard error over sets is about 0.9 %.
    for share in (held[True] / (12 * n_sets), held[False] / (12 * n_sets)):
        assert share == pytest.approx(0.95, abs=0.027)


def test_unknown_intervals_are_refused():
    for fit in (stats.ols("y ~ x", DATA), stats.lmm("y ~ x + (1 | g)", DATA)):
        with pytest.raises(StatisticsError, match="unknown interval 'tolerance'"):
            fit.predict(interval="tolerance")
        with pytest.raises(StatisticsError, match="between 0 and 1"):
            fit.predict(interval="prediction", level=95)


def test_marginal_means_take_polynomials_at_the_mean():
    """R's poly spans the same columns as the powers, so means at the mean of x are the same."""
    of_poly, of_powers = (
        stats.marginal_means(stats.ols(formula, DATA), "f") for formula in ("y ~ poly(x, 2) + f", "y ~ x + I(x^2) + f")
    )
    np.testing.assert_allclose(of_poly.table["mean"], of_powers.table["mean"], rtol=1e-9)

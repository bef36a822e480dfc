"""Least squares, Pearson's correlation and classical scaling against R, and on bad input."""

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


@pytest.mark.parametrize("r", R["ols"], ids=lambda r: f"{r['table']}: {r['formula']}")
def test_least_squares_agrees_with_lm(r):
    table = TABLES[r["table"]]
    fit = stats.ols(r["formula"], table)
    for quantity, difference in support_stats.ols_differences(fit, r, table).items():
        # both solve by QR in double precision; a response of 1e6 ± 1 leaves 9 digits, and an estimate less
        assert difference <= (1e-6 if "big" in r["formula"] else 1e-9), quantity


def test_summary_reads_like_lm():
    text = stats.ols("y ~ x * recipe + same", TABLES["crossed"]).summary()
    for words in ("Residuals:", "Coefficients:", "Residual standard error:", "Multiple R-squared:", "F-statistic:"):
        assert words in text
    fit = stats.ols("y ~ x + w + z", TABLES["twice"])
    assert "left out: z" in fit.summary()


@pytest.mark.parametrize("r", R["cor_test"])
def test_correlation_agrees_with_r(r):
    test = stats.cor_test(np.array(r["x"], dtype=float), np.array(r["y"], dtype=float))
    for name in ("r", "t", "df", "p", "lower", "upper"):
        np.testing.assert_allclose(getattr(test, name), r[name], rtol=1e-11)
    assert test.n + test.n_dropped == len(r["x"])


def test_scaling_agrees_with_cmdscale():
    r = R["mds"]
    scaled = stats.classical_mds(np.array(r["distances"]), k=2)
    theirs = np.array(r["points"])
    theirs *= np.sign(np.sum(theirs * scaled.points, axis=0))  # an axis has no sign of its own
    np.testing.assert_allclose(scaled.points, theirs, atol=1e-9)
    np.testing.assert_allclose(scaled.eigenvalues, r["eigenvalues"], atol=1e-9)
    np.testing.assert_allclose(scaled.fit, r["fit"], rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 20), st.integers(1, 3))
def test_points_of_k_dimensions_are_found_again(seed, n, k):
    points = np.random.default_rng(seed).normal(size=(n, k))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    again = stats.classical_mds(distances, k=k).points
    np.testing.assert_allclose(np.linalg.norm(again[:, None] - again, axis=2), distances, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(-1e3, 1e3), st.sampled_from([1e-3, 5.0, 1e4]))
def test_least_squares_and_correlation_follow_shifts_and_scales(seed, shift, by):
    rng = np.random.default_rng(seed)
    data = pl.DataFrame({"y": rng.normal(size=20), "x": rng.normal(size=20), "f": list("abcd") * 5})
    fit = stats.ols("y ~ x + f", data)
    other = stats.ols(
        "y ~ x + f", data.with_columns(y=(pl.col("y") + shift) * by).sample(fraction=1, shuffle=True, seed=1)
    )
    # y + 1e3 leaves 13 of y's digits
    np.testing.assert_allclose(other.beta[1:], fit.beta[1:] * by, rtol=1e-9, atol=1e-9 * by)
    np.testing.assert_allclose([other.f, other.r_squared], [fit.f, fit.r_squared], rtol=1e-9)
    np.testing.assert_allclose(fit.predict(data), fit.fitted, rtol=1e-12, atol=1e-12)
    r = stats.cor_test(data["x"], data["y"])
    moved = stats.cor_test(data["x"] * by + shift, data["y"])
    np.testing.assert_allclose(moved.r, r.r, rtol=1e-7, atol=1e-9)


def test_columns_too_large_to_square_still_correlate():
    x = np.array([1.0, 2.0, 4.0]) * 1e200
    np.testing.assert_allclose(stats.cor_test(x, x * 1e90 + [0, 1e290, 0]).r, stats.cor_test([1, 2, 4], [1, 3, 4]).r)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: stats.ols("y ~ x + (1 | g)", TABLES["none"]), "no random effects"),
        (lambda: stats.ols("y ~ x", TABLES["none"].head(2)), "Give more rows, or fewer effects"),
        (lambda: stats.ols("y ~ x", TABLES["none"].with_columns(y=pl.lit(1.0))), "does not vary"),
        (lambda: stats.ols("y ~ x", TABLES["none"]).predict(pl.DataFrame({"z": [1.0]})), "no column 'x'"),
        (
            lambda: stats.ols("y ~ recipe", TABLES["crossed"]).predict(pl.DataFrame({"recipe": ["Z"]})),
            "recipe has a level that is not in the fitted data: Z",
        ),
        (lambda: stats.cor_test([1, 2, 3], [1, 2]), "needs pairs"),
        (lambda: stats.cor_test([1, 2, None], [1, 2, 3]), "3 or more complete pairs; there are 2"),
        (lambda: stats.cor_test([1, 1, 1], [1, 2, 3]), "x does not vary"),
        (lambda: stats.cor_test(["a", "b", "c"], [1, 2, 3]), "x is not numeric"),
        (lambda: stats.classical_mds([[0, 1], [2, 0]], k=1), "not symmetric"),
        (lambda: stats.classical_mds([[0, 1, 1]], k=1), "square matrix"),
        (lambda: stats.classical_mds([[1.0, 1], [1, 0]], k=1), "0 on the diagonal"),
        (lambda: stats.classical_mds(np.abs(np.subtract.outer([0, 1, 3], [0, 1, 3])), k=2), "span 1 dimensions only"),
        (lambda: stats.classical_mds([[0, 1], [1, 0]], k=2), "1 to 1 dimensions"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(StatisticsError) as caught:
        call()
    assert words in str(caught.value)

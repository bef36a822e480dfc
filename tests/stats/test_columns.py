"""How the columns of a table are read: by position, digit by digit, and only where the formula names them."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway import stats
from headway.errors import StatisticsError
from headway.stats.columns import Table, as_factor

# By position ----------------------------------------------------------------------------------------------------

ALIKE = pl.DataFrame(
    {
        "g": ["y1", "y1", "y2", "y2", "y3", "y3", "y1", "y2", "y3"] * 4,
        "gy2": [0.0, 1, 2, 0, 1, 2, 3, 4, 5] * 4,
        "x": np.random.default_rng(2).uniform(size=36),
        "h": [h for h in "abcd" for _ in range(9)],
    }
).with_columns(y=pl.Series(np.random.default_rng(1).normal(size=36)) + pl.col("gy2") + 2 * (pl.col("g") == "y2"))


@pytest.mark.parametrize(
    ("fit", "formula"),
    [
        (stats.ols, "y ~ g + gy2"),
        (stats.lmm, "y ~ g + gy2 + (1 | h)"),
        (stats.lmm, "y ~ 1 + (0 + g | h) + (0 + gy2 | h)"),
        (stats.gam, "y ~ g + gy2 + s(x, k=4)"),
    ],
)
def test_a_level_and_a_column_of_one_name_are_kept_apart(fit, formula):
    found = fit(formula, ALIKE)
    # the same sums in another order: rounding
    np.testing.assert_allclose(found.predict(ALIKE), found.fitted, atol=1e-12)


def test_a_summary_shows_the_correlations_of_effects_of_one_name():
    data = pl.concat([ALIKE, ALIKE.with_columns(pl.col("y") + pl.col("x"))])
    formula = "y ~ 1 + (g + gy2 | h)"
    plain = stats.lmm(formula.replace("gy2", "zzz"), data.rename({"gy2": "zzz"})).summary()
    assert stats.lmm(formula, data).summary() == plain.replace("zzz", "gy2")


def test_terms_of_one_group_and_a_group_called_like_the_second_of_them_are_told_apart():
    data = ALIKE.rename({"h": "g.1", "g": "k"}).with_columns(g=pl.col("k"))
    fit = stats.lmm("y ~ x + (1 | g) + (0 + x | g) + (1 | g.1)", data)
    assert sorted(term.name for term in fit.terms) == sorted(fit.covariances) == ["g", "g.1", "g.2"]


def test_two_smooths_of_one_name_cannot_be_told_apart_by_it():
    data = ALIKE.with_columns(g=pl.col("g").replace("y3", "y1"))
    fit = stats.gam("y ~ g + s(x, by=g, k=3) + s(x, by=gy2, k=3)", data)
    assert fit.smooths["term"].to_list().count("s(x):gy2") == 2
    with pytest.raises(StatisticsError, match=r"2 smooths called 's\(x\):gy2'"):
        fit.derivative(data, "s(x):gy2")


# Constants ------------------------------------------------------------------------------------------------------

PI = pl.DataFrame({"pi": [1.0, 2, 3, 4, 5, 6], "y": [2.1, 3.9, 6.2, 8.1, 9.8, 12.2]})


def test_a_column_hides_a_constant():
    fit = stats.ols("y ~ pi", PI)
    np.testing.assert_allclose(fit.beta, [0.04, 2.002857142857], rtol=1e-10)  # R: coef(lm(y ~ pi))
    np.testing.assert_allclose(fit.predict(PI.head(2)), fit.fitted[:2], rtol=1e-14)
    with pytest.raises(StatisticsError, match="no column 'pi'"):
        fit.predict(pl.DataFrame({"x": [1.0]}))


def test_without_such_a_column_pi_is_the_constant_in_new_rows_too():
    data = PI.rename({"pi": "x"})
    fit = stats.ols("y ~ I(x * pi)", data)
    np.testing.assert_allclose(fit.beta[1], 2.002857142857 / np.pi, rtol=1e-10)
    new = data.with_columns(pi=pl.lit(0.0))  # the fit has read no column of this name
    np.testing.assert_allclose(fit.predict(new), fit.fitted, rtol=1e-14)


def test_true_is_a_word_of_the_language_and_hidden_by_no_column():
    data = PI.with_columns(TRUE=pl.lit(0.0))
    fit = stats.ols("y ~ scale(pi, scale = FALSE, center = TRUE)", data)
    np.testing.assert_allclose(fit.beta, [7.05, 2.002857142857], rtol=1e-10)
    assert stats.ols("y ~ `TRUE` + pi", data).dropped == ("`TRUE`",)


# Identifiers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [2**53, 10**16 + 1, 2**63 + 5, -(2**60), 123_456_789_012_345],
    ids=["2**53", "1e16", "unsigned", "negative", "15 digits"],
)
def test_integers_group_as_their_text_does(first):
    rng = np.random.default_rng(0)
    ids = [first + k for k in range(12) for _ in range(4)]
    y = rng.normal(size=12).repeat(4) + rng.normal(size=48)
    numbers = pl.DataFrame({"id": ids, "y": y, "x": rng.normal(size=48)})
    text = numbers.with_columns(pl.col("id").cast(pl.String))
    for formula in ("y ~ x + (1 | id)", "y ~ x + (1 | factor(id))"):
        one, other = stats.lmm(formula, numbers), stats.lmm(formula, text)
        assert list(one.n_groups.values()) == [12]
        np.testing.assert_allclose(one.criterion, other.criterion, rtol=1e-12)
        np.testing.assert_allclose(one.predict(numbers), one.fitted, atol=1e-12)
        np.testing.assert_allclose(one.predict(text), one.fitted, atol=1e-12)  # the same levels in words
        assert set(one.ranef["level"]) == set(map(str, ids))
    one, other = stats.ols("y ~ factor(id) + x", numbers), stats.ols("y ~ id + x", text)
    np.testing.assert_allclose(one.rss, other.rss, rtol=1e-12)
    np.testing.assert_allclose(one.predict(numbers), one.fitted, atol=1e-12)


def test_pandas_integers_with_missing_values_keep_their_digits():
    ids = pd.array([2**53 + k if k < 4 else None for k in range(5) for _ in range(3)], dtype="Int64")
    data = pd.DataFrame({"id": ids, "y": np.random.default_rng(0).normal(size=15)})
    fit = stats.lmm("y ~ 1 + (1 | id)", data)
    assert (fit.n_groups, fit.frame.n_dropped) == ({"id": 4}, 3)


def test_an_identifier_beyond_float64_is_compared_digit_by_digit():
    data = pl.DataFrame({"id": [2**53, 2**53 + 1] * 3, "y": [1.0, 5, 2, 6, 3, 7]})
    np.testing.assert_allclose(stats.ols('y ~ id == "9007199254740993"', data).beta, [2, 4], rtol=1e-12)


def test_levels_of_floats():
    """R: levels(factor(c(1234567890123456, 1234567890123457))) has two, nlevels(factor(c(0.1 + 0.2, 0.3))) is 1."""
    whole = as_factor(np.array([1234567890123457.0, 1234567890123456.0, np.nan, -0.0, 0.0]))
    assert whole.levels == ("0", "1234567890123456", "1234567890123457")
    assert whole.codes.tolist() == [2, 1, -1, 0, 0]
    fractions = as_factor(np.array([0.1 + 0.2, 0.5, 0.3]))
    assert (fractions.codes.tolist(), fractions.levels) == ([0, 1, 0], ("0.3", "0.5"))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**70), 2**70).map(float))))
def test_no_two_levels_of_numbers_are_alike(numbers):
    factor = as_factor(np.array(numbers, dtype=float))
    assert len(set(factor.levels)) == len(factor.levels)
    assert set(factor.codes.tolist()) == set(range(len(factor.levels)))
    np.testing.assert_allclose([float(factor.levels[code]) for code in factor.codes], numbers, rtol=1e-14)


def test_interactions_whose_labels_would_be_alike_are_different_groups():
    a, b = ["x:y"] * 6 + ["x"] * 6, ["z"] * 6 + ["y:z"] * 6
    y = np.r_[np.arange(6.0), 10 + np.arange(6.0) ** 1.1]
    data = pl.DataFrame({"a": a + ["u"] * 6, "b": b + ["z"] * 6, "y": np.r_[y, 3 * np.arange(6.0)]})
    fit = stats.lmm("y ~ 1 + (1 | a:b)", data)
    plain = data.with_columns(a=pl.col("a").replace({"x:y": "p", "x": "q"}), b=pl.col("b").replace("y:z", "r"))
    assert fit.n_groups == {"a:b": 3}
    np.testing.assert_allclose(fit.criterion, stats.lmm("y ~ 1 + (1 | a:b)", plain).criterion, rtol=1e-12)
    np.testing.assert_allclose(fit.predict(data), fit.fitted, atol=1e-12)
    assert set(fit.ranef["level"]) == {"u:z", 'x:"y:z"', '"x:y":z'}
    with pytest.raises(StatisticsError, match=r"a:b has levels that are not in the fitted data \(x:z\)"):
        fit.predict(pl.DataFrame({"a": ["x"], "b": ["z"]}))


# Only what the formula names --------------------------------------------------------------------------------------


def test_a_column_that_the_formula_does_not_name_is_not_read():
    data = {"y": [1.0, 2, 3, 4.5], "x": [1.0, 2, 3, 4], "seed": [1, 1, "a", "a"], "when": [object()] * 4}
    for table in (data, pd.DataFrame(data)):
        fit = stats.ols("y ~ x", table)
        np.testing.assert_allclose(fit.beta, [-0.25, 1.15], rtol=1e-12)  # R: coef(lm(y ~ x))
        np.testing.assert_allclose(fit.predict(table), fit.fitted, rtol=1e-12)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([1, 1, "a", "a"], r"column 'seed' cannot be read: it holds values of different types \(int, str\)"),
        (["a", 2.5, "b", None], r"values of different types \(float, str\)"),
        ([object()] * 4, "column 'seed' "),
        ([10**40, 1, 2, 3], "column 'seed' "),
        (pd.Categorical([1, "1", "a", "a"]), "column 'seed' has two categories that are written '1'"),
        (pd.to_datetime(["2020-01-01"] * 4), "column 'seed' is of type Datetime"),
    ],
)
def test_a_named_column_that_cannot_be_read_is_refused_by_name(column, words):
    with pytest.raises(StatisticsError, match=words) as caught:
        stats.ols("y ~ seed", pd.DataFrame({"y": [1.0, 2, 3, 4.5], "seed": column}))
    assert str(caught.value).endswith("y ~ seed\n        ^")


def test_two_pandas_columns_of_one_name_are_refused_where_they_are_named():
    data = pd.DataFrame([[1.0, 1, 2], [2, 2, 1], [4, 3, 5]], columns=["y", "x", "x"])
    assert stats.ols("y ~ 1", data).n_obs == 3
    with pytest.raises(StatisticsError, match="2 columns called 'x'"):
        stats.ols("y ~ x", data)


def test_a_list_of_whole_and_other_numbers_is_numbers():
    assert stats.ols("y ~ x", {"y": [1.0, 2, 4, 9], "x": [1, 2.5, None, 4]}).n_obs == 3


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(StatisticsError, match="column 'x' has 2 values, and another has 3"):
        stats.ols("y ~ x", {"y": [1.0, 2, 4], "x": [1.0, 2]})


def test_a_missing_value_in_a_pandas_categorical_is_a_dropped_row():
    data = pd.DataFrame({"y": [1.0, 2, 4, 3, 5, 7], "f": ["a", "b", "a", "b", pd.NA, "a"]})
    data["f"] = data["f"].astype("string").astype("category")
    fit = stats.ols("y ~ f", data)
    np.testing.assert_allclose(fit.beta, [4, -1.5], rtol=1e-12)  # R: coef(lm(y ~ f)), with NA for the fifth
    assert fit.x.names == ("(Intercept)", "fb")
    assert fit.notices == ("1 row of 6 dropped for a missing value",)
    assert np.isnan(fit.predict(data)[4])


def test_pandas_categories_are_named_as_columns_of_their_type_are():
    codes = pd.Categorical([10.0, 2.5, 10.0]), pd.Categorical([True, False, True]), pd.Categorical([2, 10, 2])
    levels = [Table({"c": column}).column("c").levels for column in codes]
    assert levels == [("2.5", "10"), ("FALSE", "TRUE"), ("2", "10")]

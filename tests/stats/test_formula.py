"""Formulas against R's names and orders, and what a typo is told."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import support_stats
from headway import stats
from headway.errors import StatisticsError
from headway.stats.columns import Table
from headway.stats.contrasts import polynomials
from headway.stats.formula import Bar, Smooth, parse
from headway.stats.model_frame import model_frame, without_collinear
from headway.stats.random_effects import random_terms

R = json.loads((Path(__file__).parent / "r" / "mixed_models.json").read_text())
TABLES = {name: support_stats.frame(columns) for name, columns in R["tables"].items()}


@pytest.mark.parametrize("case", R["columns"], ids=lambda case: case["formula"])
def test_columns_have_the_names_and_order_of_model_matrix(case):
    formula = parse(case["formula"])
    frame = model_frame(formula, TABLES["crossed"])
    assert list(frame.design(formula.intercept, formula.terms).names) == case["names"]


@pytest.mark.parametrize("case", R["random_order"], ids=lambda case: case["formula"])
def test_random_terms_stand_in_the_order_of_lme4(case):
    terms = random_terms(model_frame(parse(case["formula"]), support_stats.frame(R["ordered"])))
    assert [term.bar.group_name for term in terms] == case["groups"]
    assert [list(term.effects) for term in terms] == case["effects"]


def test_formulas_are_parsed():
    formula = parse('log10(y) ~ a*x + s(z, k=5) + s(w, by=a, bs="cr") + (x || g) + (1 | a/b)')
    assert str(formula.response) == "log10(y)"
    assert formula.terms == (("a",), ("x",), ("a", "x"))
    assert formula.smooths == (Smooth(("z",), k=(5,)), Smooth(("w",), bs=("cr",), by="a"))
    assert [smooth.label for smooth in formula.smooths] == ["s(z)", "s(w):a"]
    assert formula.bars == (
        Bar(True, (), ("g",)),
        Bar(False, (("x",),), ("g",)),
        Bar(True, (), ("b", "a")),
        Bar(True, (), ("a",)),
    )


@pytest.mark.parametrize(
    ("formula", "words", "at"),
    [
        ("y ~ x +", "the formula ends where a column", 7),
        ("y ~ x + (1 | g", "the formula ends where ')'", 14),
        ("y x", "has 'x' where an operator", 2),
        ("y ~ X1", "no column 'X1'", 4),
        ("y ~ recpe", "did you mean recipe?", 4),
        ("y ~ lg(x)", "calls lg()", 4),
        ("y ~ x + x | g", "stands in parentheses", 10),
        ("y ~ s(x, kk=3)", "no option 'kk'", 12),
        ("y ~ log(recipe)", "holds text where numbers are needed", 8),
        ("y ~ x^0.5", "whole number", 6),
        ("~ x", "no response", 0),
        ("y ~ 2 + x", "2 is not a term", 4),
        ("recipe ~ x", "the response recipe is not numeric", 0),
        ("y ~ x $ z", "'$'", 6),
        ("y ~ (1 | g) * x", "can only be added", 4),
        ("y ~ t2(x, z)", "not supported", 4),
        ("y ~ I(x:z)", "':' cannot be computed", 7),
        ("y ~ x ~ z", "'~' cannot be computed", 2),
        ("y ~ scale(x, z, 3)", "scale() takes one column", 4),
        ("y ~ __import__('os')", "calls __import__()", 4),
    ],
)
def test_a_mistake_is_pointed_at(formula, words, at):
    with pytest.raises(StatisticsError) as caught:
        model_frame(parse(formula), TABLES["crossed"])
    message, text, mark = str(caught.value).splitlines()
    assert words in message
    assert text.strip() == formula
    assert mark == " " * (4 + at) + "^"


def test_missing_rows_are_dropped_and_counted():
    data = pl.DataFrame(
        {"y": [1.0, None, 3.0, 4.0, 5.0], "x": [1.0, 2.0, float("nan"), 4.0, 0.5], "f": ["a", "b", "c", None, "b"]}
    )
    frame = model_frame(parse("y ~ x + f"), data)
    assert frame.rows.tolist() == [0, 4]
    assert frame.n_dropped == 3
    assert frame.values["f"].levels == ("a", "b")  # the level that only a dropped row had is gone
    assert frame.notices == ("3 rows of 5 dropped for a missing value",)


def test_a_logarithm_of_a_negative_number_is_missing_and_said_so_and_of_zero_an_error():
    data = pl.DataFrame({"y": [1.0, 2.0, 4.0], "x": [-1.0, 1.0, 2.0], "z": [0.0, 1.0, 2.0]})
    frame = model_frame(parse("y ~ log(x)"), data)
    assert frame.n_dropped == 1
    assert "log(x) is not a number in 1 row" in frame.notices[0]
    with pytest.raises(StatisticsError, match=r"log10\(z\) is infinite in 1 row \(first: row 0"):
        model_frame(parse("y ~ log10(z)"), data)


def test_pandas_polars_and_categorical_columns_give_the_same_matrix():
    pd = pytest.importorskip("pandas")
    levels = ["lo", "mid", "hi"]
    words = ["mid", "lo", "hi", "lo", "mid", "hi"]
    plain = {"y": np.arange(6.0), "x": [1, 2, 4, 3, 5, 9], "b": [True, False] * 3}
    frames = (
        pl.DataFrame(plain).with_columns(f=pl.Series(words, dtype=pl.Enum(levels))),
        pd.DataFrame(plain).assign(f=pd.Categorical(words, categories=levels)),
    )
    designs = []
    for data in frames:
        formula = parse("y ~ f * x + b")
        designs.append(model_frame(formula, data).design(formula.intercept, formula.terms))
    assert designs[0].names == ("(Intercept)", "fmid", "fhi", "x", "bTRUE", "fmid:x", "fhi:x")
    assert designs[0].names == designs[1].names
    np.testing.assert_array_equal(designs[0].matrix, designs[1].matrix)


def test_scale_remembers_the_fitted_rows():
    formula = parse("y ~ scale(x)")
    data = pl.DataFrame({"y": [1.0, 2.0, 3.0], "x": [1.0, 2.0, 6.0]})
    frame = model_frame(formula, data)
    new = frame.of_new(Table(pl.DataFrame({"x": [3.0]})), ["scale(x)"])["scale(x)"]
    np.testing.assert_allclose(new, 0.0, atol=1e-15)  # 3 is the mean of the rows that were fitted
    np.testing.assert_allclose(frame.values["scale(x)"].std(ddof=1), 1.0)


def test_collinear_columns_are_the_later_ones():
    data = pl.DataFrame({"y": np.arange(6.0), "a": [1.0, 2, 3, 5, 8, 13], "b": [1.0, 0, 2, 1, 0, 3]})
    formula = parse("y ~ a + b + I(2*a - b) + I(a^2)")
    kept, dropped = without_collinear(model_frame(formula, data).design(formula.intercept, formula.terms))
    assert dropped == ("I(2 * a - b)",)
    assert kept.names == ("(Intercept)", "a", "b", "I(a^2)")


def test_an_ordered_factor_is_coded_by_polynomials():
    """R: coef(lm(y ~ of)) with of <- factor(…, levels = c("lo", "mid", "hi"), ordered = TRUE)."""
    pd = pytest.importorskip("pandas")
    words = ["lo", "lo", "mid", "mid", "hi", "hi"]
    of = pd.Categorical(words, categories=["lo", "mid", "hi"], ordered=True)
    data = pd.DataFrame({"y": [1.0, 2, 4, 5, 9, 10], "of": of})
    fit = stats.ols("y ~ of", data)
    assert fit.x.names == ("(Intercept)", "of.L", "of.Q")
    np.testing.assert_allclose(fit.beta, [31 / 6, 4 * 2**0.5, (2 / 3) ** 0.5], rtol=1e-12)
    np.testing.assert_allclose(fit.predict(data.assign(of=words)), fit.fitted, rtol=1e-12)  # new rows need no order
    enum = pl.DataFrame({"y": data["y"].to_numpy(), "of": pl.Series(words, dtype=pl.Enum(["lo", "mid", "hi"]))})
    np.testing.assert_allclose(stats.ols("y ~ ordered(of)", enum).beta, fit.beta, rtol=1e-12)
    assert stats.ols("y ~ of", enum).x.names == ("(Intercept)", "ofmid", "ofhi")


def test_polynomials_of_many_levels_are_orthonormal_and_of_too_many_are_refused():
    contrasts, suffixes = polynomials("f", 95)
    whole = np.column_stack([np.full(95, 95**-0.5), contrasts])
    np.testing.assert_allclose(whole.T @ whole, np.eye(95), atol=1e-12)
    assert suffixes[:4] + suffixes[-1:] == [".L", ".Q", ".C", "^4", "^94"]
    with pytest.raises(StatisticsError, match="f is an ordered factor with 96 levels"):
        polynomials("f", 96)

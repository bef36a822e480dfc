"""Fits, results and suites show themselves in one line, and as a summary in a notebook."""

import numpy as np
import polars as pl
import pytest

import headway
from headway import stats
from headway.studies import Result

DRAW = np.random.default_rng(0)
FRAME = pl.DataFrame({"y": DRAW.normal(size=60), "x": DRAW.normal(size=60), "g": [f"<{n % 6}>" for n in range(60)]})


@pytest.mark.parametrize(
    ("fit", "line"),
    [
        (lambda: stats.lmm("y ~ x + (1 | g)", FRAME), "<MixedModel y ~ x + (1 | g): 60 observations>"),
        (lambda: stats.ols("y ~ x", FRAME), "<LinearModel y ~ x: 60 observations>"),
        (lambda: stats.gam("y ~ s(x)", FRAME), "<AdditiveModel y ~ s(x): 60 observations>"),
    ],
)
def test_a_fit(fit, line):
    fitted = fit()
    assert repr(fitted) == line
    shown = fitted._repr_html_()
    assert shown.startswith("<pre>")
    assert "Intercept" in shown
    assert "<0>" not in shown  # names of levels come from data


def test_a_result():
    result = Result("development", "prev")
    result.find("growth", "rises", "It rises <b>", "From 1 to 2.")
    assert repr(result) == "<Result development/prev: 1 finding, 0 tables>"
    assert "<li><b>It rises &lt;b&gt;</b> From 1 to 2.</li>" in result._repr_html_()


def test_a_suite():
    suite = headway.open_suite("pythia")
    assert repr(suite) == "<Suite pythia: 10 runs>"
    assert "70m" in suite._repr_html_()

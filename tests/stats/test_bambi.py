"""What is handed to bambi: its own formula parser must build the design that headway fits."""

import numpy as np
import polars as pl
import pytest

from headway import stats
from headway.errors import StatisticsError
from headway.stats.formula import parse
from headway.stats.lmm import lmm


def data():
    rng = np.random.default_rng(4)
    n = 60
    return pl.DataFrame(
        {
            "y": rng.normal(size=n),
            "n_params": rng.uniform(1e7, 1e9, n),
            "x": [None, *rng.normal(size=n - 1)],
            "f": [["a", "b", "c"][i % 3] for i in range(n)],
            "g": [f"g{i % 6}" for i in range(n)],
            "h": [i % 5 for i in range(n)],
        }
    )


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ log10(n_params) + (1 | g)",
        "y ~ log10(n_params) * f + I(x^2) + (x | g)",
        "exp(y) ~ poly(x, 2) + f + (x || g) + (1 | h)",
        "y ~ 0 + f + (1 | f:h)",
    ],
)
def test_formulae_reads_the_same_fixed_and_random_parts(formula):
    """Columns may be coded or ordered otherwise, so the spaces that they span are compared."""
    from formulae import design_matrices

    bridge = stats.to_bambi(formula, data())
    read = design_matrices(bridge.formula, bridge.data.to_pandas())
    fit = lmm(formula, data())
    theirs, ours = np.asarray(read.common.design_matrix), fit.x.matrix
    assert np.linalg.matrix_rank(np.hstack([theirs, ours])) == theirs.shape[1] == ours.shape[1]
    assert read.response.design_matrix.ravel() == pytest.approx(fit.frame.y)
    effects = sum(len(bar.terms) + bar.intercept for bar in parse(formula).bars)
    assert len(read.group.terms) == effects
    assert len(bridge.data) == fit.n_obs


def test_groups_and_names_are_plain():
    bridge = stats.to_bambi("log10(n_params) ~ x + (1 | g:h)", data())
    assert bridge.formula == "log10_n_params ~ 1 + x + (1|g_h)"
    assert bridge.data["g_h"].dtype == pl.String


def test_smooths_are_refused():
    with pytest.raises(StatisticsError, match="to_bambi has no smooth terms"):
        stats.to_bambi("y ~ s(x)", data())

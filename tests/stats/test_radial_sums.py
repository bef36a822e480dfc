"""The thin-plate basis is summed by steps from point to point: it must be the plain sum."""

import numpy as np
import pytest

from headway.stats.smooths import ThinPlate, radial_sums

RADIAL = {
    0: lambda d: np.abs(d) ** 3 / 12,
    1: lambda d: d * np.abs(d) / 4,
    2: lambda d: np.abs(d) / 2,
}


@pytest.mark.parametrize("order", RADIAL)
def test_sums_equal_the_product_of_matrices_in_extended_precision(order):
    """At points between, at and beyond the knots. 1e-10 of a column's largest value: the plain product errs by 6e-12."""
    rng = np.random.default_rng(0)
    basis = ThinPlate.of(rng.uniform(size=2500), 40)  # more unique values than knots
    x = np.sort(np.concatenate([rng.uniform(-0.7, 0.7, 200), basis.knots[::50]]))
    exact = RADIAL[order]((x[:, None] - basis.knots).astype(np.longdouble)) @ basis.weights.astype(np.longdouble)
    error = np.abs(radial_sums(x, basis.knots, basis.weights, order) - exact).max(axis=0)
    assert (error / np.abs(exact).max(axis=0)).max() < 1e-10


def test_the_partial_decomposition_equals_the_full_one():
    """Of 300 knots the leading pairs are computed from sums; numpy's eigenvalues are the reference."""
    x = np.sort(np.random.default_rng(1).uniform(size=300))
    basis = ThinPlate.of(x, 10)
    centred = x - x.mean()
    values = np.linalg.eigvalsh(RADIAL[0](centred[:, None] - centred))
    leading = np.sort(values[np.argsort(-np.abs(values))[:10]])[::-1]
    from headway.stats.smooths import _leading_eigen

    assert _leading_eigen(basis.knots, 10)[0] == pytest.approx(
        leading, rel=1e-9
    )  # 1e-15 of the largest, 1e-5 of the least

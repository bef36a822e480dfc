"""Power from a pilot: against the noncentral t distribution, against tests of simulated studies one by one, and on bad input."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import nct, t

from headway import options
from headway.errors import UsageError
from headway.studies.development.power import power
from headway.studies.development.robust import line_over_sizes, line_tests
from headway.studies.result import Result

SIZES = {"14m": 1.4e7, "70m": 7.0e7, "160m": 1.6e8, "410m": 4.1e8}


def pilot(values, sizes=SIZES):
    """A result whose runs have the given peaks: {size: values}."""
    rows = [
        {"model": f"toy-{size}", "size": size, "n_params": int(sizes[size]), "max_attn": float(y), "run": f"{size}-{i}"}
        for size, own in values.items()
        for i, y in enumerate(own)
    ]
    runs = pl.DataFrame(rows)
    onset, slopes = runs.with_columns(m_step=10 ** pl.col("max_attn")), runs.with_columns(estimate="max_attn")
    return Result("development", "toy", {}, {"peaks": runs, "onset": onset, "slopes": slopes}, [], [])


def spread(mean, sd, n=6):
    """n values with exactly this mean and standard deviation."""
    z = np.linspace(-1, 1, n)
    return mean + sd * z / z.std(ddof=1)


def test_two_sizes_have_the_power_of_the_t_test():
    result = pilot({"14m": spread(0, 1), "70m": spread(1, 1)})
    found = power(result, "peak 14m 70m", (4, 16, 30), 4000, 1)
    for n, simulated in found.table.drop_nulls().select("seeds", "power").rows():
        df, shift = 2 * n - 2, np.sqrt(n / 2)
        cut = t.ppf(0.975, df)
        exact = nct.sf(cut, df, shift) + nct.cdf(-cut, df, shift)
        # 4,000 simulations have a standard error of 0.8 points; Welch's test loses up to two points at 4 of each size
        assert simulated == pytest.approx(exact, abs=0.03)
    assert found.effect == pytest.approx(1)
    assert found.table["power"][-1] == 1  # without end of seeds any difference is found


def test_a_line_over_sizes_that_scatter_only_by_their_runs():
    means = {size: spread(2 * np.log10(n), 1) for size, n in SIZES.items()}
    found = power(pilot(means), "peak by size", (3, 9), 4000, 2)
    assert found.size_sd == pytest.approx(0, abs=1e-9)
    assert found.run_sd == pytest.approx(1)
    assert found.effect == pytest.approx(2)
    # the same studies simulated run by run, and tested as the report does
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(400):
        rows = [
            {"model": s, "size": s, "n_params": int(n), "y": y}
            for s, n in SIZES.items()
            for y in 2 * np.log10(n) + rng.normal(size=3)
        ]
        hits.append(line_over_sizes(pl.DataFrame(rows))["p"] <= 0.05)
    assert found.table["power"][0] == pytest.approx(
        np.mean(hits), abs=0.08
    )  # 400 studies: two standard errors are 5 points


def test_without_an_effect_the_power_is_the_level_at_most():
    x = np.log10(np.array(list(SIZES.values())))
    dx = x - x.mean()
    flat = np.array([0.5, -0.5, -0.5, 0.5])
    flat = flat - dx * (dx @ flat) / (dx @ dx)
    means = dict(zip(SIZES, (spread(y, 0.5) for y in flat), strict=True))
    found = power(pilot(means), "peak by size", (3, 30), 4000, 4)
    assert found.effect == pytest.approx(0, abs=1e-12)
    # Without the scatter of runs the test is the usual t test: 5%, and 4,000 simulations have an error of 0.35 points. With
    # few seeds it is cautious, because the error is never below what runs alone give.
    assert (found.table["power"].to_numpy() < 0.064).all()
    assert found.table["power"][-1] == pytest.approx(0.05, abs=0.014)


def test_the_power_has_a_limit_where_sizes_scatter():
    rng = np.random.default_rng(5)
    means = {size: spread(np.log10(n) + rng.normal(), 0.2) for size, n in SIZES.items()}
    found = power(pilot(means), "peak by size", (3, 30, 300), 2000, 6)
    assert found.size_sd > 0.3
    assert np.ptp(found.table["power"].to_numpy()) < 0.06  # seeds do not help: four standard errors
    assert any("only more sizes can" in said for said in found.sentences)


def test_many_lines_at_once_are_least_squares():
    x, y = np.log10(np.array(list(SIZES.values()))), np.random.default_rng(0).normal(size=(5, 4))
    slope, error, p = line_tests(x, y, np.zeros(5))
    from headway import stats

    for row in range(5):
        fit = stats.ols("y ~ x", pl.DataFrame({"x": x, "y": y[row]})).coefficients.row(1)
        np.testing.assert_allclose(
            [slope[row], error[row], p[row]], [fit[1], fit[2], fit[4]], rtol=1e-10
        )  # one formula


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("size", "must begin with one of onset, peak, slope"),
        ("", "must begin with one of"),
        ("peak by seed", "or name two of the pilot's sizes"),
        ("peak 14m 14m", "or name two of the pilot's sizes"),
        ("peak by size", "a line over sizes needs at least three"),
    ],
)
def test_a_question_that_cannot_be_read_is_named(question, words):
    with pytest.raises(UsageError, match=words):
        power(pilot({"14m": spread(0, 1), "70m": spread(1, 1)}), question, (3,), 100, 0)


def test_one_run_of_each_size_is_no_pilot():
    lonely = {size: [float(i)] for i, size in enumerate(SIZES)}
    with pytest.raises(UsageError, match="one run of each size"):
        power(pilot(lonely), "peak by size", (3,), 100, 0)
    with pytest.raises(UsageError, match="too few runs of 14m or 70m"):
        power(pilot(lonely), "peak 14m 70m", (3,), 100, 0)


def test_ranges_of_numbers_are_read():
    assert options.SEED_COUNTS.parse("3..5,9") == (3, 4, 5, 9)
    for text in ("3..", "a..4", "3...5", "-1"):
        with pytest.raises(UsageError, match="whole numbers and ranges"):
            options.SEED_COUNTS.parse(text)
    assert len(options.SEED_COUNTS.parse("1..999999999")) < 20_000  # a slip does not fill the memory

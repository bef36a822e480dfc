"""Sizes as units: planted relations are found, and where there is none the robust line says so at its level."""

import numpy as np
import polars as pl
import pytest

from headway import stats
from headway.store.directory import RunDirectory
from headway.studies import STUDIES
from headway.studies.development.mixed import fixed_line
from headway.studies.development.robust import growth_over_sizes, line_at, line_checks, line_over_sizes, without_one
from support_studies import heads_table, write_heads

N_PARAMS = (14_000_000, 70_000_000, 160_000_000, 410_000_000)
PUBLISHED = "y ~ log10(n_params) + (1 | seed_name)"


def planted(random, *, slope=0.0, size_sd=0.0, seeds=9, sizes=N_PARAMS) -> pl.DataFrame:
    """Runs with a scatter of 1 about their sizes, which scatter about a line."""
    parts = [
        pl.DataFrame(
            {
                "model": f"m{place}",
                "size": f"s{place}",
                "n_params": n_params,
                "seed_name": [f"seed{seed}" for seed in range(seeds)],
                "y": slope * np.log10(n_params) + size_sd * random.normal() + random.normal(size=seeds),
            }
        )
        for place, n_params in enumerate(sizes)
    ]
    return pl.concat(parts)


def rejections(n, **how) -> tuple[int, int]:
    """How often the robust and the published line find a relation."""
    random = np.random.default_rng(1)
    sets = [planted(random, **how) for _ in range(n)]
    published = (stats.lmm(PUBLISHED, one).fixed["p"][1] for one in sets)
    return sum(line_over_sizes(one)["p"] < 0.05 for one in sets), sum(p < 0.05 for p in published)


def test_where_sizes_scatter_the_robust_line_holds_its_level_and_the_published_does_not():
    robust, published = rejections(300, size_sd=1.0)
    assert robust <= 26  # 5 % of 300 are 15; three binomial standard errors more are 26
    assert published >= 100  # half of the sets; that the simulation would show a wrong level


def test_where_sizes_do_not_scatter_the_robust_line_is_cautious():
    assert rejections(150)[0] <= 8  # at 5 %, 7.5; measured are 0 of 300


def test_a_planted_relation_is_found():
    # the slope's standard error is 0.31 with these sizes and seeds, t has 2 degrees of freedom
    assert rejections(60, slope=4.0)[0] >= 55


def test_it_is_the_mixed_model_with_a_random_size():
    random = np.random.default_rng(3)
    frame = planted(random, size_sd=2.0, slope=1.0)
    mixed = stats.lmm(f"{PUBLISHED} + (1 | model)", frame).fixed.row(1, named=True)
    robust = line_over_sizes(frame)
    # equal in balanced data where the variance of sizes is above 0, up to the optimiser's tolerance
    for name in ("estimate", "std_error", "df", "p"):
        assert robust[name] == pytest.approx(mixed[name], rel=1e-4)


def test_sizes_that_lie_on_a_line_by_luck_have_the_error_of_their_runs():
    y = np.concatenate([mean + np.array([-1.0, 0, 1]) for mean in (1.0, 2.0, 3.0)])
    names = np.repeat(["a", "b", "c"], 3)
    frame = pl.DataFrame({"model": names, "size": names, "n_params": np.repeat([10, 100, 1000], 3), "y": y})
    # the means lie on the line exactly; a mean's variance by its runs is 1/3, and the sum of squares of x is 2
    assert line_over_sizes(frame)["std_error"] == pytest.approx(np.sqrt(1 / 6))


def test_the_drawn_band_is_that_of_least_squares_on_the_sizes_means():
    frame = planted(np.random.default_rng(3), size_sd=2.0, slope=1.0)
    means = frame.group_by("n_params", maintain_order=True).agg(pl.col("y").mean())
    x = np.array([7.0, 8.0, 9.0])
    expected = fixed_line(stats.ols("y ~ log10(n_params)", means), 2, x)  # sizes scatter by more than their runs give
    found = line_at(frame, x)
    for name in ("fit", "lower", "upper"):
        assert found[name].to_list() == pytest.approx(expected[name].to_list(), rel=1e-9)  # rounding alone


def test_the_figures_line_is_the_one_that_sentences_rest_on(tmp_path):
    result = STUDIES["development"](write_heads(RunDirectory(tmp_path), heads_table()), bootstraps=0)
    for outcome in ("onset", "peak", "slope"):
        line = result.tables["size_lines"].filter(outcome=outcome, kind="robust")
        x, y = np.log10(line["n_params"].to_numpy()), line["fit"].to_numpy()
        y = np.log10(y) if outcome == "onset" else y
        estimate = result.values["beyond"]["robust"][outcome]["estimate"]
        assert (y[-1] - y[0]) / (x[-1] - x[0]) == pytest.approx(estimate, rel=1e-9)  # rounding alone
        kinds = result.tables["size_lines"].filter(outcome=outcome)["kind"].unique(maintain_order=True)
        assert kinds.to_list() == ["robust", "published"]


def test_lack_of_fit_is_the_f_test_of_nested_models():
    frame = planted(np.random.default_rng(5), size_sd=1.0).filter(~((pl.col("model") == "m0") & (pl.col("y") > 0.5)))
    line, sizes = stats.ols("y ~ log10(n_params)", frame), stats.ols("y ~ model", frame)
    rss = [fit.sigma**2 * fit.df_resid for fit in (line, sizes)]
    found = line_checks(frame)
    assert found["lack_f"] == pytest.approx((rss[0] - rss[1]) / 2 / sizes.sigma**2)
    assert (found["lack_df1"], found["lack_df2"]) == (2, sizes.df_resid)


def test_one_step_is_told_from_a_line():
    frame = planted(np.random.default_rng(0)).with_columns(
        y=pl.col("y") * 0.1 + pl.when(pl.col("model") == "m0").then(5.0).otherwise(0.0)
    )
    found = line_checks(frame)
    assert found["step_after"] == "s0"
    assert found["step_share"] > 0.99
    assert found["line_share"] < 0.8
    assert found["lack_p"] < 1e-6
    alone = {row["size"]: row["estimate"] for row in without_one(frame)}
    assert abs(alone["s0"]) < 0.2 < 2 < abs(alone["s1"])  # without the first size nothing is left


def test_two_sizes_have_no_line_and_three_none_without_one():
    assert line_over_sizes(planted(np.random.default_rng(0), sizes=N_PARAMS[:2])) is None
    assert without_one(planted(np.random.default_rng(0), sizes=N_PARAMS[:3])) == []


def test_growth_with_persistent_errors_holds_its_level():
    """Trajectories of 16 steps without growth, whose errors persist by 0.57 as the published do."""
    random = np.random.default_rng(2)
    log_step = np.linspace(0, 5, 16)
    robust = published = 0
    for _ in range(100):
        errors = random.normal(size=(36, 16))
        for at in range(1, 16):
            errors[:, at] = 0.57 * errors[:, at - 1] + np.sqrt(1 - 0.57**2) * errors[:, at]
        slopes = np.polyfit(log_step, errors.T, 1)[0]
        models = np.repeat([f"m{place}" for place in range(4)], 9)
        frame = pl.DataFrame({"model": models, "size": models, "n_params": 1, "estimate": slopes})
        robust += growth_over_sizes(frame)["p"] < 0.05
        runs = pl.DataFrame({"y": errors.ravel(), "x": np.tile(log_step, 36)})
        published += stats.ols("y ~ x", runs).coefficients["p"][1] < 0.05  # its random intercepts are 0 here
    assert robust <= 11  # 5 % of 100; three binomial standard errors more
    assert published >= 18

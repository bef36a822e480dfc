"""The study of causes: planted effects are found, absent ones are not, and its formulas agree with exact tests."""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats as scipy_stats

from headway.errors import StatisticsError
from headway.reporting.causes import chapter
from headway.store.directory import RunDirectory
from headway.studies import STUDIES, applying, causes
from headway.studies.causes.effects import detectable
from headway.studies.causes.shifts import shift
from headway.sweep import store
from support_causes import STEPS, laboratory, store_data
from support_studies import heads_table, write_heads

GRID = np.array(STEPS) + 1.0


def intervals(rng, sd=0.15, n=6, mean=5.2, effect=0.0, grid=GRID):
    """Onsets of two levels on a grid of steps: log-normal, with the second level's exp(effect) times as late."""
    times = np.exp(rng.normal(mean, sd, 2 * n) + effect * np.repeat([0, 1], n))
    place = np.searchsorted(grid, times)
    by = np.where(place < len(grid), grid[np.minimum(place, len(grid) - 1)], np.nan)
    after = np.where(place > 0, grid[place - 1], 0.0)
    frame = pl.DataFrame({"f": ["a"] * n + ["b"] * n, "g": ["x", "y"] * n, "after": after, "by": by})
    return frame.with_columns(pl.col("by").fill_nan(None))


def study(table, tmp_path):
    return causes.study(write_heads(RunDirectory(tmp_path), table))


def effect_of(result, what, level, against, outcome="prev_self_ratio"):
    rows = result.tables["effects"].filter(what=what, level=level, against=against, outcome=outcome)
    assert rows.height == 1
    return rows.row(0, named=True)


# --- formulas -------------------------------------------------------------------------------------------------------


def test_with_exact_onsets_the_comparison_is_the_t_test():
    """On a grid so fine that onsets are known, the F of the likelihood ratio is the square of Student's t."""
    rng = np.random.default_rng(3)
    frame = intervals(rng, effect=0.1, grid=np.exp(np.arange(4, 7, 1e-4)))
    found = shift(frame, "f", "b", "a")
    logs = (frame["after"] * frame["by"]).log().to_numpy() / 2
    exact = scipy_stats.ttest_ind(logs[6:], logs[:6])
    # The likelihood is maximised until its slope is 1e-6; the grid adds 1e-4 of a standard deviation of 0.15.
    assert found.p == pytest.approx(exact.pvalue, rel=1e-3)
    low, high = exact.confidence_interval()
    assert np.log([found.ratio, found.lower, found.upper]) == pytest.approx(
        [logs[6:].mean() - logs[:6].mean(), low, high], abs=1e-3
    )


def test_a_level_without_onsets_has_one_bound():
    frame = intervals(np.random.default_rng(1), sd=0.1)
    never = frame.with_columns(
        after=pl.when(pl.col("f") == "b").then(449.0).otherwise("after"),
        by=pl.when(pl.col("f") == "a").then("by"),
    )
    late = shift(never, "f", "b", "a")
    assert (late.ratio, late.upper) == (np.inf, np.inf)
    assert late.p < 1e-4
    assert 1.5 < late.lower < 449 / 150  # it is later than its last step, but not much later needs be
    early = shift(never, "f", "a", "b")
    assert (early.ratio, early.lower, early.p) == (0.0, 0.0, late.p)
    assert early.upper == pytest.approx(1 / late.lower, rel=1e-2)  # the root is found to 1e-3
    with pytest.raises(StatisticsError, match="no run with f b or a has an onset"):
        shift(never.with_columns(by=pl.lit(None, pl.Float64), after=pl.lit(449.0)), "f", "b", "a")


def test_onsets_that_need_not_scatter_are_compared_by_their_middles():
    alike = pl.DataFrame(
        {"f": ["a"] * 4 + ["b"] * 4, "after": [129.0] * 4 + [161.0] * 4, "by": [161.0] * 4 + [193.0] * 4}
    )
    found = shift(alike, "f", "b", "a")
    assert found.ratio == pytest.approx(np.sqrt(161 * 193 / (129 * 161)))
    width = np.log(161 / 129)  # the wider interval
    assert found.std_error == pytest.approx(width / np.sqrt(12) * np.sqrt(1 / 4 + 1 / 4))


def test_other_factors_are_allowed_for():
    """Onsets of g = y are twice as late. Unless that is allowed for, it hides the effect of f."""
    frame = intervals(np.random.default_rng(5), sd=0.05, effect=0.2, grid=np.exp(np.arange(4, 8, 0.05)))
    twice = pl.when(pl.col("g") == "y").then(2.0).otherwise(1.0)
    frame = frame.with_columns(pl.col("after", "by") * twice)
    assert shift(frame, "f", "b", "a").p > 0.05
    found = shift(frame, "f", "b", "a", ["g"])
    assert found.p < 0.001
    assert found.lower < np.exp(0.2) < found.upper


def test_the_detectable_effect_has_the_power_it_says():
    for df, n_tests in ((10, 1), (16, 3), (40, 6)):
        effect = detectable(0.5, df, n_tests) / 0.5
        critical = scipy_stats.t.ppf(1 - 0.05 / n_tests / 2, df)
        # The sum of two quantiles is that of the noncentral t up to a few percent of power.
        assert scipy_stats.nct.sf(critical, df, effect) == pytest.approx(0.8, abs=0.02)


# --- null and planted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "sd"), [(5.2, 0.15), (6.0, 0.2)])  # all reached, and half of them not
def test_without_an_effect_p_is_small_as_often_as_it_says(mean, sd):
    """benchmarks/causes_null.py does the same with 2,000 draws."""
    rng = np.random.default_rng(11)
    p = np.array([shift(intervals(rng, sd=sd, mean=mean), "f", "b", "a").p for _ in range(60)])
    # Binomial: of 60 draws at 5%, more than 8 have a probability below 1%.
    assert (p < 0.05).sum() <= 8
    assert 15 < (p < 0.5).sum() < 45  # 30 expected, four standard deviations of 3.9


def test_a_planted_effect_is_found(tmp_path):
    result = study(laboratory(np.random.default_rng(2), effect=-0.4), tmp_path)
    onset = effect_of(result, "onset", "0.9", "0.1")
    assert onset["lower"] < np.exp(-0.8) < onset["upper"]
    assert onset["p_corrected"] < 0.001
    assert onset["level_reached"] == onset["level_runs"] == 6
    peak = effect_of(result, "peak", "0.9", "0.1")
    assert abs(peak["estimate"] + 0.08) < 4 * peak["std_error"]
    assert 0.005 < peak["std_error"] < 0.03  # runs scatter by 0.03: 0.017 for two means of six
    (finding,) = [one for one in result.findings("onset") if one.name == "prev_self_ratio_repeated"]
    assert finding.answer.startswith(
        "The onset of previous/self attention ratio depends on repeated: with repeated 0.9 it"
    )
    assert f"at {onset['estimate']:.3g} times the step" in finding.answer
    assert finding.values["n_clear"] == 3
    assert {one.name for one in result.findings("power")} == {"power"}
    assert set(result.tables) == {
        "runs", "trajectories", "trajectory_means", "values", "effects", "means", "interactions", "onsets",
    }  # fmt: skip


def test_without_an_effect_none_is_claimed(tmp_path):
    result = study(laboratory(np.random.default_rng(4)), tmp_path)
    assert all(one.values.get("n_clear", 0) == 0 for one in [*result.findings("onset"), *result.findings("values")])
    assert all("do not show" in one.answer for one in result.findings("onset"))


def test_a_level_that_never_rises_is_told_so(tmp_path):
    result = study(laboratory(np.random.default_rng(4), never=("0.1",)), tmp_path)
    row = effect_of(result, "onset", "0.5", "0.1")
    assert (row["level_reached"], row["against_reached"]) == (6, 0)
    assert row["p_corrected"] < 0.01
    answers = [one.text for one in result.findings("onset")]
    assert any("and 0 of 6 with 0.1" in text for text in answers)


def test_withheld_data_that_matter_are_named(tmp_path):
    """Onsets lie at about 150 steps. Without the data of steps 50 to 100 they are twice as late."""
    levels = ("none", "50-100", "300-400")
    rng = np.random.default_rng(8)
    table = laboratory(rng, factor="withheld", levels=levels)
    shifted = laboratory(np.random.default_rng(9), effect=0.7, factor="withheld", levels=("none", "50-100"))
    late = shifted.filter(pl.col("axis_withheld") == "50-100")
    table = pl.concat([table.filter(pl.col("axis_withheld") != "50-100"), late])
    result = study(table, tmp_path)
    (finding,) = [one for one in result.findings("windows") if one.name == "prev_self_ratio_withheld"]
    assert finding.answer.startswith("Data of steps 50-100 matter for ")
    places = {row["window"]: (row["place"], row["later"]) for row in finding.values["windows"]}
    assert places == {"50-100": ("before the onset", True), "300-400": ("after the onset", False)}
    (shown,) = [one for one in chapter(result).summary if one.answer == finding.answer]
    title = result.values["outcomes"]["prev_self_ratio"]["title"]
    assert (shown.figure, shown.at) == ("onsets-withheld", {"outcome_title": title})


def test_interactions_of_two_factors_are_tested(tmp_path):
    rng = np.random.default_rng(6)
    table = laboratory(rng, effect=0.0, levels=("0.1", "0.9"), other=("x", "y"), seeds=5)
    only = (pl.col("axis_repeated") == "0.9") & (pl.col("axis_second") == "y")
    crossed = table.with_columns(
        prev_self_ratio=pl.when(only).then(pl.col("prev_self_ratio") * 2).otherwise("prev_self_ratio")
    )
    (finding,) = study(crossed, tmp_path / "crossed").findings("interactions")
    assert "repeated and second on the peak" in finding.answer
    (finding,) = study(table, tmp_path / "plain").findings("interactions")
    assert finding.answer.startswith("No effect")


# --- what it applies to ---------------------------------------------------------------------------------------------


def test_it_runs_where_runs_differ_in_a_factor(tmp_path):
    with_factors = write_heads(RunDirectory(tmp_path / "with"), laboratory(np.random.default_rng(0)))
    without = write_heads(RunDirectory(tmp_path / "without"), heads_table())
    one_level = laboratory(np.random.default_rng(0)).filter(pl.col("axis_repeated") == "0.5")
    alone = write_heads(RunDirectory(tmp_path / "alone"), one_level)
    assert "causes" in applying(with_factors)
    assert "causes" not in applying(without)
    assert "causes" not in applying(alone)
    with pytest.raises(StatisticsError, match="differ in no factor"):
        causes.study(without)
    named = write_heads(RunDirectory(tmp_path / "named"), laboratory(np.random.default_rng(0), factor="block"))
    with pytest.raises(StatisticsError, match="the axis 'block' has the name of a column"):
        causes.study(named)
    with pytest.raises(StatisticsError, match="has no score 'induction'"):
        causes.study(with_factors, score="induction")


def test_the_study_of_development_names_levels(tmp_path):
    rundir = write_heads(RunDirectory(tmp_path), laboratory(np.random.default_rng(0)))
    found = STUDIES["development"](rundir, bootstraps=0)
    assert found.tables["runs"]["size"].unique().sort().to_list() == [
        "1k, repeated 0.1", "1k, repeated 0.5", "1k, repeated 0.9",
    ]  # fmt: skip
    assert found.notes[0].startswith("Runs of one size differ in repeated.")


def test_development_says_nothing_of_factors_where_sizes_have_one_level_each(tmp_path):
    one_level = laboratory(np.random.default_rng(0)).filter(pl.col("axis_repeated") == "0.5")
    found = STUDIES["development"](write_heads(RunDirectory(tmp_path), one_level), bootstraps=0)
    assert not any("differ in" in note for note in found.notes)


def test_what_runs_read_is_averaged_over_the_runs_of_a_level(tmp_path):
    heads = laboratory(np.random.default_rng(0))
    rundir = write_heads(RunDirectory(tmp_path), heads)
    found = causes.study(rundir)
    assert "data" not in found.tables
    assert any("headway nano statistics" in left["reason"] for left in found.values["left_out"])
    store_data(rundir, heads)
    table = causes.study(rundir).tables["data"]
    assert table.height == 3 * 4 * (len(STEPS) - 1)
    at = table.filter(level="0.5", step=8)
    means = dict(at.select("statistic", "value").iter_rows())
    assert list(means) == list(causes.STATISTICS.values())
    # entropy is the number of the seed, 1 to 6
    assert list(means.values()) == pytest.approx([0.5, 0.25, 1.0, 3.5])
    assert at["n_runs"].unique().to_list() == [6]


def test_every_table_and_column_is_documented(tmp_path):
    import re
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "causes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", text, flags=re.MULTILINE)
    documented = {
        name: set(re.findall(r"`(\w+)`", columns)) for name, columns in rows if name not in ("repeat_accuracy", "loss")
    }
    documented["onsets"] |= documented["values"]
    documented["runs"] |= {"repeated"}
    heads = laboratory(np.random.default_rng(0))
    rundir = write_heads(RunDirectory(tmp_path), heads)
    store_data(rundir, heads)
    result = causes.study(rundir)
    assert set(documented) == set(result.tables)
    for name, frame in result.tables.items():
        assert set(frame.columns) <= documented[name], name


def test_abilities_of_their_own_table_are_compared_as_columns_of_the_heads_were(tmp_path):
    table = laboratory(np.random.default_rng(2))
    before = study(table, tmp_path / "columns")
    rundir = write_heads(RunDirectory(tmp_path / "table"), table.drop("repeat_accuracy"))
    once = table.group_by("run", "step").agg(value=pl.col("repeat_accuracy").max())  # it differs between these heads
    rows = once.select("run", "step", ability=pl.lit("repeat_accuracy"), value="value")
    others = rows.with_columns(ability=pl.lit("icl_50_500"), value=pl.lit(0.0))
    store(pl.concat([rows, others]), "abilities", rundir, identity={})
    after = causes.study(rundir)
    assert_frame_equal(after.tables["effects"], before.tables["effects"])
    assert "repeat_accuracy" in after.tables["effects"]["outcome"]

"""The study `suites`: planted onsets in tokens are found, and runs of two suites are never taken for one population."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from headway.errors import StatisticsError
from headway.reporting.parts import Figure, Missing
from headway.reporting.suites import chapter
from headway.store.directory import RunDirectory
from headway.store.suite_folders import SeveralSuites
from headway.studies import STUDIES, suites
from headway.studies.suites.onsets import firsts, typical
from support_roles import table
from support_several import STEPS, heads, onsets, put
from support_studies import too_long

DOCS = Path(__file__).parents[2] / "docs" / "comparing-suites.md"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> RunDirectory:
    """Two suites whose runs have the same names. Onsets are 4 times as late in steps, and 8 times in tokens."""
    rundir = RunDirectory(tmp_path_factory.mktemp("home"))
    put(rundir, "early", heads(12, 1000))
    put(rundir, "late", heads(48, 2000, seed=1))
    return rundir


@pytest.fixture(scope="module")
def compared(home):
    return study(home)


def study(rundir: RunDirectory, **options):
    return suites.study(SeveralSuites(rundir), **options)


def test_a_planted_factor_lies_in_the_interval_and_1_does_not(compared):
    ratios = compared.tables["ratios"].filter(role="induction")
    for unit, planted in (("step", 4), ("tokens", 8)):
        row = ratios.row(by_predicate=pl.col("unit") == unit, named=True)
        assert row["lower"] < planted < row["upper"], row
        assert row["lower"] > 1.5, row
        assert (row["n_first"], row["n_second"], row["sizes"]) == (6, 6, "1m")


def test_runs_of_one_name_in_two_suites_stay_two(compared):
    result = compared
    assert result.tables["runs"].height == result.tables["runs"].select("suite", "run").n_unique() == 12
    assert result.tables["runs"]["run"].n_unique() == 6
    assert result.tables["firsts"].group_by("suite", "run", "role").len()["len"].to_list() == [1] * 24
    assert set(result.tables["trajectory_means"]["n_runs"]) == {6}  # of a suite: 12 would be of both


def test_each_suite_has_what_it_has_alone(home, tmp_path):
    """The role of a suite with its own level is the study `roles` of its directory, where levels agree."""
    result = study(home, roles=["previous-token=prev>0.4", "induction=induction>0.4"])
    for name, place in SeveralSuites(home).suites.items():
        alone = STUDIES["roles"](place, roles=["previous-token=prev>0.4", "induction=induction>0.4"])
        own = result.tables["firsts"].filter(suite=name)
        assert_frame_equal(own.select(alone.tables["firsts"].columns), alone.tables["firsts"])


def test_tokens_stand_at_the_ends_of_every_onset(compared):
    found = compared.tables["firsts"].drop_nulls("upper")
    per_step = found["suite"].replace_strict({"early": 1000, "late": 2000})
    assert (found["upper_tokens"] == found["upper"] * per_step).all()
    assert (found["lower_tokens"] == found["lower"] * per_step).all()


def test_the_level_is_the_largest_of_the_suites_own(tmp_path):
    rundir = RunDirectory(tmp_path)
    put(rundir, "quiet", heads(12, 1000))
    noisy = table(onsets(48), runs=4, steps=STEPS, seed=1, spread=0.03).with_columns(tokens_seen=pl.col("step") * 1000)
    put(rundir, "noisy", noisy)
    levels = study(rundir).tables["levels"].filter(role="induction")
    assert levels["level"].n_unique() == 1
    assert levels["level"][0] == levels["own_level"].max() == levels.filter(suite="noisy")["own_level"][0]


def test_unknown_tokens_are_said_and_steps_are_compared(tmp_path):
    rundir = RunDirectory(tmp_path)
    put(rundir, "early", heads(12, 1000))
    put(rundir, "late", heads(48, None))
    result = study(rundir)
    by_tokens = result.tables["ratios"].filter(unit="tokens")
    assert by_tokens["ratio"].null_count() == by_tokens.height
    assert set(by_tokens["why_not"]) == {"a suite has no run with known tokens"}
    assert {finding.values["unit"] for finding in result.findings("compared") if finding.values} == {"step"}
    figures = [figure for section in chapter(result).sections for figure in section.figures]
    assert all("The tokens of late are unknown" in figure.sentence for figure in figures)
    assert {control.default for figure in figures for control in figure.controls if control.column == "axis"} == {
        "training step + 1"
    }


def test_sizes_that_one_suite_lacks_do_not_enter_the_factor(tmp_path):
    """The larger size of one suite alone is 100 times as late: the factor must not move."""
    rundir = RunDirectory(tmp_path)
    early = heads(12, 1000)
    put(rundir, "early", early)
    large = heads(400, 1000, runs=3).with_columns(
        *(pl.col(name).str.replace("1m", "9m") for name in ("run", "model", "size")), n_params=pl.lit(9 * 10**6)
    )
    put(rundir, "late", pl.concat([heads(48, 1000, seed=1), large.cast(dict(early.schema))]))
    row = study(rundir).tables["ratios"].filter(role="induction", unit="tokens").row(0, named=True)
    assert row["sizes"] == "1m"
    assert row["lower"] < 4 < row["upper"]
    assert row["n_second"] == 6


def test_onsets_that_may_all_be_one_have_no_median(tmp_path):
    rundir = RunDirectory(tmp_path)
    for name in ("one", "other"):
        put(rundir, name, table(lambda size, run, score: 100, runs=4))
    result = study(rundir)
    own = result.tables["onsets"].filter(role="induction", unit="step", suite="one").row(0, named=True)
    assert (own["median"], own["lower"], own["upper"]) == (None, 11, 101)  # steps + 1 of the checkpoints around it


def test_the_median_is_that_of_exact_times(tmp_path):
    """Intervals that are narrow beside the scatter: mean and t interval of the logarithms, in closed form."""
    log_times = np.array([5.0, 5.4, 5.9, 6.1, 6.6])
    at = np.exp(log_times)
    frame = pl.DataFrame({"lower": at * 0.9995 - 1, "upper": at * 1.0005 - 1}).with_columns(
        role=pl.lit("induction"),
        suite=pl.lit("s"),
        lower_tokens=pl.lit(None, pl.Int64),
        upper_tokens=pl.lit(None, pl.Int64),
    )
    row = typical(frame).filter(unit="step").row(0, named=True)
    margin = 2.7764451 * log_times.std(ddof=1) / np.sqrt(5)  # t with 4 degrees of freedom at 97.5%
    expected = np.exp([log_times.mean(), log_times.mean() - margin, log_times.mean() + margin])
    # the widths of intervals move log times by less than 0.0005
    np.testing.assert_allclose([row["median"], row["lower"], row["upper"]], expected, rtol=1e-3)


def test_suites_with_other_texts_are_refused_by_name(tmp_path):
    rundir = RunDirectory(tmp_path)
    put(rundir, "early", heads(12, 1000))
    put(rundir, "late", heads(48, 2000), corpus={"name": "others", "sha256": "beef"})
    with pytest.raises(StatisticsError, match=r"early and late cannot be compared.*another corpus"):
        study(rundir)


def test_one_suite_is_refused(tmp_path):
    rundir = RunDirectory(tmp_path)
    put(rundir, "early", heads(12, 1000))
    assert not suites.applies(rundir)
    with pytest.raises(StatisticsError, match="heads of one suite"):
        suites.study(rundir)


def test_every_sentence_is_short_and_every_figure_there(compared):
    result = compared
    assert too_long(result.found, 27) == []
    items = [item for section in chapter(result).sections for item in section.items]
    assert {item.name for item in items if isinstance(item, Figure)} == {"suite-onsets", "suite-curves"}
    assert not [item for item in items if isinstance(item, Missing)]


def test_every_table_and_column_is_documented(compared):
    documented = {
        row[1]: set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", row[2]))))
        for line in DOCS.read_text(encoding="utf-8").splitlines()
        if (row := re.match(r"\| `(\w+)` \| [^|]+ \| (.+) \|$", line))
    }
    tables = compared.tables
    assert set(tables) == set(documented)
    assert {name: set(frame.columns) - documented[name] for name, frame in tables.items()} == {
        name: set() for name in tables
    }


def test_runs_in_both_suites_are_said(tmp_path):
    rundir = RunDirectory(tmp_path)
    put(rundir, "early", heads(12, 1000))
    place = put(rundir, "late", heads(48, 2000))
    with place.changing_manifest() as manifest:
        manifest.tables["heads"].sources["toy-1m-seed3"] = "/early/toy-1m-seed3"
    assert any("1 run of early is also in late, such as toy-1m-seed3" in note for note in study(rundir).notes)


def test_firsts_look_at_one_suite_at_a_time(home):
    """A hand-made table: two suites with a run of one name, one of which never holds the role."""
    rows = [
        (suite, "a", 1, step, value)
        for suite, values in {"x": (0.1, 0.9), "y": (0.1, 0.1)}.items()
        for step, value in zip((0, 8), values, strict=True)
    ]
    frame = pl.DataFrame(rows, schema=["suite", "run", "layer", "step", "induction"], orient="row").with_columns(
        head=pl.lit(0), size=pl.lit("s"), seed=pl.lit("1"), tokens_seen=pl.col("step") * 10
    )
    runs = frame.select("suite", "run", "size", "seed").unique(maintain_order=True)
    criteria = pl.DataFrame(
        {"suite": ["x", "y"], "role": ["induction"] * 2, "score": ["induction"] * 2, "level": [0.5] * 2}
    )
    found = firsts(frame, runs, criteria)
    assert found.select("suite", "lower", "upper", "upper_tokens").rows() == [("x", 0, 8, 80), ("y", 8, None, None)]

"""Commands on a run directory of several suites: a result of each, or the one that --suite chooses."""

import json

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

import headway
from headway.cli import app
from headway.errors import StatisticsError, UsageError
from headway.reporting.writing import write
from headway.store.directory import RunDirectory
from headway.tables import with_stack
from support_several import heads, put

QUICK = {"roles": ("induction",), "bootstraps": 20}
SIZES = ("1m", "2m")


def late() -> pl.DataFrame:
    """The larger models are twice as late as the smaller ones. In the suite `early` they are not."""
    middles = dict(zip(SIZES, (24, 48), strict=True))
    return pl.concat([heads(middle, 2000, runs=3, sizes=(size,), seed=1) for size, middle in middles.items()])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two suites whose runs have the same names, analysed."""
    rundir = RunDirectory(tmp_path_factory.mktemp("home"))
    put(rundir, "early", heads(12, 1000, runs=3, sizes=SIZES))
    put(rundir, "late", late())
    headway.analyze(rundir.path, studies="development", scores="induction", bootstraps=0)
    return rundir.path


@pytest.fixture(scope="module")
def cards(home):
    return headway.scorecard(home, **QUICK)


def test_a_scorecard_of_each_suite_is_that_of_its_directory(home, cards):
    assert list(cards) == ["scorecard/heads-early", "scorecard/heads-late"]
    alone = headway.scorecard(home / "suites" / "late", **QUICK)
    assert list(alone) == ["scorecard/heads"]
    assert_frame_equal(alone["scorecard/heads"].tables["axes"], cards["scorecard/heads-late"].tables["axes"])
    assert not cards["scorecard/heads-early"].tables["axes"].equals(cards["scorecard/heads-late"].tables["axes"])
    for place in (home, home / "suites" / "late"):
        assert (place / "analysis" / "scorecard" / "heads.json").exists()


def test_one_suite_is_chosen_by_name(home, cards):
    found = headway.scorecard(home, suite="early", **QUICK)
    assert list(found) == ["scorecard/heads-early"]
    assert_frame_equal(found["scorecard/heads-early"].tables["axes"], cards["scorecard/heads-early"].tables["axes"])
    with pytest.raises(UsageError, match="no suite 'none': it has early and late"):
        headway.scorecard(home, suite="none")


def test_two_suites_stand_side_by_side(home):
    with pytest.raises(
        UsageError, match="holds the suites early and late, and --against compares one suite with another"
    ):
        headway.scorecard(home, against=home / "suites" / "late", **QUICK)
    found = headway.scorecard(home, suite="early", against=home / "suites" / "late", **QUICK)
    assert list(found) == ["scorecard/heads-against-late-early"]
    assert found["scorecard/heads-against-late-early"].tables["against"]["directory"].unique().to_list() == ["late"]


def test_a_directory_of_several_beside_it_gives_the_suite_of_the_same_name(home, tmp_path):
    put(RunDirectory(tmp_path / "one"), "late", late())
    found = headway.scorecard(tmp_path / "one", against=home, **QUICK)
    (gaps,) = (one.tables["differences"] for one in found.values())
    assert gaps["difference"].abs().max() == 0  # the same heads: early ones would differ
    put(RunDirectory(tmp_path / "other"), "strange", heads(48, 2000, runs=3, sizes=SIZES))
    with pytest.raises(UsageError, match="none is called 'strange': name the folder of one suite"):
        headway.scorecard(tmp_path / "other", against=home, **QUICK)


def test_a_suite_that_cannot_be_looked_at_is_warned_of(tmp_path):
    rundir = RunDirectory(tmp_path)
    put(rundir, "whole", heads(12, 1000, runs=3))
    put(rundir, "bare", heads(12, 1000, runs=3).drop("induction"))
    with pytest.warns(UserWarning, match="the suite bare: .*induction"):
        assert list(headway.scorecard(tmp_path, **QUICK)) == ["scorecard/heads-whole"]


def test_a_pilot_is_one_suite(home):
    asked = {"question": "onset 1m 2m", "score": "induction", "seeds": (3, 9), "simulations": 50}
    with pytest.raises(
        UsageError, match="holds the suites early and late, and a pilot is one suite: choose it with --suite"
    ):
        headway.power(home, **asked)
    found = headway.power(home, suite="late", **asked)
    assert found.effect == headway.power(home / "suites" / "late", **asked).effect
    assert found.effect > 0.1
    assert abs(headway.power(home, suite="early", **asked).effect) < 1e-3


def test_lines_lead_to_figures_of_their_own_suite(home, cards):
    page = write(home, figures=False).read_text()
    links = {part.split('"')[0] for part in page.split('<td><a href="#')[1:]}
    assert links == {f"development-induction-{suite}-correlations" for suite in ("early", "late")}
    assert [link for link in links if f'id="{link}"' not in page] == []


def test_a_scorecard_of_each_stack(tmp_path):
    decoder, encoder = (with_stack(heads(middle, 1000, runs=3)) for middle in (12, 48))
    both = pl.concat([decoder, encoder.with_columns(stack=pl.lit("encoder"))])
    put(RunDirectory(tmp_path / "both"), "one", both)
    put(RunDirectory(tmp_path / "alone"), "one", decoder)
    found = headway.scorecard(tmp_path / "both", **QUICK)
    assert list(found) == ["scorecard/heads", "scorecard/heads-encoder"]
    (alone,) = headway.scorecard(tmp_path / "alone", **QUICK).values()
    assert_frame_equal(alone.tables["axes"], found["scorecard/heads"].tables["axes"])
    beside = headway.scorecard(tmp_path / "both", against=tmp_path / "alone", **QUICK)
    assert list(beside) == ["scorecard/heads-against-alone"]  # the stack that both have
    put(RunDirectory(tmp_path / "encoder"), "one", encoder.with_columns(stack=pl.lit("encoder")))
    with pytest.raises(StatisticsError, match="no stack of heads in common: one has encoder, the other decoder"):
        headway.scorecard(tmp_path / "encoder", against=tmp_path / "alone", **QUICK)


def test_on_the_command_line(home):
    words = ["scorecard", str(home), "--role", "induction", "--bootstraps", "20"]
    said = CliRunner().invoke(app, words).output
    assert said.index("= suite early =") < said.index("= suite late =")
    assert f"The numbers are in {home}/analysis/scorecard/ and {home}/suites/late/analysis/scorecard/." in said
    every = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert [one["of_suite"] for one in every] == ["early", "late"]
    assert json.loads(CliRunner().invoke(app, [*words, "--json", "--suite", "late"]).stdout)["of_suite"] == "late"

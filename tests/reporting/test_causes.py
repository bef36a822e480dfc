"""The chapter of causes: every level is drawn in its colour, and what is not there is said to be missing."""

import numpy as np
import pytest

from headway.reporting import page, write
from headway.reporting.causes import chapter
from headway.reporting.parts import Figure, Missing, Table
from headway.store.directory import RunDirectory
from headway.studies import causes
from support_causes import laboratory, store_data
from support_report import run_directory
from support_studies import write_heads


@pytest.fixture(scope="module")
def rundir(tmp_path_factory):
    rundir = RunDirectory(tmp_path_factory.mktemp("causes"))
    return write_heads(rundir, laboratory(np.random.default_rng(2), effect=-0.4, never=("0.1",)))


@pytest.fixture(scope="module")
def result(rundir):
    return causes.study(rundir)


def items(made):
    return {getattr(item, "name", item.title): item for section in made.sections for item in section.items}


def test_every_question_has_its_figure(result):
    made = chapter(result)
    names = {name for name, item in items(made).items() if isinstance(item, Figure)}
    assert names == {
        "trajectories-repeated", "onsets-repeated", "onset-ratios", "values-repeated", "value-differences",
    }  # fmt: skip
    assert isinstance(items(made)["comparisons"], Table)
    assert made.n_colours == 3
    assert [one.figure for one in made.summary] == ["onsets-repeated", "onsets-repeated"]
    titles = [result.values["outcomes"][one.values["outcome"]]["title"] for one in result.headline]
    assert len(set(titles)) == 2
    small = [drawing for name, drawing in page.figures([made])["figures"].items() if "-small-" in name]
    assert [one["controls"][0]["default"] for one in small] == titles  # each finding beside its own onsets
    facts = dict(made.facts)
    assert facts["Factor repeated"] == "0.1, 0.5, 0.9"
    assert facts["Runs"] == "18 runs, 6 seeds"


def test_what_runs_read_stands_below_their_trajectories(tmp_path):
    heads = laboratory(np.random.default_rng(2))
    rundir = write_heads(RunDirectory(tmp_path), heads)
    store_data(rundir, heads)
    names = list(items(chapter(causes.study(rundir))))
    assert names.index("data-repeated") == names.index("trajectories-repeated") + 1


def test_intervals_without_an_end_are_drawn_up_to_one(result):
    made = chapter(result)
    ratios = made.tables["ratios"]
    assert np.isfinite(ratios.select("drawn_lower", "drawn_upper").to_numpy()).all()
    never = ratios.filter(against="0.1", level="0.9")
    assert never["dot"].null_count() == never.height
    onsets = page.drawn(made, "onsets", [items(made)["onsets-repeated"]])
    assert onsets.filter(level="0.1")["to_step"].null_count() == 12
    assert onsets.filter(level="0.9")["to_step"].null_count() == 0
    assert onsets["place"].max() == 6


def test_without_onsets_the_reason_stands_there(tmp_path):
    flat = laboratory(np.random.default_rng(2), never=("0.1", "0.5", "0.9")).drop("repeat_accuracy")
    made = chapter(causes.study(write_heads(RunDirectory(tmp_path), flat)))
    (onsets,) = [section for section in made.sections if section.name == "onsets"]
    (missing,) = onsets.items
    assert isinstance(missing, Missing)
    assert missing.reason == "no run rises above what untrained runs reach"


def test_the_report_is_written(tmp_path, result):
    text = write(run_directory(tmp_path, result), figures=False).read_text()
    assert "Causes: what changes" in text
    assert "The onset of accuracy on repeated sequences depends on repeated" in text

"""The chapter on scorecards."""

from __future__ import annotations

from shutil import rmtree

import pytest

import headway
from headway.reporting.page import drawn, figures
from headway.reporting.scorecard import chapter
from headway.reporting.scorecard.frames import DIFFERENCE, LINES, behind
from headway.reporting.writing import write
from headway.studies import Result, scorecard
from support_report import DRAWN, opened
from support_scorecard import ANYWHERE, SAME, in_memory, run_directory


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards")
    one, other = (
        scorecard.study(in_memory(folder / name, kind, seeds=3, sizes=("1m", "4m")), bootstraps=50)
        for name, kind in (("one", SAME), ("other", ANYWHERE))
    )
    return one, scorecard.compare(one, other, "runs/one", "runs/other")


def test_the_figure_has_a_row_for_every_line(results):
    made = chapter(results[0])
    lines = made.tables["lines"]
    assert set(lines["line"]) == set(LINES)
    assert [figure.name for figure in made.figures] == ["card"]
    assert {"lower", "upper", "answered", "headline", "reason", "needs"} <= set(
        drawn(made, "lines", made.figures).columns
    )


def test_what_cannot_be_answered_is_told_in_a_table(results):
    made = chapter(results[0])
    (table,) = [item for section in made.sections for item in section.items if item.name == "unanswered"]
    assert table.frame["needs"].null_count() == 0
    assert {"Functional: single heads", "Configurational: weights"} <= set(table.frame["line"])


def test_beside_a_claim_stands_the_picture_of_its_own_role(results):
    made = chapter(results[0])
    roles = [finding.name for finding in results[0].findings("whole")]
    assert [highlight.at for highlight in made.summary] == [{"subject": role} for role in roles]
    drawings = figures([made])["figures"]
    for number, role in enumerate(roles, 1):
        (small,) = [one for name, one in drawings.items() if name.endswith(f"-small-{number}")]
        assert {"filter": {"equal": role, "field": "subject"}} in small["spec"]["transform"]


def test_two_directories_stand_in_the_same_figure(results):
    made = chapter(results[1])
    lines = made.tables["lines"]
    assert set(lines["directory"]) == {"one", "other", DIFFERENCE}
    gap = lines.filter(directory=DIFFERENCE, subject="induction", line="Positional: layers, seeds").row(0, named=True)
    values = lines.filter(subject="induction", line="Positional: layers, seeds")["value"].to_list()
    assert gap["value"] == pytest.approx(values[1] - values[0])
    assert gap["headline"]
    assert dict(made.facts)["beside"] == "other"
    assert figures([made])["figures"]
    assert "difference" in [section.name for section in made.sections]


def test_an_answered_line_leads_to_its_figure():
    row = {"measure": "onsets", "score": "prev", "answered": True}
    assert behind(row) == "#roles-heads-onsets"
    assert behind(row | {"answered": False}) == ""
    assert behind(row | {"measure": "trajectories"}) == "#development-prev-correlations"
    assert behind(row, "-nano") == "#roles-heads-nano-onsets"


def test_sentences_are_short(results):
    for result in results:
        made = chapter(result)
        texts = [
            *made.methods,
            *made.limits,
            *(term.meaning for term in made.terms),
            *(figure.sentence for figure in made.figures),
        ]
        assert [text for text in texts for sentence in text.split(". ") if len(sentence.split()) > 25] == []


def test_every_link_leads_somewhere_and_the_chart_is_drawn(tmp_path):
    rundir = run_directory(tmp_path, SAME, seeds=2)
    rmtree(tmp_path / "analysis" / "configuration")  # it has no tables but one, and no chapter
    headway.analyze(tmp_path, studies=("roles", "relations", "scorecard"), bootstraps=20)
    page = write(rundir, figures=False).read_text()
    links = {part.split('"')[0] for part in page.split('<td><a href="#')[1:]}
    assert {"roles-heads-onsets", "roles-heads-layers", "roles-heads-holders", "relations-heads-circuit"} <= links
    assert [link for link in links if f'id="{link}"' not in page] == []
    assert Result.saved(rundir, "scorecard") == ["heads"]
    with opened(tmp_path / "report.html") as shown:
        drawn_there = {chart["name"]: chart for chart in shown.evaluate(DRAWN)}
        card = drawn_there["scorecard-heads-card"]
        assert card["marks"] > 3
        assert card["width"] <= card["room"] + 1  # pixels are rounded
        assert shown.heard == []

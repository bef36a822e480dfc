"""The chapter on roles: every figure is there and drawn, and its words are short."""

from types import SimpleNamespace

import pytest

from headway.reporting import write
from headway.reporting.parts import Figure, Missing
from headway.reporting.roles import chapter
from headway.studies import roles
from support_report import DRAWN, opened, run_directory
from support_roles import in_order, table
from support_studies import too_long


@pytest.fixture(scope="module")
def result():
    frame = table(in_order, sizes=("1m", "5m"))
    return roles.study(SimpleNamespace(read=lambda name: frame))


def test_every_figure_is_there(result):
    items = [item for section in chapter(result).sections for item in section.items]
    figures = {item.name for item in items if isinstance(item, Figure)}
    assert figures == {"onsets", "holders", "layers", "head-map", "changes"}
    assert not [item for item in items if isinstance(item, Missing)]


def test_each_sentence_is_short_and_each_role_is_defined(result):
    assert too_long(result.found, 27) == []
    terms = {term.word: term.meaning for term in chapter(result).terms}
    assert set(terms) == {"Previous-token head", "Induction head"}
    assert "from 384 untrained heads" in terms["Induction head"]


def test_one_role_has_a_chapter_without_an_order():
    frame = table(in_order, scores=("prev",), runs=2)
    alone = roles.study(SimpleNamespace(read=lambda name: frame))
    missing = [item for section in chapter(alone).sections for item in section.items if isinstance(item, Missing)]
    assert len(missing) == 2
    assert all("there is one role with a level" in item.reason for item in missing)


def test_runs_without_any_role_have_a_chapter_too(tmp_path):
    frame = table(lambda size, run, score: None, runs=2)
    empty = roles.study(SimpleNamespace(read=lambda name: frame))
    missing = [item for section in chapter(empty).sections for item in section.items if isinstance(item, Missing)]
    assert [item.reason for item in missing] == ["no head passes the level of a role at any step"]
    assert write(run_directory(tmp_path / "made", empty), figures=False).stat().st_size


@pytest.mark.browser
def test_every_chart_is_drawn(result, tmp_path):
    path = write(run_directory(tmp_path / "made", result), figures=False)
    with opened(path, width=1280) as page:
        charts = page.evaluate(DRAWN)
        assert len(charts) >= 5
        for chart in charts:
            assert chart["marks"] > 1, chart
            assert 0 < chart["width"] <= chart["room"], chart
        assert page.heard == []

"""The chapter on abilities: every figure is there and drawn."""

from types import SimpleNamespace

import polars as pl
import pytest

from headway.known_abilities import ABILITIES
from headway.reporting import write
from headway.reporting.abilities import chapter
from headway.reporting.legends import legend
from headway.reporting.parts import Figure, Missing
from headway.reporting.roles.frames import colours
from headway.studies import abilities
from support_abilities import made
from support_report import DRAWN, opened, run_directory
from support_studies import too_long


@pytest.fixture(scope="module")
def result():
    heads, values = made(4, tied=True, seed=1)
    tables = {"heads": heads, "abilities": values}
    return abilities.study(SimpleNamespace(read=tables.__getitem__, tables=lambda: tables), bootstraps=99)


def test_every_figure_is_there_and_sentences_are_short(result):
    items = [item for section in chapter(result).sections for item in section.items]
    assert {item.name for item in items if isinstance(item, Figure)} == {
        "timeline",
        "ability-curves",
        "coupling",
        "onset-pairs",
    }
    assert not [item for item in items if isinstance(item, Missing)]
    assert too_long(result.found, 27) == []


def test_each_line_of_the_timeline_has_a_name_and_a_colour_in_the_summary(result):
    made = chapter(result)
    (timeline,) = (one for one in made.figures if one.name == "timeline")
    named = {one.name: one.light for one in legend(timeline.small_specification, {})}
    assert set(named) == set(made.tables["lines"]["name"])
    assert len(set(named.values())) == len(named)
    roles = result.tables["role_curves"]["role"].unique().to_list()
    assert {role: named[f"{role} heads"] for role in roles} == colours(roles)


def test_abilities_that_restate_another_are_left_out_of_the_timeline():
    heads, values = made(2, tied=True, seed=1)
    again = (values.with_columns(ability=pl.lit(name)) for name in ("published_repeat_accuracy", "repeat_accuracy"))
    tables = {"heads": heads, "abilities": pl.concat(again)}
    both = abilities.study(SimpleNamespace(read=tables.__getitem__, tables=lambda: tables))
    lines = chapter(both).tables["lines"].filter(what="ability")
    assert lines["name"].unique().to_list() == [ABILITIES["repeat_accuracy"].title]
    (timeline,) = (one for one in chapter(both).figures if one.name == "timeline")
    assert timeline.sentence.endswith(" 1 of 2 abilities are drawn.")


def test_without_heads_the_chapter_says_what_is_missing():
    _, values = made(2, tied=True, seed=1)
    tables = {"abilities": values}
    alone = abilities.study(SimpleNamespace(read=tables.__getitem__, tables=lambda: tables))
    missing = [item for section in chapter(alone).sections for item in section.items if isinstance(item, Missing)]
    assert len(missing) == 3
    assert all("there is no table of heads" in item.reason for item in missing)


@pytest.mark.browser
def test_every_chart_is_drawn(result, tmp_path):
    path = write(run_directory(tmp_path / "made", result), figures=False)
    with opened(path, width=1280) as page:
        charts = page.evaluate(DRAWN)
        assert len(charts) >= 4
        for chart in charts:
            assert chart["marks"] > 1, chart
            assert 0 < chart["width"] <= chart["room"], chart
        assert page.heard == []

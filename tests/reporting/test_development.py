"""The figures of the chapter on development: what they draw is what their sentences say."""

import json

import numpy as np
import polars as pl
import pytest

from headway.reporting.charts.axes import STEP_TITLE
from headway.reporting.development import chapter
from headway.reporting.development.frames import APART, VIEWS
from headway.reporting.development.steps import too_few
from support_report import heads_frame, studied


@pytest.fixture(scope="module")
def result():
    return studied(heads_frame())


@pytest.fixture(scope="module")
def figures(result):
    return {figure.name: figure for section in chapter(result).sections for figure in section.figures}


def test_every_step_axis_has_the_published_line(figures):
    with_steps = [figure for figure in figures.values() if STEP_TITLE in figure.chart.to_json()]
    assert len(with_steps) >= 9
    for figure in with_steps:
        assert '"datum": 1001' in figure.chart.to_json(), figure.name  # step 1,000 on the axis of step + 1
        assert "marks step 1,000" in figure.sentence, figure.name


def test_runs_that_end_before_it_have_no_line():
    short = chapter(studied(heads_frame(steps=(0, 1, 8, 64, 512)), bootstraps=0))
    drawn = {figure.name: figure for section in short.sections for figure in section.figures}
    assert '"datum": 1001' not in drawn["trajectories"].chart.to_json()
    assert "1,000" not in drawn["trajectories"].sentence


@pytest.mark.parametrize("table", ["onset", "peaks", "slopes", "emergence"])
def test_dots_of_a_size_stand_side_by_side_around_it(result, table):
    placed = VIEWS[table].make(result.tables)
    places = placed.select("size", "seed", "n_params", shift=(pl.col(APART) / pl.col("n_params")).log10()).unique()
    assert places.height == 9  # a run has one place
    for (_,), of in places.group_by("size"):
        # 3 seeds share 0.1 decades: a third of the gap between 1m and 5m, log10(5) / 3 = 0.23, is more
        assert of.sort("seed")["shift"].to_list() == pytest.approx([-0.05, 0, 0.05])


def test_dots_of_close_sizes_keep_apart(result):
    runs = result.tables["runs"].with_columns(n_params=pl.col("n_params").replace(5 * 10**6, 1_100_000))
    peaks = result.tables["peaks"].with_columns(n_params=pl.col("n_params").replace(5 * 10**6, 1_100_000))
    placed = VIEWS["peaks"].make({"runs": runs, "peaks": peaks})
    spans = placed.group_by("size").agg(low=pl.col(APART).min(), high=pl.col(APART).max()).sort("low")
    assert (spans["low"][1:] > spans["high"][:-1]).all()


def test_figures_against_size_draw_both_lines_and_the_robust_band(result, figures):
    for outcome in ("onset", "peak", "slope"):
        spec = json.dumps(figures[f"{outcome}-by-size"].chart.to_dict())
        assert spec.count("datum.kind == 'robust'") == 2  # its band and its line
        assert spec.count("datum.kind == 'published'") == 3  # its line and the ends of its band
    two = chapter(studied(heads_frame(sizes=("1m", "5m")), bootstraps=0))
    peak = next(figure for section in two.sections for figure in section.figures if figure.name == "peak-by-size")
    assert "Dashed" in peak.sentence
    assert "Solid" not in peak.sentence  # two sizes have no robust line


def test_pairs_of_sizes_are_rows_with_their_names(result, figures):
    pairs = VIEWS["seed_detection"].make(result.tables)["pair"].unique(maintain_order=True).to_list()
    assert pairs == ["1m and 5m", "1m and 31m", "5m and 31m"]
    assert json.dumps(pairs) in json.dumps(figures["seed-detection"].chart.to_dict())


def test_smooth_curves_are_figures_of_their_own_with_bands(figures):
    for name, table in (("final-depth-curve", "final_depth_gam"), ("growth-curve", "growth_gam")):
        assert figures[name].tables == (table,)
        assert '"y2": {"field": "upper"}' in json.dumps(figures[name].chart.to_dict())
    assert '"y2": {"field": "derivative_upper"}' in json.dumps(figures["derivatives"].chart.to_dict())


def test_one_figure_shows_depth_in_either_bins(figures):
    assert [name for name in figures if name.startswith("final-by-depth")] == ["final-by-depth"]
    assert [control.column for control in figures["final-by-depth"].controls] == ["bins"]


def test_captions_say_where_steps_cannot_bear_the_curve(result, figures):
    # 6 steps: the growth curve has k = 6; of 5 distinct ones (step 1 repeats step 0) a run's has k = 4
    edf = result.values["gam"]["growth"]["smooth"]["s(log_step)"]["edf"]
    assert (
        f"The 6 distinct steps cannot bear k = 6: the curve takes {edf:.1f} degrees" in figures["growth-curve"].sentence
    )
    edf = np.median(result.tables["emergence"]["edf"])
    assert (
        f"The 5 distinct steps cannot bear k = 4: the median curve takes {edf:.1f}" in figures["derivatives"].sentence
    )
    assert too_few(20, 10, 8.0, "steps") == ""
    assert too_few(19, 10, 8.0, "steps") != ""

"""What the study counts and averages before it models: against R, the published numbers and hand-worked tables."""

import json

import numpy as np
import polars as pl
import pytest

from headway.published import read_published
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.final import by_layer, by_sixths, layer_maxima, ntile
from headway.studies.development.growth import growth, peaks, slopes
from headway.studies.development.heads import read_heads
from headway.studies.development.onset import PUBLISHED_THRESHOLDS, at_thresholds, averaged, onset, thresholds
from support_studies import heads_table

SCORE = "prev_self_ratio"


@pytest.fixture(scope="module")
def planted():
    return read_heads(heads_table(), SCORE)


@pytest.fixture(scope="module")
def published(reference):
    return read_heads(read_published([reference / "pythia_heads.csv.gz"]), SCORE)


def test_ntile_is_dplyrs():
    x = np.array([5, 1, 3, 3, 2, 8, 8, 0.5, 9, 9, 1])
    # R 4.2: dplyr::ntile(c(5,1,3,3,2,8,8,0.5,9,9,1), n) and dplyr::ntile(c(2,1), 6)
    assert ntile(x, 3).tolist() == [2, 1, 2, 2, 1, 2, 3, 1, 3, 3, 1]
    assert ntile(x, 6).tolist() == [4, 1, 3, 3, 2, 4, 5, 1, 5, 6, 2]
    assert ntile(np.array([2.0, 1.0]), 6).tolist() == [2, 1]


def test_layer_maxima_name_the_head(planted):
    risen = layer_maxima(planted).filter(pl.col("layer") == 1)
    assert risen["head"].to_list() == [1] * 9
    assert risen["max"].min() > 3.5  # the planted head ends at 4, give or take noise of 0.02
    assert layer_maxima(planted).height == 3 * (3 + 5 + 7)


def test_by_layer_averages_over_seeds(planted):
    of = layer_maxima(planted).filter((pl.col("size") == "11m") & (pl.col("layer") == 1))["max"].to_numpy()
    row = by_layer(planted).filter((pl.col("size") == "11m") & (pl.col("layer") == 1)).row(0, named=True)
    se = of.std(ddof=1) / np.sqrt(3)
    assert [row["mean"], row["se"], row["upper"], row["n_seeds"]] == pytest.approx([of.mean(), se, of.mean() + se, 3])


def test_sixths_of_depth_are_exact(planted):
    sixths = by_sixths(planted, "depth")
    per_size = {size: of["sixth"].to_list() for (size,), of in sixths.group_by("size", maintain_order=True)}
    # ceil(6 layer / n_layers): 3 layers fill every other sixth, 7 layers put two into the last
    assert per_size == {"3m": [2, 4, 6], "11m": [2, 3, 4, 5, 6], "37m": [1, 2, 3, 4, 5, 6]}


def test_sixths_of_rows_hold_equally_many(published):
    final = published.final
    bins = ntile(final["prop_layer"].to_numpy(), 6)
    assert np.bincount(bins)[1:].tolist() == [900] * 6
    assert by_sixths(published, "rows")["sixth"].to_list() == list(range(1, 7)) * 4


def test_counts_are_the_published(published, reference):
    data = json.loads((reference / "expected.json").read_text())["data"]
    counts = {
        "rows": published.frame.height,
        "final_step_rows": published.final.height,
        "trajectory_rows": published.trajectories.height,
        "runs": published.runs.height,
        "steps": published.frame["step"].n_unique(),
    }
    assert counts == data


def test_steps_0_and_1_are_the_duplicates_of_every_published_run(published):
    assert published.duplicates.select("step", "same_as", "neighbours").unique().rows() == [(1, 0, True)]
    assert published.duplicates.height == 36


def test_peaks_and_slopes_are_the_published(published, reference):
    draft = ResultBuilder(published, 0, 0)
    growth(draft)
    expected = json.loads((reference / "expected.json").read_text())["tables"]
    for name in ("peak_mean_by_size", "slope_mean_by_size"):
        found = draft.values["tables"][name]
        assert {model: f"{value:.3g}" for model, value in found.items()} == expected[name]


def test_peaks_hold_their_place(planted):
    row = peaks(planted).row(0, named=True)
    trajectory = planted.trajectories.filter(pl.col("run") == row["run"])
    assert row["max_attn"] == trajectory["value"].max()
    assert (row["layer"], row["head"]) == (1, 1)


def test_slopes_are_least_squares(planted):
    row = slopes(planted).row(4, named=True)
    of = planted.trajectories.filter(pl.col("run") == row["run"])
    x = np.stack([np.ones(of.height), of["log_step"].to_numpy()], axis=1)
    beta, rss, *_ = np.linalg.lstsq(x, of["value"].to_numpy(), rcond=None)
    se = np.sqrt(rss[0] / (of.height - 2) * np.linalg.inv(x.T @ x)[1, 1])
    assert [row["estimate"], row["std_error"], row["t"]] == pytest.approx([beta[1], se, beta[1] / se], rel=1e-9)


def test_one_step_has_no_slope_and_two_no_error():
    one = slopes(read_heads(heads_table(steps=(8,)), SCORE)).row(0, named=True)
    two = slopes(read_heads(heads_table(steps=(0, 8)), SCORE)).row(0, named=True)
    assert one["estimate"] is None
    assert two["estimate"] is not None
    assert two["std_error"] is None


def staircase(size, seed, step, layer, head):
    """The largest head stands at 1 up to step 8 and rises by 0.95 per decade of step + 1 from there."""
    value = 1 + 0.95 * max(0.0, np.log10(step + 1) - np.log10(9))
    return np.where((layer == 0) & (head == 0), value, 0.5 + 1e-3 * layer + 1e-4 * head + 1e-6 * step)


def test_onset_is_the_first_step_that_climbs_faster_than_the_threshold():
    heads = read_heads(heads_table(staircase, sizes=("3m",), seeds=(1,)), SCORE)
    found = at_thresholds(heads)
    assert found["threshold"].to_list() == list(PUBLISHED_THRESHOLDS)
    below = found.filter(pl.col("threshold") < 0.93)
    assert below["step"].unique().to_list() == [16]
    assert below["step_before"].unique().to_list() == [8]
    assert found.filter(pl.col("threshold") > 0.95)["step"].null_count() == 6
    row = averaged(heads).row(0, named=True)
    assert (row["m_step"], row["m_step_before"], row["n_thresholds"]) == (16, 8, 9)


def test_onset_tables_stand_for_every_run(planted):
    draft = ResultBuilder(planted, 0, 0)
    onset(draft)
    assert draft.tables["onset"].height == 9
    assert draft.tables["onset_thresholds"].height == 9 * 15
    means = draft.values["tables"]["onset_mean_by_size"]
    assert means["toy-3m"] > means["toy-11m"] > means["toy-37m"]  # planted: larger sizes rise sooner


def test_the_published_score_keeps_the_published_thresholds(planted):
    assert thresholds(planted).levels == tuple(i / 10 for i in range(1, 16))
    assert thresholds(planted).untrained is None


def probability(size, seed, step, layer, head):
    """The staircase as a share of 1: from 0.05 up to step 8 it rises by 0.31 per decade, to 0.684 at step 1000."""
    value = 0.05 + 0.31 * max(0.0, np.log10(step + 1) - np.log10(9))
    return np.where((layer == 0) & (head == 0), value, 0.01 + 1e-3 * layer + 1e-4 * head + 1e-6 * step)


def test_thresholds_of_another_score_bracket_its_planted_onset():
    """Of the published ones, up to 1.5 per decade, all but three lie above any slope of this score."""
    heads = read_heads(heads_table(probability, score="first"), "first")
    found = thresholds(heads)
    assert found.untrained == pytest.approx(0.05)
    assert found.trained == pytest.approx(0.05 + 0.31 * np.log10(1001 / 9))
    # half of the range of 0.634, in fifteen steps of 0.0211, which is 0.021 to two digits
    assert found.levels == tuple(round(0.021 * i, 3) for i in range(1, 16))
    onsets = at_thresholds(heads)
    passed = onsets.filter(pl.col("threshold") < 0.31)
    assert passed.height == 9 * 14
    assert set(passed.select("step_before", "step").rows()) == {(8, 16)}
    assert onsets.filter(pl.col("threshold") > 0.31)["step"].null_count() == 9
    row = averaged(heads).row(0, named=True)
    assert (row["m_step_before"], row["m_step"], row["n_thresholds"]) == (8, 16, 14)


def test_thresholds_grow_with_the_range_of_the_score():
    def tenfold(*place):
        return 10 * probability(*place)

    small, large = (
        thresholds(read_heads(heads_table(value, score="distance"), "distance")).levels
        for value in (probability, tenfold)
    )
    assert large == pytest.approx([10 * level for level in small])


def test_a_score_that_falls_has_thresholds_and_a_note():
    def falls(size, seed, step, layer, head):
        return 3 - 0.5 * np.log10(step + 1) - 0.1 * layer - 0.01 * head

    draft = ResultBuilder(read_heads(heads_table(falls, score="entropy"), "entropy"), 0, 0)
    onset(draft)
    assert draft.tables["onset"]["m_step"].null_count() == 9
    # all that the largest head moves: 0.5 * log10(1001) = 1.5, half of it in fifteen steps of 0.05
    assert draft.values["thresholds"]["levels"][0] == pytest.approx(0.05)
    assert any("does not rise: it stands at 3 at the start and at 1.5 at the end" in note for note in draft.notes)


def test_a_score_that_never_moves_keeps_the_published_thresholds():
    table = heads_table(lambda size, seed, step, layer, head: np.full(len(layer), 0.5), score="prev")
    other = table.with_columns(
        pl.Series("self", np.arange(table.height, dtype=float))
    )  # so that steps are no duplicates
    assert thresholds(read_heads(other, "prev")).levels == PUBLISHED_THRESHOLDS

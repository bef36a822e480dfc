"""A ratio is large for a small divisor: heads that lead for that reason are named, and sizes stand apart only where they do."""

import numpy as np
import polars as pl
import pytest

from headway.studies.development.builder import ResultBuilder
from headway.studies.development.consistency import consistency
from headway.studies.development.heads import read_heads
from headway.studies.development.peak_definitions import by_definition
from headway.studies.development.position import depth_by_size, top_heads
from headway.studies.development.ratio import ratio
from support_studies import SIZES, heads_table


def planted(*, decoy_seeds=(2,), wild=1.0):
    """Head 1 of layer 1 attends most. In the decoy seeds the last layer's head 0 ignores itself, so its ratio is larger."""

    def parts(size, seed, step, layer, head):
        rng = np.random.default_rng([seed, step, len(layer)])
        prev = 0.2 + rng.uniform(0, 0.01, len(layer)) + 0.6 * ((layer == 1) & (head == 1)) * np.log10(step + 1) / 3
        own = np.full(len(layer), 0.2)
        decoy = (layer == layer.max()) & (head == 0) & (seed in decoy_seeds)
        own[decoy] = 0.02 / (wild if size == "11m" else 1)
        return prev, own

    def table_of(which):
        return heads_table(
            lambda *at: which(*parts(*at)), seeds=tuple(range(1, 7)), steps=(0, 10, 100, 1000), score="prev_self_ratio"
        )

    ratios = table_of(lambda prev, own: prev / own)
    return ratios.with_columns(prev=table_of(lambda prev, own: prev)["prev_self_ratio"])


def test_runs_whose_largest_ratio_is_of_another_head_are_named():
    draft = ResultBuilder(read_heads(planted(), "prev_self_ratio"), 0, 0)
    ratio(draft)
    (found,) = draft.found
    assert found.values["runs"] == [f"toy-{size}-seed2" for size in SIZES]
    assert found.answer.startswith("In 3 of 18 runs, the head with the largest final ratio does not have the most")
    assert "In 3 of these 3 it lies in the last layer." in found.text
    other = draft.tables["ratio_heads"].filter(~pl.col("same"))
    assert other["layer"].to_list() == [layers - 1 for _, layers, _ in SIZES.values()]
    assert other.select("numerator_layer", "numerator_head").unique().rows() == [(1, 1)]


def test_a_wild_ratio_is_an_outlier_of_its_size():
    draft = ResultBuilder(read_heads(planted(wild=50.0), "prev_self_ratio"), 0, 0)
    ratio(draft)
    assert "toy-11m-seed2" in draft.found[0].text.split("Outliers among the runs of their size")[1]
    assert "of all" in draft.found[0].text


def test_the_peak_of_the_head_with_the_largest_numerator_ignores_the_wild_ratio():
    peaks = by_definition(read_heads(planted(wild=50.0), "prev_self_ratio"))
    led = peaks.filter(pl.col("definition") == "head with the most prev")["peak"]
    assert led.max() < 5 < peaks["peak"].max() / 10  # 0.81 / 0.2 is the planted ratio of that head


@pytest.mark.parametrize("table", ["no numerator", "not a ratio"])
def test_without_a_numerator_the_part_is_left_out_with_a_reason(table):
    heads = planted().drop("prev") if table == "no numerator" else planted()
    score = "prev_self_ratio" if table == "no numerator" else "prev"
    draft = ResultBuilder(read_heads(heads, score), 0, 0)
    ratio(draft)
    assert not draft.found
    reason = draft.values["left_out"][0]["reason"]
    assert "the numerator" in reason if table == "no numerator" else "not a ratio" in reason


def test_depths_are_told_by_size():
    def value(size, seed, step, layer, head):
        """In 11m the top head is always in layer 1 of 5; elsewhere its layer is drawn."""
        rng = np.random.default_rng([seed, len(layer)])
        top = 1 if size == "11m" else rng.integers(layer.max() + 1)
        return rng.uniform(0, 0.1, len(layer)) + 3.0 * ((layer == top) & (head == 1))

    heads = read_heads(heads_table(value, seeds=tuple(range(1, 10)), steps=(0, 10)), "prev_self_ratio")
    found = {
        row["size"]: row for row in depth_by_size(heads, top_heads(heads), 999, np.random.default_rng(0)).to_dicts()
    }
    assert (found["11m"]["lowest"], found["11m"]["median"], found["11m"]["highest"]) == (0.25, 0.25, 0.25)
    assert found["11m"]["p_holm"] <= 0.05 < found["37m"]["p_holm"]


def walks(strength):
    """Trajectories of four steps' own: a part that a size shares, of the given strength, and a part of each run."""

    def value(size, seed, step, layer, head):
        shared = np.random.default_rng([step, int(size[:-1])]).normal()
        own = np.random.default_rng([step, int(size[:-1]), seed]).normal()
        return np.where((layer == 0) & (head == 0), 50 + strength * shared + own, np.zeros(len(layer)))

    return read_heads(heads_table(value, seeds=(1, 2, 3, 4, 5)), "prev_self_ratio")


@pytest.mark.parametrize(("strength", "apart"), [(3.0, True), (0.0, False)])
def test_sizes_stand_apart_on_the_map_only_where_they_do(strength, apart):
    draft = ResultBuilder(walks(strength), 499, 0)
    consistency(draft)
    (found,) = [one for one in draft.found if one.name == "map"]
    assert (found.values["p"] <= 0.05) == apart
    assert found.answer.startswith("Sizes lie apart" if apart else "Sizes do not lie apart")
    one_by_one = draft.tables["mds_centroids"]["p_holm"]
    assert (one_by_one.min() <= 0.05) == apart

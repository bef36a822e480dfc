"""The largest of many heads: it grows with their number, and the figures beside it do not."""

from itertools import combinations

import numpy as np
import polars as pl
import pytest

from headway.studies.development.builder import ResultBuilder
from headway.studies.development.heads import read_heads
from headway.studies.development.peak_definitions import LARGEST, by_definition, expected_largest, peak_definitions
from support_studies import SIZES, heads_table

SCORE = "prev_self_ratio"


@pytest.mark.parametrize("m", [1, 2, 4, 6, 7])
def test_the_expected_largest_is_the_mean_over_all_draws(m):
    values = np.array([3.0, -1.0, 4.0, 1.5, 9.0, 2.6])
    drawn = [max(draw) for draw in combinations(values, min(m, len(values)))]
    assert expected_largest(values, m) == pytest.approx(np.mean(drawn))


def test_peaks_are_those_of_each_step_by_itself():
    """Steps with other numbers of heads are summarised apart. Only the order of additions differs, hence 1e-14."""

    def value(size, seed, step, layer, head):
        return np.random.default_rng([int(size[:-1]), seed, step]).normal(size=len(layer))

    table = heads_table(value, seeds=(1, 2), steps=(0, 100, 1000)).with_columns(prev=pl.col(SCORE).sin())
    lacking = (pl.col("size") == "11m") & (pl.col("step") == 100) & (pl.col("layer") < 2)  # below the expected number
    heads = read_heads(table.filter(~lacking), SCORE)
    peaks = by_definition(heads)
    (expected,) = (name for name in peaks["definition"].unique() if name.startswith("expected"))
    figures = {
        LARGEST: np.max,
        expected: lambda values: float(expected_largest(values, 14)),
        "95% quantile of heads": lambda values: np.quantile(values, 0.95),
        "75% quantile of heads": lambda values: np.quantile(values, 0.75),
        "median head": lambda values: np.quantile(values, 0.5),
        "mean head": np.mean,
    }
    steps = [(run, of) for (run, _), of in heads.frame.group_by("run", "step")]
    for run, definition, peak in peaks.select("run", "definition", "peak").iter_rows():
        of_run = [of for own, of in steps if own == run]
        if definition in figures:
            there = max(figures[definition](of["value"].to_numpy()) for of in of_run)
        else:
            there = max(of["value"][of["numerator"].arg_max()] for of in of_run)
        assert peak == pytest.approx(there, rel=1e-14), definition
    assert peaks["definition"].n_unique() == len(figures) + 1


def test_heads_alike_in_all_sizes_have_a_peak_that_grows_and_an_expected_largest_that_does_not():
    """Independent heads of one law; the sizes have 15, 35 and 14 heads."""
    counts = {size: layers * heads for size, (_, layers, heads) in SIZES.items()}
    assert counts == {"3m": 15, "11m": 35, "37m": 14}
    gaps: dict[str, list[float]] = {}
    for i in range(25):

        def alike(size, seed, step, layer, head, i=i):
            return np.random.default_rng([i, int(size[:-1]), seed, step]).normal(size=len(layer))

        peaks = by_definition(read_heads(heads_table(alike, seeds=(1, 2), steps=(0, 100, 1000)), SCORE))
        means = peaks.group_by("definition", "size").agg(pl.col("peak").mean())
        for (definition,), of in means.group_by("definition"):
            at = dict(of.select("size", "peak").rows())
            gaps.setdefault(str(definition), []).append(at["11m"] - (at["3m"] + at["37m"]) / 2)
    z = {name: np.mean(of) / (np.std(of, ddof=1) / np.sqrt(len(of))) for name, of in gaps.items()}
    assert z[LARGEST] > 3
    # the peak over steps of an expected largest is lower where the figure scatters less: a small difference the other way
    assert z["expected largest of 14 heads"] < 1


def test_a_sign_that_changes_with_the_definition_is_said():
    """Larger models have a larger largest head, and smaller other heads."""

    def value(size, seed, step, layer, head):
        place = {"3m": 0, "11m": 1, "37m": 2}[size]
        noise = np.random.default_rng([seed, place, step]).normal(0, 0.01, len(layer))
        return noise + np.where((layer == 1) & (head == 1), 5 + place, 3 - place) + 1e-3 * np.log10(step + 1)

    draft = ResultBuilder(read_heads(heads_table(value), SCORE), 0, 0)
    peak_definitions(draft)
    (found,) = draft.found
    assert found.answer == "Whether the peak goes up or down with size changes with its definition."
    assert found.key
    assert found.values["changes"][LARGEST] > 0 > found.values["changes"]["mean head"]
    row = draft.tables["peak_by_definition"].row(0, named=True)
    # three sizes leave one degree of freedom, whose 97.5% quantile of t is 12.706 by the tables
    assert row["upper"] - row["lower"] == pytest.approx(2 * 12.706 * row["std_error"], rel=1e-4)


def test_where_all_agree_nothing_is_said_to_change():
    def value(size, seed, step, layer, head):
        place = {"3m": 0, "11m": 1, "37m": 2}[size]
        return 1 + place + 0.01 * np.random.default_rng([seed, place, step]).normal(size=len(layer))

    draft = ResultBuilder(read_heads(heads_table(value), SCORE), 0, 0)
    peak_definitions(draft)
    assert draft.found[0].answer == "The peak goes the same way with size by all definitions."

"""The heads table made ready: gaps, duplicates and final steps are found as planted."""

import numpy as np
import polars as pl
import pytest

from headway.errors import StatisticsError
from headway.studies.development.heads import read_heads
from support_studies import STEPS, heads_table

SCORE = "prev_self_ratio"


def where(run: str, step: int) -> pl.Expr:
    return (pl.col("run") == run) & (pl.col("step") == step)


def copied(table: pl.DataFrame, run: str, step: int, source: int) -> pl.DataFrame:
    """`table` with the scores of `run` at `step` replaced by those at `source`."""
    rest = table.filter(~where(run, step))
    return pl.concat([rest, table.filter(where(run, source)).with_columns(step=pl.lit(step, pl.Int64))])


def test_a_full_grid_has_no_gaps_and_no_duplicates():
    heads = read_heads(heads_table(), SCORE)
    assert heads.missing.height == 0
    assert heads.duplicates.height == 0
    assert heads.runs["run"].to_list()[:4] == ["toy-3m-seed1", "toy-3m-seed2", "toy-3m-seed3", "toy-11m-seed1"]


def test_names_are_the_studys():
    row = (
        read_heads(heads_table(), SCORE).frame.filter((pl.col("layer") == 2) & (pl.col("head") == 1)).row(0, named=True)
    )
    assert (row["Layer"], row["Head"], row["seed_name"]) == (3, 2, "seed1")
    assert row["prop_layer"] == 1.0  # the third of the smallest size's three layers
    assert (row["step"], row["step_modded"], row["log_step"]) == (0, 1, 0.0)


def test_rows_in_any_order_give_the_same():
    table = heads_table()
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=3)
    assert read_heads(shuffled, SCORE).frame.equals(read_heads(table, SCORE).frame)


def test_what_has_no_number_anywhere_has_no_rows_no_place_and_no_duplicates():
    """A run, and steps of another, whose scores are no numbers; these steps equal one another all the same."""
    without = (pl.col("run") == "toy-3m-seed2") | where("toy-11m-seed1", 8) | where("toy-11m-seed1", 16)
    table = heads_table().with_columns(pl.when(~without).then(pl.col(SCORE)).otherwise(np.nan).alias(SCORE))
    heads = read_heads(table.sample(fraction=1.0, shuffle=True, seed=5), SCORE)
    order = heads.runs.select("run").with_row_index("place")
    expected = table.filter(~without).join(order, on="run").sort("place", "step", "layer", "head")
    same = ["run", "model", "size", "seed", "n_params", "n_layers", "n_heads", "step", "layer", "head"]
    assert heads.frame.select(same).equals(expected.select(same))
    assert heads.frame["value"].equals(expected[SCORE])
    n_steps = dict(heads.runs.select("run", "n_steps").rows())
    assert n_steps == {run: len(STEPS) - 2 * (run == "toy-11m-seed1") for run in expected["run"].unique()}
    assert heads.duplicates.height == 0


def test_gaps_are_listed():
    table = heads_table()
    table = table.filter(pl.col("run") != "toy-11m-seed2")
    table = table.filter(~where("toy-3m-seed1", 64))
    table = table.filter(~(where("toy-3m-seed2", 32) & (pl.col("head") < 2)))
    table = table.with_columns(
        pl.when(where("toy-37m-seed3", 8) & (pl.col("layer") == 0)).then(np.nan).otherwise(SCORE).alias(SCORE)
    )
    missing = read_heads(table, SCORE).missing.select("what", "size", "seed", "step", "n_heads").rows()
    assert missing == [
        ("run", "11m", "2", None, None),
        ("step", "3m", "1", 64, 15),
        ("heads", "3m", "2", 32, 6),
        ("not a number", "37m", "3", 8, 2),
    ]


def test_rows_that_are_not_numbers_are_left_out():
    table = heads_table().with_columns(
        pl.when(pl.col("head") == 0).then(pl.lit(float("inf"))).otherwise(SCORE).alias(SCORE)
    )
    assert read_heads(table, SCORE).frame["head"].min() == 1


def test_neighbouring_duplicates_have_no_slope():
    heads = read_heads(copied(heads_table(), "toy-3m-seed1", 1, 0), SCORE)
    assert heads.duplicates.select("run", "step", "same_as", "neighbours").rows() == [("toy-3m-seed1", 1, 0, True)]
    slopes = heads.trajectories.filter(pl.col("run") == "toy-3m-seed1")
    assert slopes.filter(pl.col("slope").is_null())["step"].to_list() == [0, 1]
    assert slopes.filter(pl.col("step") == 2)["step_before"].item() == 1


def test_a_checkpoint_that_equals_the_last_is_reached_over():
    heads = read_heads(copied(heads_table(), "toy-11m-seed3", 16, 1000), SCORE)
    assert heads.duplicates.select("run", "step", "same_as", "neighbours").rows() == [
        ("toy-11m-seed3", 1000, 16, False)
    ]
    run = heads.trajectories.filter(pl.col("run") == "toy-11m-seed3")
    assert run.filter("suspect")["step"].to_list() == [16]
    after = run.filter(pl.col("step") == 32).row(0, named=True)
    before = run.filter(pl.col("step") == 8).row(0, named=True)
    assert after["step_before"] == 8
    expected = (after["value"] - before["value"]) / np.log10(33 / 9)
    assert after["slope"] == pytest.approx(expected, rel=1e-12)  # the same quotient, rounded otherwise


def test_the_final_step_is_the_last_that_half_of_the_runs_have():
    table = heads_table().filter(~((pl.col("size") == "3m") & (pl.col("seed") == "1") & (pl.col("step") == 1000)))
    table = table.filter(~((pl.col("size") == "11m") & (pl.col("seed") != "1") & (pl.col("step") == 1000)))
    heads = read_heads(table, SCORE)
    assert dict(heads.sizes.select("size", "final_step").rows()) == {"3m": 1000, "11m": 512, "37m": 1000}
    assert heads.runs.filter(~pl.col("has_final_step"))["run"].to_list() == ["toy-3m-seed1"]
    assert set(heads.final["run"].unique()) == set(heads.runs["run"]) - {"toy-3m-seed1"}


def test_z_is_scaled_within_each_size():
    final = read_heads(heads_table(), SCORE).final
    scaled = final.group_by("model").agg(mean=pl.col("z").mean(), sd=pl.col("z").std())
    assert np.allclose(scaled["mean"], 0, atol=1e-12)  # sums of some hundred numbers near 1, in float64
    assert np.allclose(scaled["sd"], 1, atol=1e-12)


def test_columns_of_another_tool_are_left_aside():
    table = heads_table().with_columns(value=pl.lit("theirs"), extra=pl.lit(1))
    assert read_heads(table, SCORE).frame.equals(read_heads(heads_table(), SCORE).frame)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("n_params", "layer"), "lacks the columns n_params, layer"),
        (lambda t: t.drop(SCORE).with_columns(prev=0.5), "no score 'prev_self_ratio'; its scores are prev"),
        (lambda t: pl.concat([t, t.head(1)]), "more than once, the first is run 'toy-3m-seed1' step 0 layer 0 head 0"),
        (lambda t: t.with_columns(pl.lit(np.nan).alias(SCORE)), "no row of the heads table has a finite"),
    ],
)
def test_tables_that_cannot_be_analysed_are_refused(change, message):
    with pytest.raises(StatisticsError) as error:
        read_heads(change(heads_table()), SCORE)
    assert message in str(error.value)


def test_an_unknown_score_is_refused():
    with pytest.raises(StatisticsError, match="'prev_ratio' is not a score"):
        read_heads(heads_table(), "prev_ratio")


def test_seeds_may_have_different_steps():
    table = heads_table().filter((pl.col("seed") != "2") | pl.col("step").is_in(STEPS[::2]))
    heads = read_heads(table, SCORE)
    assert heads.missing.filter(pl.col("what") == "step")["seed"].unique().to_list() == ["2"]


def test_change_with_size_is_told_over_no_more_than_was_measured():
    assert read_heads(heads_table(), SCORE).size_step == (1.0, "having ten times the parameters")
    decades, words = read_heads(heads_table(sizes=("3m", "11m")), SCORE).size_step
    assert decades == pytest.approx(np.log10(11 / 3))
    assert words == "going from 3m to 11m"

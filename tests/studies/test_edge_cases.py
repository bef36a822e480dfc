"""Whatever the table holds, what can be said is said and the rest is left out with its reason."""

import json

import numpy as np
import polars as pl
import pytest

from headway.errors import StatisticsError
from headway.rundir import RunDirectory
from headway.studies import STUDIES, Result
from headway.tables import SCORES
from support_studies import heads_table, write_heads

SCORE = "prev_self_ratio"


def study(tmp_path, table: pl.DataFrame, **options) -> Result:
    rundir = write_heads(RunDirectory(tmp_path), table)
    result = STUDIES["previous_token"](rundir, **{"bootstraps": 20} | options)
    result.save(rundir)
    text = (rundir.analysis / "previous_token.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert Result.load(rundir, "previous_token").values == result.values
    return result


def left_out(result: Result) -> dict[str, str]:
    return {entry["what"]: entry["reason"] for entry in result.values.get("left_out", [])}


def constant(size, seed, step, layer, head):
    return np.full(len(layer), 0.5)


def flat_with_noise(size, seed, step, layer, head):
    return 1 + np.random.default_rng([seed, step]).normal(0, 0.01, len(layer))


CASES = {
    "one seed": heads_table(seeds=(1,)),
    "one size": heads_table(sizes=("11m",)),
    "one run": heads_table(sizes=("11m",), seeds=(1,)),
    "one step": heads_table(steps=(1000,)),
    "two steps": heads_table(steps=(0, 1000)),
    "three steps": heads_table(steps=(0, 10, 1000)),
    "one checkpoint": heads_table(sizes=("3m",), seeds=(1,), steps=(0,)),
    "constant": heads_table(constant),
    "flat": heads_table(flat_with_noise),
    "one head": heads_table().filter((pl.col("layer") == 0) & (pl.col("head") == 0)),
    "one layer": heads_table().filter(pl.col("layer") == 1),
    "equal n_params": heads_table().with_columns(n_params=pl.lit(7_000_000, pl.Int64)),
    "no n_params": heads_table().with_columns(n_params=pl.lit(None, pl.Int64)),
    "two sizes of equal n_params": heads_table().with_columns(n_params=pl.col("n_params").clip(11_000_000)),
    "unlike step grids": heads_table().filter((pl.col("seed") != "2") | pl.col("step").is_in([0, 4, 32, 256, 512])),
    "no common step": heads_table().filter((pl.col("seed").cast(pl.Int64) == 1) == (pl.col("step") % 3 == 1)),
    "unlike seeds": heads_table().filter((pl.col("size") != "3m") | (pl.col("seed") == "1")),
    "named seeds": heads_table().with_columns(seed=pl.lit("data-seed") + pl.col("seed")),
    "each run a seed of its own": heads_table(seeds=(1,)).with_columns(seed=pl.col("size")),
    "a run that lacks the final step": heads_table().filter(
        (pl.col("run") != "toy-3m-seed1") | (pl.col("step") < 1000)
    ),
    "NaN scores": heads_table().with_columns(
        pl.when((pl.col("head") == 1) | (pl.col("step") == 8)).then(np.nan).otherwise(SCORE).alias(SCORE)
    ),
    "half of the rows": heads_table().sample(fraction=0.5, seed=1),
    "a tenth of the rows": heads_table().sample(fraction=0.1, seed=1),
    "falling": heads_table(lambda *a: -flat_with_noise(*a) * np.log10(a[2] + 2)),
}


@pytest.mark.parametrize("case", CASES)
def test_no_table_makes_it_fall(tmp_path, case):
    result = study(tmp_path, CASES[case])
    assert result.values["headline"]
    for entry in result.values.get("left_out", []):
        assert len(entry["reason"]) > 20, entry


@pytest.mark.parametrize("score", SCORES)
def test_any_score_can_be_studied(tmp_path, score):
    result = study(tmp_path, heads_table(score=score), score=score, bootstraps=0)
    assert result.values["score"]["name"] == score
    assert result.values["score"]["title"] == SCORES[score].title


def test_a_score_that_is_not_there_names_those_that_are(tmp_path):
    with pytest.raises(StatisticsError, match="its scores are prev_self_ratio"):
        study(tmp_path, heads_table(), score="induction")


def test_gaps_are_told_in_the_notes(tmp_path):
    result = study(tmp_path, heads_table().filter(pl.col("run") != "toy-11m-seed2"))
    assert any("no run of size 11m with seed 2" in note for note in result.notes)


def test_duplicates_are_told_in_the_notes(tmp_path):
    table = heads_table()
    first = table.filter(pl.col("step") == 0)
    table = pl.concat([table.filter(pl.col("step") != 1), first.with_columns(step=pl.lit(1, pl.Int64))])
    result = study(tmp_path, table)
    assert any("Steps 0 and 1 are identical in 9 of 9 runs" in note for note in result.notes)
    assert result.values["data"]["duplicates"] == 9


def test_without_bootstraps_nothing_is_drawn(tmp_path):
    result = study(tmp_path, heads_table(), bootstraps=0)
    assert result.tables["onset_by_size"]["lower"].null_count() == result.tables["onset_by_size"].height
    assert result.tables["matching"]["p"].null_count() == result.tables["matching"].height
    assert "seed_detection" not in result.tables

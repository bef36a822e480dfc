"""Whatever the table holds, what can be said is said and the rest is left out with its reason."""

import json

import numpy as np
import polars as pl
import pytest

import headway
from headway.errors import StatisticsError, UsageError
from headway.store.directory import RunDirectory
from headway.studies import STUDIES, Result
from headway.tables import SCORES
from support_studies import heads_table, rise, too_long, write_heads

SCORE = "prev_self_ratio"


def study(tmp_path, table: pl.DataFrame, **options) -> Result:
    rundir = write_heads(RunDirectory(tmp_path), table)
    result = STUDIES["development"](rundir, **{"bootstraps": 20} | options)
    result.save(rundir)
    text = (rundir.analysis / "development" / f"{result.subject}.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    loaded = Result.load(rundir, "development", result.subject)
    assert (loaded.values, loaded.found) == (result.values, result.found)
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
    assert result.headline
    assert too_long(result.found) == []
    for entry in result.values.get("left_out", []):
        assert len(entry["reason"]) > 20, entry


# One of each kind: a share, a ratio without an upper end, one with no bound but 0, one from -1 to 1, one without ends.
KINDS = ("prev", "prev_all_ratio", "entropy", "copying", "direct_logit_attribution")


def test_the_kinds_of_scores_are_all_there_are():
    ends = {(score.low, score.high, bool(score.numerator)) for score in SCORES.values()}
    assert {(one.low, one.high, bool(one.numerator)) for one in map(SCORES.get, (*KINDS, SCORE))} == ends


@pytest.mark.parametrize("score", KINDS)
def test_any_score_can_be_studied(tmp_path, score):
    result = study(tmp_path, heads_table(score=score), score=score, bootstraps=0)
    assert result.values["score"]["name"] == score
    assert result.values["score"]["title"] == SCORES[score].title


def test_a_score_that_is_not_there_names_those_that_are(tmp_path):
    with pytest.raises(StatisticsError, match="its scores are prev_self_ratio"):
        study(tmp_path, heads_table(), score="induction")


def of_two_scores(tmp_path) -> RunDirectory:
    rundir = RunDirectory(tmp_path)
    with rundir.changing_manifest():
        pass  # a run directory has a manifest
    return write_heads(rundir, heads_table().with_columns(first=pl.col(SCORE) / 10))


def test_results_of_several_scores_live_side_by_side(tmp_path):
    rundir = of_two_scores(tmp_path)
    both = headway.analyze(tmp_path, scores=[SCORE, "first", SCORE], bootstraps=0)
    assert list(both) == ["development/prev_self_ratio", "development/first"]
    headway.analyze(tmp_path, scores=["first"], bootstraps=0)
    assert Result.saved(rundir, "development") == ["first", SCORE]
    for score in ("first", SCORE):
        loaded = Result.load(rundir, "development", score)
        assert loaded.values["score"]["name"] == score
        assert loaded.tables["peaks"].equals(both[f"development/{score}"].tables["peaks"])


@pytest.mark.parametrize("scores", [["no_such_score"], "no_such_score", [SCORE, "no_such_score"]])
def test_scores_that_make_no_sense_are_refused_before_anything_is_written(tmp_path, scores):
    rundir = of_two_scores(tmp_path)
    with pytest.raises(UsageError, match="score"):
        headway.analyze(tmp_path, scores=scores, bootstraps=0)
    assert Result.saved(rundir, "development") == []


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


def test_without_bootstraps_nothing_is_drawn_and_what_is_missing_is_said(tmp_path):
    result = study(tmp_path, heads_table(), bootstraps=0)
    assert result.tables["onset_by_size"]["lower"].null_count() == result.tables["onset_by_size"].height
    assert result.tables["matching"]["p"].null_count() == result.tables["matching"].height
    assert "seed_detection" not in result.tables
    reasons = left_out(result)
    for what in ("seed_detection", "beyond.consistency", "intervals over seeds and tests against chance"):
        assert "--bootstraps" in reasons[what]


# What the sentences say ---------------------------------------------------------------------------------------


def says(result: Result, section: str) -> str:
    return " ".join(finding.text for finding in result.findings(section) if finding.name != "caveat")


def numbers(result: Result, section: str, name: str) -> dict:
    (found,) = (finding for finding in result.findings(section) if finding.name == name)
    return found.values


def all_said(result: Result) -> str:
    return " ".join(finding.text for finding in result.found if finding.name != "caveat")


def cut(table: pl.DataFrame, run: str, last: int) -> pl.DataFrame:
    return table.filter((pl.col("run") != run) | (pl.col("step") <= last))


def test_one_step_gives_no_finding_on_change(tmp_path):
    result = study(tmp_path, CASES["one step"])
    assert "Only one step was measured" in says(result, "growth")
    for section in ("onset", "size"):
        assert result.findings(section) == []
    for part in ("onset_intervals", "identity"):
        assert result.values["beyond"][part] is None
        assert "two distinct steps" in left_out(result)[f"beyond.{part}"]
    for words in ("after step", "stands above", "leads for good", "mean peak", "by their peak"):
        assert words not in all_said(result)


def test_two_steps_give_only_the_gap_between_them(tmp_path):
    result = study(tmp_path, CASES["two steps"])
    assert says(result, "onset") == "Every onset lies between steps 0 and 1,000: no others were measured."
    assert "between steps 0 and 1,000" in says(result, "onset_intervals")
    assert "factor" not in all_said(result)
    assert "the same in every run" in left_out(result)["beyond.extrapolation.onset"]


def test_one_seed_has_onsets_and_no_intervals_over_seeds(tmp_path):
    result = study(tmp_path, CASES["one seed"])
    said = says(result, "onset_intervals")
    for words in (
        "between steps 128 and 256 for 3m",
        "between steps 32 and 64 for 11m",
        "between steps 8 and 16 for 37m",
    ):
        assert words in said
    assert "not for the spread over seeds" in said
    assert "not known" not in all_said(result)
    assert "One run of each size tells no more." in says(result, "identity")
    assert {row["lower"] for row in numbers(result, "identity", "start")["sizes"]} == {None}


def test_one_seed_beside_sizes_of_several_is_told_apart_from_them(tmp_path):
    said = says(study(tmp_path, CASES["unlike seeds"]), "onset_intervals")
    assert "between steps 128 and 256 (one run: no spread over seeds) for 3m" in said
    assert "between steps 32 and 64 for 11m." in said


def test_an_interval_of_shares_stays_within_0_and_1(tmp_path):
    result = study(tmp_path, heads_table(seeds=(1, 2)))
    for row in result.values["beyond"]["identity"]["sizes"]:
        assert 0 <= row["lower"] <= row["percentile_first_mean"] <= row["upper"] <= 1
    assert "-" not in says(result, "identity")  # no share below 0


def test_a_constant_score_has_no_top_head(tmp_path):
    """Its steps are told apart by another score, so that they are no duplicates."""
    table = CASES["constant"].with_columns(prev=pl.Series(np.random.default_rng(0).random(CASES["constant"].height)))
    result = study(tmp_path, table)
    for table in ("same_place", "top_head_depth", "lead", "final_head", "matching"):
        assert table not in result.tables
    for part in ("position", "identity"):
        assert "no run is one head larger than all others" in left_out(result)[f"beyond.{part}"]
    assert result.tables["trajectories"]["head"].null_count() == result.tables["trajectories"].height
    assert result.tables["final_layer_seed"]["head"].null_count() == result.tables["final_layer_seed"].height
    assert result.tables["layer_ranks"]["top_share"].null_count() == result.tables["layer_ranks"].height
    assert "highest in" not in all_said(result)
    assert "would narrow" not in all_said(result)
    assert says(result, "onset_intervals") == "No run is known to reach half of a rise."


def test_a_run_whose_largest_heads_tie_is_left_out_by_name(tmp_path):
    tied = (pl.col("run") == "toy-3m-seed2") & (pl.col("step") == 1000)
    table = heads_table().with_columns(pl.when(tied).then(2.0).otherwise(SCORE).alias(SCORE))
    result = study(tmp_path, table)
    assert "toy-3m-seed2" in left_out(result)["top heads"]
    assert result.tables["same_place"].filter(pl.col("size") == "3m")["n_pairs"].to_list() == [1, 1]
    assert "toy-3m-seed2" not in result.tables["lead"]["run"]
    depths = result.tables["top_head_depth"]
    assert depths.filter(pl.col("model") == "all")["n"].unique().to_list() == [8]


def test_a_lead_that_is_shared_is_no_change_of_hands(tmp_path):
    """Head 1 of layer 1 leads at every step but one, where all tie."""
    table = heads_table().with_columns(pl.when(pl.col("step") == 256).then(1.5).otherwise(SCORE).alias(SCORE))
    late = table.filter(pl.col("step") >= 128)
    assert study(tmp_path, late).tables["lead"].select("n_changes", "n_steps").unique().rows() == [(0, 3)]


def test_two_models_of_one_size_are_never_mixed(tmp_path):
    table = heads_table(sizes=("3m", "11m")).with_columns(size=pl.lit("9m"), n_params=pl.lit(9_000_000, pl.Int64))
    result = study(tmp_path, table)
    means = result.tables["trajectory_means"]
    for model in ("toy-3m", "toy-11m"):
        of = means.filter(pl.col("model") == model)["mean"]
        sizes = {row["size"]: row for row in numbers(result, "growth", "rise")["sizes"]}
        assert (sizes[model]["start"], sizes[model]["final"]) == (of[0], of[-1])
    assert "9m" not in all_said(result)
    assert set(result.tables["runs"]["size"]) == {"toy-3m", "toy-11m"}


def test_only_the_sizes_that_collide_are_named_by_their_models(tmp_path):
    table = heads_table().with_columns(size=pl.col("size").replace("11m", "3m"))
    sizes = study(tmp_path, table).tables["runs"]["size"].unique(maintain_order=True)
    assert sizes.to_list() == ["toy-3m", "toy-11m", "37m"]


def test_models_of_equal_n_params_are_observations_of_their_own(tmp_path):
    sizes = heads_table(sizes=("3m", "11m", "37m"))
    twin = sizes.filter(pl.col("size") == "11m").with_columns(
        *(pl.col(name).str.replace("11m", "11m-twin") for name in ("run", "model", "size")),
        pl.col(SCORE) * 2,
    )
    assert numbers(study(tmp_path, pl.concat([sizes, twin])), "extrapolation", "caveat") == {"n_sizes": 4}


def test_a_run_that_stops_early_bounds_what_depends_on_the_rest(tmp_path):
    run = "toy-3m-seed1"  # passes the half of its rise between steps 128 and 256
    whole, early = study(tmp_path / "whole", heads_table()), study(tmp_path / "cut", cut(heads_table(), run, 256))
    of = early.tables["onset_intervals"].filter(pl.col("run") == run)
    by = {row["definition"]: (row["lower"], row["upper"]) for row in of.to_dicts()}
    before = whole.tables["onset_intervals"].filter((pl.col("run") == run) & (pl.col("definition") == "half of rise"))
    assert by["half of rise"][1] is None
    assert by["half of rise"][0] <= before["lower"].item()
    assert by["largest slope"][1] is None
    assert by["slope > 0.5"][1] is not None  # what has happened has
    for table, column in (("peaks", "max_attn"), ("slopes", "estimate")):
        assert early.tables[table].filter(pl.col("run") == run)[column].to_list() == [None]
    onset = early.tables["onset"].filter(pl.col("run") == run).row(0, named=True)
    assert onset["n_thresholds"] == 15
    assert onset["m_step"] is not None  # no threshold is left to be passed
    others = whole.tables["peaks"].filter((pl.col("size") == "3m") & (pl.col("run") != run))["max_attn"].to_numpy()
    assert early.values["tables"]["peak_mean_by_size"]["toy-3m"] == pytest.approx(others.mean())
    assert any(f"{run} stops at step 256" in note and "of peaks" in note for note in early.notes)


def test_a_run_that_stops_before_it_rises_says_nothing_of_half_of_its_peak(tmp_path):
    tables = study(tmp_path, cut(heads_table(), "toy-3m-seed1", 16)).tables
    assert tables["onset"].filter(pl.col("run") == "toy-3m-seed1")["m_step"].to_list() == [None]
    of = tables["onset_intervals"].filter(pl.col("definition") == "half of peak")
    assert "toy-3m-seed1" not in of["run"]  # at its first step it has half of what it has reached; it may yet rise
    assert of.height == 8


def test_the_first_step_is_one_that_half_of_the_runs_have(tmp_path):
    late = (pl.col("seed") == "1") & (pl.col("step") < 256)
    result = study(tmp_path, heads_table().filter(~late))
    assert "At step 0 the head that ends on top" in says(result, "identity")
    first = result.tables["lead"]
    assert first.filter(pl.col("seed") == "1")["percentile_first"].null_count() == 3
    assert [row["n_runs"] for row in result.values["beyond"]["identity"]["sizes"]] == [2, 2, 2]


def relay_by_size(size, seed, step, layer, head):
    """Another head leads up to step 8 in the smallest size, to 64 in the middle one and to 512 in the largest."""
    until = {"3m": 8, "11m": 64, "37m": 512}[size]
    return 1 + 1e-3 * layer + 1e-5 * step + np.where((layer == (0 if step <= until else 1)) & (head == 0), 1.0, 0.0)


def test_when_the_lead_is_taken_is_said_by_size(tmp_path):
    result = study(tmp_path, heads_table(relay_by_size))
    assert "leads for good by step 16 (3m) to 1,000 (37m), in the median run" in says(result, "identity")
    assert numbers(result, "identity", "lead") == {
        "takes_lead_by": {"3m": 16, "11m": 128, "37m": 1000},
        "n_changes_mean": {"3m": 1, "11m": 1, "37m": 1},
    }


def test_definitions_are_compared_with_their_intervals(tmp_path):
    result = study(tmp_path, heads_table())
    table = result.tables["onset_relations"].drop_nulls("slope")
    earlier = table.filter(pl.col("upper") < 0).height
    assert earlier  # planted: larger sizes start earlier
    said = says(result, "onset_intervals")
    assert f"earlier by {earlier} of {table.height} definitions that can be compared" in said
    assert numbers(result, "onset_intervals", "relation") == {"n_compared": table.height, "n_definitions": 9}


def mostly_slow(size, seed, step, layer, head):
    """Three of nine runs rise steeply; the others by 0.3 a decade."""
    steep = 4.0 if (size, seed) in {("37m", 1), ("37m", 2), ("3m", 1)} else 0.3
    return np.where((layer == 1) & (head == 1), steep * np.log10(step + 1), -0.1 * head - 0.01 * layer)


def test_an_onset_that_few_runs_reach_has_no_relation_to_size(tmp_path):
    relations = study(tmp_path, heads_table(mostly_slow)).tables["onset_relations"]
    row = relations.filter(pl.col("definition") == "slope > 1.0").row(0, named=True)
    assert row["n_reached"] == 3
    assert (row["slope"], row["lower"]) == (None, None)


def bounded(size, seed, step, layer, head):
    value = {"3m": 0.5, "11m": 0.7, "37m": 0.95}[size] + 0.01 * seed
    return np.where((layer == 1) & (head == 1), value * np.log10(step + 1) / 3.1, 0.01 * head + 0.001 * layer)


def test_a_bounded_score_is_told_within_its_bounds(tmp_path):
    result = study(tmp_path, heads_table(bounded, score="first"), score="first")
    lines = result.tables["extrapolation"].filter(pl.col("outcome") == "peak")
    assert lines.select("fit", "lower", "upper", "run_upper").max_horizontal().max() == 1
    assert lines["lower"].min() >= 0
    highest = dict(result.tables["slopes"].select("run", "estimate").rows())
    levels = result.values["thresholds"]["levels"]
    # the runs rise by 0.16 to 0.32 per decade, straight: thresholds up to half of the range of 0.96 hold some of each
    assert sum(level < min(highest.values()) for level in levels) >= 3
    assert result.tables["onset"]["m_step"].null_count() == 0
    never = numbers(result, "onset", "thresholds")["n_never"]
    assert never == sum(level > max(highest.values()) for level in levels)


def test_a_prediction_that_holds_everything_is_not_determined(tmp_path):
    def unrelated(size, seed, step, layer, head):
        height = {"3m": 3, "11m": 0.5, "37m": 2.5}[size]
        return rise(size, seed, step, layer, head) * np.where((layer == 1) & (head == 1), height, 1)

    result = study(tmp_path, heads_table(unrelated))
    extrapolated = result.values["beyond"]["extrapolation"]
    assert not extrapolated["peak"]["determined"]
    (peak,) = (finding for finding in result.findings("extrapolation") if finding.name == "peak")
    assert "cannot be predicted" in peak.answer
    assert "Its interval holds every peak measured, and zero." in peak.text
    assert f"{extrapolated['peak']['upper']:.3g}" not in peak.text


def test_layers_are_counted_from_0_in_sentences(tmp_path):
    assert "layer 1 of 0–2 (3m)" in says(study(tmp_path, heads_table()), "final")  # the planted head


def test_most_top_heads_are_called_no_more_than_chance_gives(tmp_path):
    def anywhere(size, seed, step, layer, head):
        return np.random.default_rng([seed, int(size[:-1]), 6]).normal(size=len(layer)) + step * 1e-4

    # by chance p is below 0.05 in one of twenty such suites; in this one it is not
    scattered = study(tmp_path / "anywhere", heads_table(anywhere, seeds=(1, 2, 3, 4)), bootstraps=200)
    assert "Top heads are not concentrated at any depth" in says(scattered, "position")
    planted = study(tmp_path / "planted", heads_table(sizes=("11m",), seeds=tuple(range(1, 7))), bootstraps=200)
    assert "Top heads favour some depths" in says(planted, "position")
    assert numbers(planted, "position", "depth")["fullest"][0]["share"] == 1


def test_duplicates_are_a_part_of_their_own(tmp_path):
    first = heads_table().filter(pl.col("step") == 0).with_columns(step=pl.lit(1, pl.Int64))
    repeated = pl.concat([heads_table().filter(pl.col("step") != 1), first])
    result = study(tmp_path / "repeated", repeated)
    steps = [{"same_as": 0, "step": 1, "neighbours": True, "n_runs": 9}]
    assert result.values["beyond"]["duplicates"]["steps"] == numbers(result, "duplicates", "steps")["steps"] == steps
    assert "Steps 0 and 1 are identical in 9 of 9 runs" in says(result, "duplicates")
    assert "No two measured steps" in says(study(tmp_path / "all apart", heads_table()), "duplicates")


def test_the_coefficients_intervals_are_told(tmp_path):
    result = study(tmp_path, heads_table())
    widths = result.tables["seed_intervals"].filter(pl.col("model").is_null(), pl.col("outcome") == "peak")
    at = dict(widths.select("n_seeds", "expected_width").rows())
    assert numbers(result, "seeds", "widths")["widths"]["peak"] == [at[3], at[6]]
    assert f"{at[3]:.2g} to {at[6]:.2g} (peak)" in says(result, "seeds")

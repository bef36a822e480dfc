"""Roles that were planted are found at their steps and in their order, and none where there are none."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest, hypergeom

from headway.errors import StatisticsError, UsageError
from headway.known_scores import ROLES, Role
from headway.studies import roles
from headway.studies.roles.criteria import asked_roles, levels
from headway.studies.roles.heads import overlap_law, several
from headway.studies.roles.onsets import earlier, in_half, lag, sign_test
from support_roles import HEADS, LAYERS, STEPS, in_order, table


def studied(frame, **options):
    return roles.study(SimpleNamespace(read=lambda name: frame), **options)


def test_planted_roles_are_found_at_their_steps_in_their_heads():
    found = studied(table(in_order)).tables["firsts"]
    for row in found.iter_rows(named=True):
        score = ROLES[row["role"]].score
        at = in_order("1m", int(row["run"][-1]), score)
        assert row["upper"] == at
        assert row["lower"] == STEPS[STEPS.index(at) - 1]
        assert (row["layer"], row["head"]) == (1 if score == "prev" else 2, 2)
        assert (row["censoring"], row["seen"], row["complete"]) == ("interval", at, True)


def test_the_order_within_runs_counts_ties_of_the_grid_as_ties():
    result = studied(table(in_order))
    row = result.tables["order"].filter(pl.col("size").is_null()).row(0, named=True)
    assert (row["first"], row["second"]) == ("previous-token", "induction")
    assert (row["n_first"], row["n_second"], row["n_tie"], row["n_unknown"]) == (7, 0, 1, 0)
    assert row["p"] == pytest.approx(binomtest(7, 7).pvalue)
    # even runs: 10–100 and 200–400; odd ones: 100–200 and 200–400; run 7: 200–400 and 200–400
    ratio = np.log10(np.array([[201 / 101, 401 / 11], [201 / 201, 401 / 101], [201 / 401, 401 / 201]]))
    expected = (4 * ratio[0] + 3 * ratio[1] + ratio[2]) / 8
    assert (row["lag_lower"], row["lag_upper"]) == pytest.approx(tuple(expected))
    sequence, first = result.headline[:2]
    # Four of eight runs have previous-token heads by step 100; all have induction heads by step 400, none before.
    assert sequence.values["steps"] == {"previous-token": 100, "induction": 400}
    assert sequence.answer == (
        "In at least half of the 8 runs, previous-token heads have arisen by step 100 and induction heads by step 400."
    )
    assert first.answer == "Previous-token heads arise before induction heads in 7 of 8 runs (p = 0.016)."
    assert "In 1 the checkpoints are too far apart to tell." in first.text


def test_a_role_that_comes_and_goes_has_arisen_when_it_stays():
    frame = table(lambda size, run, score: 400)
    passing = (pl.col("step") == 10) & (pl.col("layer") == 3) & (pl.col("head") == 0)
    frame = frame.with_columns(prev=pl.when(passing).then(0.9).otherwise("prev"))
    row = studied(frame).tables["firsts"].filter(pl.col("role") == "previous-token").row(0, named=True)
    assert (row["seen"], row["lower"], row["upper"]) == (10, 200, 400)


def test_half_of_the_runs_are_counted_upwards_and_runs_without_the_role_are_late():
    onsets = pl.DataFrame({"role": ["a"] * 5 + ["b"] * 5, "upper": [40, 10, None, 30, 20, 5, None, None, None, 7]})
    assert in_half(onsets) == {"a": 30}  # three of five; only two have b
    assert in_half(onsets.filter(pl.col("role") == "b").head(4)) == {}
    assert in_half(onsets.filter(pl.col("role") == "b").tail(2)) == {"b": 7}


def test_a_role_that_never_arises_is_known_to_be_later():
    result = studied(table(lambda size, run, score: 100 if score == "prev" else None))
    later = result.tables["firsts"].filter(pl.col("role") == "induction")
    assert later["censoring"].unique().to_list() == ["right"]
    row = result.tables["order"].row(0, named=True)
    assert (row["n_first"], row["n_tie"], row["lag_upper"]) == (8, 0, None)
    assert row["lag_lower"] == pytest.approx(np.log10(1001 / 101))


def test_a_role_whose_score_stops_early_is_not_complete():
    frame = table(in_order).with_columns(induction=pl.when(pl.col("step") <= 200).then("induction"))
    result = studied(frame)
    row = result.tables["order"].row(0, named=True)
    assert (row["n_first"], row["n_complete"], row["n_first_complete"]) == (7, 0, 0)
    assert "Both were measured to the end in 0" in result.headline[0].text


def test_a_head_that_copies_is_named_by_where_it_attends():
    """Copying is exceeded more than induction in head (2, 2), which is an induction head; head (3, 2) only copies."""
    frame = table(lambda size, run, score: 100, scores=("prev", "induction", "copying"))
    frame = frame.with_columns(
        copying=pl.when((pl.col("layer") == 2) & (pl.col("head") == 2) & (pl.col("step") >= 100))
        .then(0.99)
        .otherwise("copying")
    )
    main = (
        studied(frame).tables["main_roles"].filter(pl.col("step") == 1000).select("layer", "role", "n_roles").unique()
    )
    expected = [(1, "previous-token", 1), (2, "induction", 2), (3, "copying", 1)]
    assert sorted(main.rows()) == expected


@pytest.mark.parametrize("score", ["prev", "copying"])
def test_a_level_lies_above_all_untrained_heads_or_nowhere(score):
    """Copying goes from -1 to 1: its median may be below 0. A level beyond 1 cannot be passed, so there is none."""
    for untrained, level in (([-0.3, -0.1, 0.2], 0.5), ([0.1, 0.2, 0.7], None)):
        heads = pl.DataFrame({"step": 0, score: untrained}, schema={"step": pl.Int64, score: pl.Float64})
        found = levels(heads, [Role("one", score)])["level"].item()
        assert found == (None if level is None else pytest.approx(level))


@pytest.mark.parametrize("seed", range(20))
def test_untrained_heads_hold_no_role(seed):
    """100 null suites in all, of five runs: heads that scatter as at step 0 throughout never arise, so no order is told."""
    for part in range(5):
        result = studied(table(lambda size, run, score: None, runs=5, seed=100 * seed + part))
        assert result.tables["firsts"]["upper"].is_null().all()
        assert result.tables["order"]["n_unknown"][0] == 5
        assert not [finding for finding in result.headline if finding.section in ("order", "several")]


def test_the_level_is_twice_as_far_from_untrained_heads_as_any_of_them():
    frame = table(in_order)
    untrained = frame.filter(pl.col("step") == 0)["prev"]
    row = levels(frame, [ROLES["previous-token"]]).row(0, named=True)
    assert row["level"] == pytest.approx(2 * untrained.max() - untrained.median())
    assert (row["n_untrained"], row["untrained_share"], row["given"]) == (8 * LAYERS * HEADS, 0.0, False)


def test_a_level_of_the_user_stands_and_its_share_of_untrained_heads_is_told():
    result = studied(table(in_order), roles=["previous-token=prev>0.1"])
    row = result.tables["levels"].filter(pl.col("role") == "previous-token").row(0, named=True)
    assert row["level"] == 0.1
    assert row["given"]
    assert row["untrained_share"] == pytest.approx(0.5, abs=0.12)
    assert any("of untrained heads pass the given level of previous-token" in note for note in result.notes)


def test_without_step_0_a_level_must_be_given():
    frame = table(in_order, steps=STEPS[1:])
    with pytest.raises(StatisticsError, match="no head was measured at step 0"):
        studied(frame)
    assert studied(frame, roles=["induction=induction>0.4"]).tables["firsts"]["role"].unique().to_list() == [
        "induction"
    ]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("induction", "is no role: write NAME=SCORE"),
        ("mine=inductoin", "did you mean 'induction'"),
        ("mine=prev>high", "give a number"),
    ],
)
def test_a_wrong_role_is_named(asked, message):
    with pytest.raises(UsageError, match=message):
        asked_roles([asked])


def test_changes_and_overlaps_of_heads_are_counted_against_chance():
    """In all runs head (1, 2) turns from a previous-token head into an induction head at 400; (0, 0) keeps its role."""

    frame = table(lambda *at: None)
    here = (pl.col("layer") == 1) & (pl.col("head") == 2)
    keeper = (pl.col("layer") == 0) & (pl.col("head") == 0)
    prev = here & pl.col("step").is_between(100, 399) | keeper & (pl.col("step") >= 100)
    frame = frame.with_columns(
        prev=pl.when(prev).then(0.8).otherwise("prev"),
        induction=pl.when(here & (pl.col("step") >= 400)).then(0.9).otherwise("induction"),
    )
    result = studied(frame)
    cells = {(row["before"], row["after"]): row for row in result.tables["changes"].to_dicts()}
    assert cells["previous-token", "induction"]["n"] == 8
    assert cells["previous-token", "previous-token"]["n"] == 8
    assert cells["previous-token", "no role"]["n"] == 0
    stays = result.tables["stays"].group_by("role").agg(pl.col("n_before", "n_kept").sum())
    assert {row["role"]: (row["n_before"], row["n_kept"]) for row in stays.to_dicts()} == {
        "previous-token": (16, 8), "induction": (8, 8),
    }  # fmt: skip
    (pair,) = result.tables["several"].to_dicts()
    assert (pair["n_one"], pair["n_other"], pair["n"]) == (16, 8, 8)
    assert pair["expected"] == pytest.approx(8 / HEADS)  # one of each in layer 1 of each run
    # in each run both are one of six heads: all eight runs agree by chance with probability 6^-8
    assert pair["p"] == pytest.approx(2 * 6.0**-8)


def test_overlaps_are_the_same_bit_for_bit_in_any_order_of_rows():
    """`unique` gives heads in no order of their own, and the law is rounded in the order in which layers come."""
    random = np.random.default_rng(0)
    grid = pl.DataFrame(
        list(product("abcdef", range(6), range(9), ("one", "other"))),
        schema=("run", "layer", "head", "role"),
        orient="row",
    )
    table = grid.with_columns(holds=pl.Series(random.random(grid.height) < 0.4), size=pl.lit("1m"))
    found = [several(table.sample(fraction=1, shuffle=True, seed=seed), ["one", "other"]) for seed in range(6)]
    assert all(one.equals(found[0]) for one in found)


def test_the_law_of_overlaps_is_that_of_scipy():
    law = overlap_law([(12, 5, 4), (7, 3, 3)])
    one, other = hypergeom(12, 5, 4).pmf(range(5)), hypergeom(7, 3, 3).pmf(range(4))
    assert law == pytest.approx(np.convolve(one, other), abs=1e-13)


def test_the_sign_test_is_scipys():
    for n_first, n_second in product(range(6), range(6)):
        if n_first + n_second:
            assert sign_test(n_first, n_second) == pytest.approx(binomtest(n_first, n_first + n_second).pvalue)
    assert sign_test(0, 0) is None


def test_an_onset_before_the_first_step_overlaps_whatever_begins_there():
    left, later = {"lower": None, "upper": 10}, {"lower": 10, "upper": 100}
    assert earlier(left, later) == "first"
    assert earlier(left, {"lower": None, "upper": 100}) == "tie"
    assert earlier({"lower": 100, "upper": None}, {"lower": 1000, "upper": None}) == "unknown"
    assert lag(left, later) == pytest.approx((0.0, np.log10(101)))


def test_the_reference_says_that_previous_token_heads_come_first(reference):
    """The 27 runs whose induction scores are whole, and the nine of 410m that end at step 512."""
    import gzip

    rows = {}
    for name in ("pythia_1back/pythia_heads.csv.gz", "pythia_induction/pythia_induction.csv.gz"):
        with gzip.open(reference.parent / name) as file:
            rows[name] = pl.read_csv(file.read())
    heads, induction = rows.values()
    run = pl.col("mpath").str.split("/").list.last() + "-seed" + pl.col("seed").cast(pl.String)
    joined = heads.select(
        run=run, step=pl.col("step_modded") - 1, layer=pl.col("Layer") - 1, head=pl.col("Head") - 1, prev="mean_1back",
        model=pl.col("mpath").str.split("/").list.last(), seed=pl.col("seed").cast(pl.String), n_params="n_params",
        n_layers="n_layers",
    ).join(
        induction.select(run=run, step="step", layer="layer", head="head", induction="mean_ps"),
        on=["run", "step", "layer", "head"], how="left",
    ).with_columns(
        suite=pl.lit("pythia"), size=pl.col("model").str.split("-").list.last(), n_heads=pl.col("head").max().over("model") + 1
    )  # fmt: skip
    row = studied(joined).tables["order"].filter(pl.col("size").is_null()).row(0, named=True)
    assert (row["n"], row["n_first"], row["n_second"], row["n_tie"]) == (36, 35, 0, 1)
    assert (row["n_complete"], row["n_first_complete"]) == (27, 27)

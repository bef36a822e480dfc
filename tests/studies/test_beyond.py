"""What goes beyond the study: formulas against R, and findings against what was planted."""

from itertools import permutations

import numpy as np
import polars as pl
import pytest

from headway.stats.sequential import sequential_p
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.consistency import correlations
from headway.studies.development.emergence import emergence
from headway.studies.development.extrapolation import extrapolation, line_with_intervals
from headway.studies.development.growth import growth
from headway.studies.development.heads import read_heads
from headway.studies.development.identity import identity
from headway.studies.development.intervals import PUBLISHED, onset_intervals
from headway.studies.development.matching import (
    MOST_SHUFFLES,
    SHUFFLES_SHOWN,
    _assigned,
    _dealt_to_layers,
    _dealt_to_runs,
    _reduced,
    _tests,
    match,
    matching,
)
from headway.studies.development.onset import onset
from headway.studies.development.position import kendalls_w, position
from headway.studies.development.seeds import interval_widths, seeds, t_power, two_sizes
from support_studies import SIZES, STEPS, heads_table

SCORE = "prev_self_ratio"
RNG = np.random.default_rng


def studied(table: pl.DataFrame, *parts, bootstraps: int = 200) -> ResultBuilder:
    draft = ResultBuilder(read_heads(table, SCORE), bootstraps, 0)
    for part in (growth, onset, *parts):
        part(draft)
    return draft


# Position -----------------------------------------------------------------------------------------------------


def test_kendalls_w_is_rs():
    ranks = np.array([[1, 2, 3, 4], [2, 1, 3, 4], [1, 3, 2, 4], [1.5, 1.5, 3, 4]])
    # R: m <- rbind(...); friedman.test(m)$statistic / (nrow(m) * (ncol(m) - 1))
    assert kendalls_w(ranks) == pytest.approx(0.814102564103, abs=1e-12)
    assert kendalls_w(np.tile(np.arange(1.0, 6), (3, 1))) == pytest.approx(1)


def test_the_same_layer_in_every_seed_is_seen():
    draft = studied(heads_table(), position)
    assert draft.tables["same_place"].filter(pl.col("what") == "layer")["share"].to_list() == [1, 1, 1]
    shares = draft.tables["layer_ranks"].filter(pl.col("layer") == 1)
    assert shares["top_share"].to_list() == [1, 1, 1]
    assert shares["mean_rank"].to_list() == [1, 1, 1]
    one_size = studied(heads_table(sizes=("11m",), seeds=tuple(range(1, 7))), position)
    assert one_size.values["beyond"]["position"]["depth_p"] < 0.05  # six of six in one sixth of the depth


def test_layers_at_random_look_like_chance():
    def anywhere(size, seed, step, layer, head):
        return RNG([seed, int(size[:-1])]).normal(size=len(layer)) + step * 1e-4

    table = heads_table(anywhere, seeds=tuple(range(1, 10)), steps=(0, 1000))
    agreement = studied(table, position).tables["layer_agreement"]
    assert (agreement["w"] < agreement["chance_upper"] * 1.5).all()
    assert agreement["chance"].to_list() == pytest.approx([1 / 9] * 3)


def test_chance_over_sixths_sums_to_one():
    table = studied(heads_table(), position).tables["top_head_depth"]
    for (_,), of in table.group_by("model"):
        assert of["share"].sum() == pytest.approx(1)
        assert of["chance"].sum() == pytest.approx(1)
        assert ((of["chance_lower"] <= of["chance"] + 1e-9) & (of["chance"] <= of["chance_upper"] + 1e-9)).all()


# Identity -----------------------------------------------------------------------------------------------------


def relay(size, seed, step, layer, head):
    """Head 0 of layer 0 leads up to step 4, head 1 of layer 1 from 8 to 64, head 0 of layer 2 from 128 on."""
    leader = (0, 0) if step <= 4 else (1, 1) if step <= 64 else (2, 0)
    quiet = 1 + 1e-3 * layer + 1e-4 * head + 1e-7 * step
    return quiet + np.where((layer == leader[0]) & (head == leader[1]), 1.0, 0.0)


def test_the_lead_is_followed():
    draft = studied(heads_table(relay, sizes=("3m",), seeds=(1, 2)), identity)
    row = draft.tables["lead"].row(0, named=True)
    assert (row["final_layer"], row["final_head"]) == (2, 0)
    assert (row["takes_lead_step"], row["takes_lead_after"], row["first_led_step"]) == (128, 64, 128)
    assert (row["n_changes"], row["n_leaders"]) == (2, 3)
    rise = draft.tables["final_head"].filter(pl.col("run") == "toy-3m-seed1")
    assert rise.filter("leads")["step"].to_list() == [128, 256, 512, 1000]
    first = rise.row(0, named=True)
    assert first["rank"] == 6  # behind the leader and the four heads after it in layer 2
    assert first["percentile"] == pytest.approx((15 - 6) / 14)


# Matching -----------------------------------------------------------------------------------------------------


def test_shuffled_heads_are_found_again():
    a = RNG(0).normal(size=(3, 5, 7))
    order = RNG(1).permutation(15)
    partner, distance = match(a, a.reshape(15, 7)[order].reshape(3, 5, 7))
    assert order[partner].tolist() == list(range(15))
    assert distance == pytest.approx(np.zeros(15), abs=1e-7)  # the root of a rounding error of 1e-15


def walks(per_layer: bool):
    """Every head follows a walk of its own; with `per_layer`, its shape is that of its place, alike in every seed."""

    def value(size, seed, step, layer, head):
        places = len(layer)
        common = RNG(5).normal(size=(places, len(STEPS))).cumsum(axis=1)
        own = RNG([seed, 9]).normal(size=(places, len(STEPS))).cumsum(axis=1)
        return (common + 0.1 * own if per_layer else own)[:, STEPS.index(step)]

    return value


def matching_tests(table: pl.DataFrame) -> dict[str, dict]:
    rows = studied(table, matching).tables["matching"].to_dicts()
    return {row["test"]: row for row in rows}


def test_trajectories_that_repeat_in_their_layers_are_told_from_chance():
    tests = matching_tests(heads_table(walks(True), sizes=("11m",)))
    assert tests["same layer"]["observed"] > 0.9
    for test in ("same layer", "layers", "beyond layers"):
        assert tests[test]["p"] < 0.01


def test_trajectories_of_each_seed_its_own_are_chance():
    tests = matching_tests(heads_table(walks(False), sizes=("11m",)))
    for row in tests.values():
        assert row["p"] > 0.05
        assert row["chance_lower"] <= row["observed"] <= row["chance_upper"]


def one_law(random):
    return random.normal(size=(3, 3, 3, 4)).cumsum(axis=-1)


def unequal_spreads(random):
    return np.geomspace(0.2, 2, 3)[:, None, None] * one_law(random)


def a_riser_here_and_there(random):
    return 0.1 * one_law(random) + (random.random((3, 3, 3, 1)) < 0.3) * np.linspace(0, 3, 4)


@pytest.mark.parametrize("law", [one_law, unequal_spreads, a_riser_here_and_there])
def test_beyond_layers_holds_its_level(law):
    """Heads independent given their layer: p is uniform; of 40 data sets, 9 or more below 0.1 have a chance of 0.002
    (binomial), and none below 0.2 one of 0.0004."""
    p = np.array([beyond_layers(law(RNG([7, i])), RNG(i)) for i in range(40)])
    assert (p < 0.1).sum() < 9
    assert (p < 0.2).any()


def beyond_layers(x, rng) -> float:
    found = [match(x[a], x[b]) for a, b in PAIRS]
    return _tests(x, PAIRS, found, 49, rng)[-1]["p"]


PAIRS = [(0, 1), (0, 2), (1, 2)]


def enumerated(x) -> float:
    """Root mean square distance of heads paired at their best within layers, by trying all pairings."""
    best = []
    for a, b in PAIRS:
        for one, other in zip(x[a], x[b], strict=True):
            orders = permutations(range(len(one)))
            best.append(min(((one - other[list(order)]) ** 2).mean() for order in orders))
    return float(np.sqrt(np.mean(best)))


@pytest.mark.parametrize("shift", [0.0, 0.6])  # of layers: without it p is large and draws stop; with it p is small
def test_distances_are_tested_as_if_every_pairing_of_every_draw_were_tried(shift):
    x = one_law(RNG(3)) + shift * np.arange(3)[None, :, None, None]
    found = [match(x[a], x[b]) for a, b in PAIRS]
    tests = {row["test"]: row for row in _tests(x, PAIRS, found, 1000, RNG(4))}
    rng = RNG(4)
    for _ in range(1000):  # the labels of the first test
        rng.permuted(np.broadcast_to(np.arange(9), (3, 9)), axis=1)

    def to_layers():
        order = rng.permuted(np.broadcast_to(np.arange(9), (3, 9)), axis=-1)
        return np.take_along_axis(x.reshape(3, 9, -1), order[..., None], axis=1).reshape(x.shape)

    def to_runs():
        order = rng.permuted(np.broadcast_to(np.arange(9), (3, 9)), axis=-1)
        pooled = np.swapaxes(x, 0, 1).reshape(3, 9, -1)
        return np.swapaxes(np.take_along_axis(pooled, order[..., None], axis=1).reshape(x.shape), 0, 1)

    for name, deal in (("layers", to_layers), ("beyond layers", to_runs)):
        drawn = []

        def draw(n, name=name, deal=deal, drawn=drawn):
            new = [enumerated(deal()) for _ in range(n)]
            drawn.extend(new)
            return {name: -np.array(new)}

        p, _ = sequential_p(-enumerated(x), draw, SHUFFLES_SHOWN, MOST_SHUFFLES)
        assert tests[name]["observed"] == pytest.approx(enumerated(x))
        assert tests[name]["p"] == p[name]
        assert tests[name]["chance"] == pytest.approx(np.mean(drawn[:SHUFFLES_SHOWN]))
        low, high = np.quantile(drawn[:SHUFFLES_SHOWN], [0.025, 0.975])
        assert [tests[name]["chance_lower"], tests[name]["chance_upper"]] == pytest.approx([low, high])


def test_no_assignment_costs_less_than_its_bound():
    squared = RNG(6).gamma(1, size=(4, 3, 5, 5))
    bound, optimum = (part(squared).sum(axis=-1) for part in (_reduced, _assigned))
    assert (bound <= optimum + 1e-12).all()  # sums of five numbers of size 1
    assert bound.mean() > 0.8 * optimum.mean()  # so that it decides draws; of random costs it is nine tenths


def test_blocks_in_the_given_order_are_the_distances_of_the_data():
    x = RNG(8).normal(size=(3, 2, 5, 7))
    direct = ((x[[0, 0, 1]][:, :, :, None] - x[[1, 2, 2]][:, :, None]) ** 2).mean(axis=-1)
    of_pairs = np.stack(list(_dealt_to_layers(x, PAIRS, np.arange(10) + np.zeros((1, 3, 1), int))))[:, 0]
    of_layers = np.stack(list(_dealt_to_runs(x, PAIRS, np.arange(15) + np.zeros((1, 2, 1), int))))[:, 0]
    assert of_pairs == pytest.approx(direct)
    assert np.swapaxes(of_layers, 0, 1) == pytest.approx(direct)


def test_a_mix_of_heads_that_repeats_in_every_seed_is_seen_beyond_layers():
    """In each layer of each seed one head rises, any one of them: layers are alike, and so is every seed's mix."""

    def value(size, seed, step, layer, head):
        riser = RNG([seed, 3]).integers(7, size=5)
        return np.log10(step + 2) * (head == riser[layer]) + RNG([seed, step]).normal(0, 0.05, len(layer))

    tests = matching_tests(heads_table(value, sizes=("11m",), seeds=(1, 2, 3, 4)))
    assert tests["beyond layers"]["p"] < 0.01


def test_equally_good_partners_are_not_taken_from_the_same_place():
    alike = np.zeros((6, 4, 3))
    partner, distance = match(alike, alike)
    assert sorted(partner) == list(range(24))
    assert (partner // 4 == np.arange(24) // 4).mean() < 0.6  # by chance 1/6
    assert not distance.any()


# Emergence ----------------------------------------------------------------------------------------------------


def test_the_ends_of_onset_intervals_are_measured_steps():
    intervals = studied(heads_table(), emergence, onset_intervals).tables["onset_intervals"]
    assert "largest derivative" in intervals["definition"]
    means = pl.col("definition") == PUBLISHED  # ends that are means over thresholds
    for end in ("lower", "upper"):
        found = intervals.filter(~means)[end].drop_nulls()
        assert set(found) <= set(STEPS)


@pytest.mark.parametrize(("n_steps", "k"), [(5, 4), (8, 7), (10, 9), (11, 10), (12, 10)])
def test_a_run_of_few_steps_has_a_curve(n_steps, k):
    draft = studied(heads_table(sizes=("3m",), steps=STEPS[-n_steps:]), emergence)
    assert draft.tables["emergence"]["k"].to_list() == [k] * 3
    assert ("emergence" in str(draft.values.get("left_out"))) is False
    assert any(f"k = {k} basis functions" in note for note in draft.notes) == (k < 10)


def test_a_repeated_step_leaves_a_curve_with_one_less():
    table = heads_table(sizes=("3m",), steps=STEPS[:11])
    first = table.filter(pl.col("step") == 0).with_columns(step=pl.lit(1, pl.Int64))
    draft = studied(pl.concat([table.filter(pl.col("step") != 1), first]), emergence)
    assert draft.tables["emergence"]["k"].to_list() == [9] * 3


# Onset with intervals -----------------------------------------------------------------------------------------


def test_the_half_of_rise_is_bracketed():
    draft = studied(heads_table(), onset_intervals)
    intervals = draft.tables["onset_intervals"].filter(pl.col("definition") == "half of rise")
    for row in intervals.to_dicts():
        planted = 10 ** ({"3m": 2.2, "11m": 1.7, "37m": 1.2}[row["size"]] + 0.05 * (int(row["seed"]) - 2)) - 1
        assert row["lower"] < planted <= row["upper"]
    medians = draft.tables["onset_by_size"].filter(pl.col("definition") == "half of rise")
    assert medians.select("median_lower", "median_upper").rows() == [(128, 256), (32, 64), (8, 16)]
    assert ((medians["lower"] <= medians["median_lower"]) & (medians["upper"] >= medians["median_upper"])).all()


def test_the_relation_to_size_is_within_its_bounds():
    relations = studied(heads_table(), onset_intervals).tables["onset_relations"]
    # planted: half of rise at 2.2, 1.7, 1.2 for 3, 11, 37 million parameters, -0.917 per decade
    row = relations.filter(pl.col("definition") == "half of rise").row(0, named=True)
    assert row["bound_lower"] < -0.917 < row["bound_upper"]
    determined = relations.drop_nulls("slope")
    assert (determined["bound_lower"] <= determined["slope"]).all()
    assert (determined["slope"] <= determined["bound_upper"]).all()


def test_a_flat_run_is_censored():
    def falls(size, seed, step, layer, head):
        return 5 - np.log10(step + 1) - 0.1 * layer - 0.01 * head

    intervals = studied(heads_table(falls), onset_intervals).tables["onset_intervals"]
    assert intervals["censoring"].unique().to_list() == ["right"]
    assert intervals["lower"].unique().to_list() == [1000]


def test_the_same_seed_gives_the_same_intervals():
    one, two = (studied(heads_table(), onset_intervals, position, matching, seeds) for _ in range(2))
    for name, table in one.tables.items():
        assert table.equals(two.tables[name]), name


# Number of seeds ----------------------------------------------------------------------------------------------


def test_power_is_rs():
    # R: power.t.test(n=9, delta=1.2, sd=1, strict=TRUE)$power; power.t.test(delta=0.82, sd=1, power=0.8)$n is 24.34
    assert t_power(1.2, np.array([9]))[0] == pytest.approx(0.66671, abs=1e-5)
    assert t_power(0.82, np.array([24, 25])) == pytest.approx([0.8, 0.8], abs=0.02)
    assert t_power(0.82, np.array([24]))[0] < 0.8 < t_power(0.82, np.array([25]))[0]


def test_two_sizes_are_compared_as_by_welch():
    found = two_sizes(np.array([5, 6, 9, 7.5, 8]), np.array([1.0, 2, 4, 3]), 100, RNG(0))
    # R: t.test(c(1,2,4,3), c(5,6,9,7.5,8))$conf.int
    assert [found["lower"], found["upper"]] == pytest.approx([-6.87710737462, -2.32289262538], abs=1e-9)
    assert found["seeds_needed_lower"] <= found["seeds_needed"]


def test_slopes_of_trajectories_that_rise_at_different_steps_do_not_correlate():
    def value(size, seed, step, layer, head):
        middle = {"3m": 2.2, "11m": 1.2}[size]
        noise = RNG([seed, step, len(layer)]).normal(0, 0.01, len(layer))
        return noise + np.where((layer == 1) & (head == 1), 1 + 3 / (1 + np.exp(-8 * (np.log10(step + 1) - middle))), 0)

    pairs = correlations(read_heads(heads_table(value, sizes=("3m", "11m")), SCORE)).filter(~pl.col("same_run"))
    within, between = (pairs.filter(pl.col("same_model") == same) for same in (True, False))
    assert within["cor_slopes"].min() > 0.95
    assert between["cor_slopes"].max() < 0.2
    assert between["cor"].min() > 0.3  # the plain one is high where both only rise


def test_widths_shrink_with_seeds():
    y = RNG(0).normal(size=9)
    rows = interval_widths(y, True, RNG(1))
    widths = [row["width"] for row in rows if row["width"] is not None]
    assert len(widths) == 8
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(rows[7]["expected_width"])  # all nine seeds are one subset


def test_sizes_without_spread_have_no_number_of_seeds():
    found = two_sizes(np.array([1.0, 1.0]), np.array([1.0, 1.0]), 10, RNG(0))
    assert found["difference"] == 0
    assert found["seeds_needed"] is None


# Sizes to come ------------------------------------------------------------------------------------------------


def test_prediction_intervals_are_rs():
    n_params = [10.0**7, 10.0**8, 10.0**8.5, 10.0**9]
    frame = pl.DataFrame({"model": list("abcd"), "n_params": n_params, "y": [1.0, 3.0, 2.5, 4.2]})
    line = line_with_intervals(frame)
    # R: x <- c(7,8,8.5,9); y <- c(1,3,2.5,4.2); predict(lm(y~x), data.frame(x=10), interval="prediction")
    last = line.row(-1, named=True)
    assert last["n_params"] == pytest.approx(1e10)
    assert [last["fit"], last["lower"], last["upper"]] == pytest.approx(
        [5.34285714286, 0.632744659879, 10.0529696258], abs=1e-8
    )
    assert [last["run_lower"], last["run_upper"]] == pytest.approx([last["lower"], last["upper"]])
    assert line["extrapolated"].sum() == 20  # of 61 places over three decades, those in the last


def test_two_sizes_are_no_line():
    draft = studied(heads_table(sizes=tuple(SIZES)[:2]), extrapolation)
    assert "extrapolation" not in draft.tables
    assert {entry["what"] for entry in draft.values["left_out"]} == {
        f"beyond.extrapolation.{outcome}" for outcome in ("onset", "peak", "slope")
    }

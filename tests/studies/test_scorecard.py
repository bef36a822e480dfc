"""Scorecards of planted suites: they order as they must on every axis, and null suites stay at chance."""

import json
import re
import shlex
from math import comb
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from scipy.stats import mannwhitneyu, sem, t, ttest_1samp, wasserstein_distance

import headway
from headway import cli
from headway.errors import StatisticsError, UsageError
from headway.known_scores import ROLES
from headway.store.directory import RunDirectory
from headway.studies import Result, scorecard
from headway.studies.scorecard import agreements, scale
from headway.studies.scorecard.claims import asked_for
from headway.studies.scorecard.measures import AXES, MEASURES
from support_scorecard import ANYWHERE, NOTHING, SAME, configuration, in_memory, run_directory, suite
from support_studies import too_long, write_heads

KINDS = (SAME, ANYWHERE, NOTHING)


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards")
    return {
        kind: scorecard.study(in_memory(folder / str(place), kind, 1), bootstraps=199)
        for place, kind in enumerate(KINDS)
    }


def line(result, measure, over, subject="induction"):
    return result.tables["axes"].filter(measure=measure, over=over, subject=subject).row(0, named=True)


# --- the truth -------------------------------------------------------------------------------------------------------

# Of each line: which kinds of suite have it, and which have what chance gives.
TRUTH = [
    ("criterion", "runs", (SAME, ANYWHERE)),
    ("ablation", "runs", (SAME, ANYWHERE)),
    ("trajectories", "seeds", (SAME, ANYWHERE)),
    ("onsets", "seeds", (SAME, ANYWHERE)),
    ("layers", "seeds", (SAME,)),
    ("composition", "seeds", (SAME, ANYWHERE)),
    ("paths", "runs", (SAME, ANYWHERE)),
    ("weights", "runs", (SAME, ANYWHERE)),
]


@pytest.mark.parametrize(("measure", "over", "planted"), TRUTH)
def test_planted_suites_order_as_they_must(cards, measure, over, planted):
    values = {kind: line(cards[kind], measure, over) for kind in KINDS}
    for kind in KINDS:
        if kind in planted:
            assert values[kind]["value"] > 0.85, kind  # 1, less the noise of scores and accuracies
            assert values[kind]["lower"] > 0.2, kind  # eight runs
        elif not values[kind]["answered"]:
            assert "in fewer than two runs one of the strongest edges" in values[kind]["reason"]  # of random edges
        elif measure != "criterion":
            assert values[kind]["lower"] <= 0 <= values[kind]["upper"], kind
    others = [values[kind]["value"] for kind in KINDS if kind not in planted and values[kind]["answered"]]
    assert min(values[kind]["value"] for kind in planted) > max(others, default=-1)


def test_every_axis_is_answered_where_all_tables_are(cards):
    answered = cards[SAME].tables["axes"].filter("answered", subject="induction")
    assert answered["axis"].unique(maintain_order=True).to_list() == list(AXES)


def test_over_sizes_places_agree_by_depth(tmp_path):
    result = scorecard.study(in_memory(tmp_path / "a", SAME, seeds=2, sizes=("1m", "4m", "16m")), bootstraps=99)
    found = line(result, "depths", "sizes")
    assert found["n_units"] == 3
    assert found["value"] > 0.8  # depths are 0.8, 0.71 and 0.73: 0.06 apart on average, where chance gives 0.37
    assert line(result, "trajectories", "sizes")["value"] > 0.95
    spread = scorecard.study(in_memory(tmp_path / "b", ANYWHERE, seeds=2, sizes=("1m", "4m", "16m")), bootstraps=99)
    assert line(spread, "depths", "sizes")["value"] < found["value"]


LINES_OF_PAIRS = [("layers", "seeds"), ("trajectories", "seeds"), ("onsets", "seeds"), ("composition", "seeds")]


def test_null_suites_stay_at_chance(tmp_path):
    """Of 8 suites with nothing in common, p ≤ 0.05 in at most 2: more has a probability of 0.6% (binomial)."""
    assert sum(comb(8, k) * 0.05**k * 0.95 ** (8 - k) for k in range(3, 9)) < 0.006
    small = dict.fromkeys(LINES_OF_PAIRS, 0)
    for seed in range(8):
        rundir = in_memory(tmp_path / f"{seed}", NOTHING, seed + 100, seeds=6)
        result = scorecard.study(rundir, roles=("induction",), bootstraps=99)
        for measure in LINES_OF_PAIRS:
            found = line(result, *measure)
            small[measure] += found["answered"] and found["p"] <= 0.05
            assert found["lower"] is None or found["lower"] <= 0.3
    assert max(small.values()) <= 2


# --- the scale -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 3, 7, 9])
def test_shares_have_the_exact_interval(k):
    from scipy.stats import binomtest

    law = binomtest(k, 9, 0.1, alternative="greater")
    low, high = binomtest(k, 9).proportion_ci(0.95, method="exact")
    assert scale.exact_share(k, 9) == pytest.approx((low, high))
    found = scale.of_shares(k, 9, 0.1)
    assert found.lower == pytest.approx((low - 0.1) / 0.9)
    assert found.upper == pytest.approx((high - 0.1) / 0.9)
    assert found.p == pytest.approx(law.pvalue)


def test_the_runs_needed_are_the_fewest_with_the_half_width():
    found = scale.of_shares(3, 5, 0.0)
    for width, n in zip(scale.WIDTHS, found.wanted, strict=True):
        halves = [np.ptp(scale.exact_share(round(0.6 * number), number)) / 2 for number in (n - 1, n)]
        assert halves[0] > width >= halves[1]
    of_means = scale.of_runs(np.array([0.6, 0.7, 0.8, 0.9, 0.75]), np.full(5, 0.5))
    n = of_means.wanted[0]
    more = of_means.half_width * np.sqrt(5 / np.array([n - 1, n])) * t.ppf(0.975, [n - 2, n - 1]) / t.ppf(0.975, 4)
    assert more[0] > 0.2 >= more[1]


def test_a_mean_over_runs_is_a_t_interval_between_chance_and_perfect():
    x = np.array([0.6, 0.7, 0.8, 0.9, 0.75])
    found = scale.of_runs(x, np.full(5, 0.5))
    low, high = t.interval(0.95, 4, 0.5, sem(2 * x - 1))
    assert found.value == pytest.approx(0.5)
    assert found.upper == pytest.approx(high)
    assert found.lower <= low + 1e-12  # the lower end is also that of one more run
    assert found.p == pytest.approx(ttest_1samp(2 * x - 1, 0).pvalue)


def test_what_left_out_runs_share_widens_their_interval(tmp_path):
    """The spread by chance of the means of two sizes is that of the mean of all runs, and adds to the runs' scatter."""
    rundir = in_memory(tmp_path, SAME, seeds=3, sizes=("1m", "4m"))
    alone = line(scorecard.study(rundir, bootstraps=0), "weights", "runs")
    configured = Result.load(rundir, "configuration", "heads")
    half = 1.959963984540054 * 0.1  # a standard deviation of 0.1
    rows = [{"role": "induction", "size": size, "lower": 0.5 - half, "upper": 0.5 + half} for size in ("1m", "4m")]
    configured.tables["classification"] = pl.DataFrame(rows)
    configured.save(rundir)
    shared = line(scorecard.study(rundir, bootstraps=0), "weights", "runs")
    scaled = 2 * configured.tables["configuration_runs"]["balanced_accuracy"].to_numpy() - 1
    error = np.hypot(sem(scaled), 2 * 0.1 / np.sqrt(2))
    assert shared["value"] == alone["value"] == pytest.approx(scaled.mean())
    assert shared["p"] == pytest.approx(2 * t.sf(scaled.mean() / error, 5))
    assert shared["lower"] <= alone["lower"]  # of six runs near 1, that of one more run is lower still


def test_runs_that_all_agree_have_an_interval_with_a_width():
    perfect = scale.of_runs(np.ones(6), np.full(6, 0.5))
    assert perfect.upper == 1
    # The same runs and one with what chance gives: mean 6/7, standard error sqrt(6/49 / 6) = 1/7, t(6).
    assert perfect.lower == pytest.approx(6 / 7 - t.ppf(0.975, 6) / 7)


def test_the_jackknife_of_pairs_is_that_of_the_mean_of_pairs():
    """Of numbers that are the means of two runs' own numbers, the U-statistic is the mean, and so is its jackknife error."""
    own = np.array([0.2, 0.5, 0.3, 0.8, 0.4, 0.9])
    observed = (own[:, None] + own) / 2
    drawn = np.zeros((50, 6, 6))
    found = scale.within(scale.Pairs(np.zeros(6, dtype=int), observed, drawn))
    assert found.value == pytest.approx(own.mean())
    half = t.ppf(0.975, 5) * sem(own)  # draws that are all 0 add no error
    assert found.upper == pytest.approx(min(1, own.mean() + half))
    assert found.n_pairs == 15


def test_differences_are_those_of_zou_and_donner():
    # Their section 2: of two means, MOVER's limits are those of the hypotenuse of half-widths.
    gap = scale.difference((0.5, 0.3, 0.7), (0.9, 0.6, 1.0))
    assert gap.value == pytest.approx(0.4)
    assert gap.lower == pytest.approx(0.4 - np.hypot(0.3, 0.2))
    assert gap.upper == pytest.approx(0.4 + np.hypot(0.1, 0.2))
    assert scale.difference((0.5, None, None), (0.9, 0.6, 1.0)).lower is None


# --- chance ----------------------------------------------------------------------------------------------------------


def test_chance_of_places_of_one_head_is_one_over_the_layers():
    random, groups = np.random.default_rng(0), np.zeros(2, dtype=int)
    holders, every = np.eye(5, dtype=int)[2], np.full(5, 3)
    pairs = agreements.places([agreements.dealt(holders, every, 4000, random) for _ in range(2)], groups)
    assert pairs.observed[0, 1] == 1
    assert pairs.drawn[:, 0, 1].mean() == pytest.approx(1 / 5, abs=0.02)  # 3 standard errors of 4,000 draws


def test_depths_differ_by_the_distance_of_wasserstein():
    random = np.random.default_rng(0)
    counts = [random.integers(1, 5, layers) for layers in (4, 7)]
    shares = [agreements.dealt(own, own + 1, 3, random) for own in counts]
    pairs = agreements.depths(shares, np.arange(2))
    depth = [np.arange(len(own)) / (len(own) - 1) for own in counts]
    assert pairs.observed[0, 1] == pytest.approx(1 - wasserstein_distance(*depth, *counts))
    for draw in range(3):
        expected = 1 - wasserstein_distance(*depth, shares[0][1 + draw], shares[1][1 + draw])
        assert pairs.drawn[draw, 0, 1] == pytest.approx(expected)


def test_chance_of_trajectories_is_zero_with_the_variance_of_permutations():
    random = np.random.default_rng(1)
    changes = random.exponential(size=(2, 12))
    drawn = agreements.trajectories(changes, np.zeros(2, dtype=int), 4000, random).drawn[:, 0, 1]
    assert drawn.mean() == pytest.approx(0, abs=0.015)  # 3 standard errors
    assert drawn.var() == pytest.approx(1 / 11, rel=0.1)  # Pitman 1937: 1 / (n - 1)


def test_the_overlap_of_edges_counts_kind_end_and_role():
    """Two runs share two of four edges by kind, end and role."""
    heads = np.array([0, 0, 1, 1])
    labels = np.array([0, -1, 1, -1])
    own = np.array([False, False, True, False])

    def run(kinds):
        return agreements.Edges(np.array(kinds), np.zeros(len(kinds), int), np.full(len(kinds), 2), labels, own, heads)

    pairs = agreements.edges([run([1, 1, 0]), run([1, 0, 2])], 2, np.zeros(2, int), 10, np.random.default_rng(0))
    assert pairs.observed[0, 1] == pytest.approx(2 / 4)


def test_single_heads_rank_as_mann_and_whitney(tmp_path):
    """One layer, of which two of four heads hold the role: the share of others that cost less is U / (m n)."""
    rundir = in_memory(tmp_path, SAME, seeds=3)
    random = np.random.default_rng(3)
    table = rundir.read("heads")
    costs = random.normal(size=table.height)
    rundir.read = {"heads": table.with_columns(ablation_repeat_accuracy=pl.Series(costs))}.__getitem__
    rundir.tables = lambda: ["heads"]
    found = line(scorecard.study(rundir, roles=("induction",), bootstraps=20), "single heads", "runs")
    last = rundir.read("heads").filter(pl.col("step") == 1000, pl.col("layer") == 4)
    shares = [
        mannwhitneyu(
            of.filter(pl.col("head") == 2)["ablation_repeat_accuracy"],
            of.filter(pl.col("head") != 2)["ablation_repeat_accuracy"],
        ).statistic
        / 3
        for _, of in last.group_by("run")
    ]
    assert found["observed"] == pytest.approx(np.mean(shares))
    assert found["n_controls"] == 3


# --- what is asked, and what cannot be answered ------------------------------------------------------------------------


def test_names_and_scores_leave_out_the_other_roles():
    assert [role.name for role in asked_for((), ())] == list(ROLES)
    assert [role.name for role in asked_for(("induction",), ("prev",))] == ["induction", "prev"]
    own = asked_for(("mine=prev>0.4",), ())
    assert own[-1].level == 0.4
    assert len(own) == len(ROLES) + 1
    assert [role.name for role in asked_for(("mine=prev>0.4", "induction"), ())] == ["induction", "mine"]
    with pytest.raises(UsageError, match="did you mean 'induction'"):
        asked_for(("inducton",), ())
    with pytest.raises(UsageError, match="is not a score"):
        asked_for((), ("prevv",))


def test_what_cannot_be_answered_says_why_and_what_would(tmp_path):
    rundir = in_memory(tmp_path, SAME, seeds=1)
    heads_only = write_heads(RunDirectory(tmp_path / "heads"), rundir.read("heads").filter(pl.col("step") > 0))
    table = scorecard.study(heads_only, bootstraps=99).tables["axes"]
    assert table["answered"].sum() == 0  # one run, without step 0
    assert table.filter(pl.col("reason").is_null() | pl.col("needs").is_null()).is_empty()
    assert table.filter(subject="induction")["measure"].to_list() == [measure.name for measure in MEASURES]
    assert "step 0" in table.filter(measure="criterion")["needs"][0]
    assert "headway relate" in table.filter(measure="composition")["needs"][0]


def test_commands_that_would_answer_are_commands(tmp_path):
    """Every command that a line names parses as the command line does."""
    table = in_memory(tmp_path, SAME, seeds=1)
    table.tables = lambda: ["heads"]
    for path in (tmp_path / "analysis" / "configuration").iterdir():
        path.unlink()
    needs = scorecard.study(table, bootstraps=9).tables["axes"]["needs"].drop_nulls()
    commands = [words for text in needs for words in re.findall(r"headway (.*?)(?:, then |$)", text)]
    assert {command.split()[0] for command in commands} == {"intervene", "measure", "relate", "describe", "analyze"}
    app = typer.main.get_command(cli.app)
    for words in commands:
        name, *rest = shlex.split(words)
        assert app.commands[name].make_context(name, rest).params


def test_without_draws_the_lines_that_need_them_are_left_out(tmp_path):
    table = scorecard.study(in_memory(tmp_path, SAME, seeds=3), bootstraps=0).tables["axes"]
    assert set(table.filter("answered")["over"]) == {"runs"}
    assert "--bootstraps" in table.filter(measure="layers", over="seeds")["needs"][0]


def test_a_table_without_scores_of_roles_is_refused(tmp_path):
    rundir = in_memory(tmp_path, SAME, seeds=2)
    with pytest.raises(StatisticsError, match="none of the scores copying"):
        scorecard.study(rundir, roles=("copying",))


def test_findings_are_short_sentences(cards):
    for result in cards.values():
        assert too_long(result.found) == []


def test_every_table_and_column_is_documented(cards):
    text = (Path(__file__).parents[2] / "docs" / "scorecard.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", text, flags=re.MULTILINE))
    whole = scorecard.compare(cards[SAME], cards[ANYWHERE], "runs/one", "runs/two")
    for name, table in whole.tables.items():
        named = rows["axes"] + rows["against"] if name in ("axes", "against") else rows[name]
        assert set(table.columns) <= set(re.findall(r"\w+", named)), name
    assert {measure.name for measure in MEASURES} <= set(
        re.findall(r"^\| \w+ \| `([\w ]+)` \|", text, flags=re.MULTILINE)
    )


# --- the function ------------------------------------------------------------------------------------------------------


def test_two_directories_stand_side_by_side(tmp_path):
    for place, kind in (("one", SAME), ("two", ANYWHERE)):
        run_directory(tmp_path / place, kind, seeds=4)
    found = headway.scorecard(tmp_path / "one", against=tmp_path / "two", roles=("induction",), bootstraps=99)
    (result,) = found.values()
    assert result.key == "scorecard/heads-against-two"
    assert not (tmp_path / "two" / "analysis" / "scorecard").exists()
    gaps = result.tables["differences"]
    place = gaps.filter(measure="layers", over="seeds").row(0, named=True)
    assert place["difference"] < -0.4
    assert place["lower"] < place["difference"] < place["upper"]
    same = gaps.filter(measure="onsets", over="seeds").row(0, named=True)
    assert same["lower"] < 0 < same["upper"]
    saved = json.loads((tmp_path / "one" / "analysis" / "scorecard" / "heads-against-two.json").read_text())
    assert saved["card"]["induction"]["axes"]["positional"][0]["value"] == pytest.approx(place["value"])
    assert saved["directories"] == ["one", "two"]
    assert "4 runs are in both directories" in result.notes[-1]


def test_analyze_makes_it_again_when_the_configuration_is_there(tmp_path):
    rundir = run_directory(tmp_path, SAME, seeds=2)
    for path in (tmp_path / "analysis" / "configuration").iterdir():
        path.unlink()
    given = {"studies": "scorecard", "bootstraps": 20}
    before = headway.analyze(tmp_path, **given)["scorecard/heads"]
    assert not before.tables["axes"].filter(measure="weights")["answered"].any()
    runs = suite(SAME, np.random.default_rng(0), seeds=2)
    configuration(runs, np.random.default_rng(0)).save(rundir)
    after = headway.analyze(tmp_path, **given)["scorecard/heads"]
    assert after.tables["axes"].filter(measure="weights", subject="induction")["answered"].all()

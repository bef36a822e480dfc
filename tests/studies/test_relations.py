"""The study of relations on circuits that were written into weights, on made-up tables, and its chapter."""

import numpy as np
import polars as pl
import pytest
from scipy import stats as scipy_stats

import headway
from headway import sweep
from headway.errors import StatisticsError
from headway.reporting import write
from headway.reporting.parts import Figure, Missing
from headway.reporting.relations import chapter
from headway.store import RunDirectory
from headway.studies import applying, relations
from headway.studies.relations import repeats
from headway.tables import COMPOSITIONS_COLUMNS, schema
from support_circuits import PLACES, planted_suite
from support_report import DRAWN, opened, run_directory
from support_studies import too_long, undocumented

RUNS = {f"planted-1m-seed{seed}": start for seed, start in enumerate((64, 64, 128, 256))}
STEPS = (0, 16, 64, 128, 256)
PREVIOUS, INDUCTION, DECOY = (PLACES[name] for name in ("previous", "induction", "decoy"))
K = "K-composition of previous-token and induction"


@pytest.fixture(scope="module")
def rundir(tmp_path_factory):
    """Previous-token heads from step 16 on; induction and its decoy, which read it, from another step on in each run."""
    runs = {run: {"previous": 16, "induction": start, "decoy": start} for run, start in RUNS.items()}
    folder = planted_suite(tmp_path_factory.mktemp("relations"), runs, STEPS)
    given = {"corpus": str(folder / "texts.txt"), "repeated_length": 8}
    headway.measure(folder / "suite", out=folder / "out", scores=["prev", "induction"], repeated_texts=8, **given)
    for summary in headway.relate(
        folder / "suite", out=folder / "out", n_texts=4, **given,
        senders="role=previous-token at last", receivers="role=induction at last",
    ):  # fmt: skip
        assert summary.failed == []
    return RunDirectory(folder / "out")


@pytest.fixture(scope="module")
def result(rundir):
    return relations.study(rundir, bootstraps=200)


def test_composition_rises_at_the_step_at_which_it_was_written(result):
    found = result.tables["firsts"].filter(role=K)
    onsets = {run: (lower, upper) for run, lower, upper in found.select("run", "lower", "upper").iter_rows()}
    before = dict(zip(STEPS[1:], STEPS, strict=False))
    assert onsets == {run: (before[start], start) for run, start in RUNS.items()}
    # Queries and values read nothing of it, in any run.
    for kind in "QV":
        others = result.tables["firsts"].filter(role=f"{kind}-composition of previous-token and induction")
        assert set(others["censoring"]) == {"right"}


def test_the_edges_are_the_written_ones_and_no_others(result):
    table = result.tables["edges"]
    found = set(table.select("run", "step", "kind", "from_layer", "from_head", "layer", "head").rows())
    expected = {
        (run, step, "k", *PREVIOUS, *reader)
        for run, start in RUNS.items()
        for step in STEPS
        if step >= start
        for reader in (INDUCTION, DECOY)
    }
    # Each of the 20 checkpoints has an edge by chance in 5% of cases: one is expected, P(4 or more) = 0.02.
    assert expected <= found
    assert len({edge[:2] for edge in found - expected}) <= 3
    roles = {(layer, head): role for layer, head, role in result.tables["nodes"].select("layer", "head", "role").rows()}
    assert (roles[PREVIOUS], roles[INDUCTION], roles[DECOY]) == ("previous-token", "induction", "induction")


def test_trajectories_stand_beside_layers_and_random_heads(result, rundir):
    table = rundir.read("compositions").filter(run="planted-1m-seed0", step=256, kind="k")
    row = result.tables["trajectories"].filter(
        run="planted-1m-seed0", step=256, kind="k", first="previous-token", second="induction"
    ).row(0, named=True)  # fmt: skip
    own = table.filter(from_head=PREVIOUS[1]).filter(pl.col("head").is_in([INDUCTION[1], DECOY[1]]))
    assert (row["n_pairs"], row["n_edges"]) == (2, 2)
    assert row["mean"] == pytest.approx(own["composition"].mean())
    assert row["largest"] == pytest.approx(own["composition"].max())
    assert row["others"] == pytest.approx(table["composition"].mean())  # of all 16 pairs of both layers
    assert row["chance"] == pytest.approx(127**-0.5)


def test_what_is_beyond_layers_is_a_t_test_over_runs(result):
    last = result.tables["trajectories"].filter(step=256, kind="k", first="previous-token", second="induction")
    differences = (last["mean"] - last["others"]).to_numpy()
    row = result.tables["beyond"].filter(kind="k", first="previous-token", second="induction").row(0, named=True)
    test = scipy_stats.ttest_1samp(differences, 0)
    assert (row["n_runs"], row["difference"], row["p"]) == (
        4,
        pytest.approx(differences.mean()),
        pytest.approx(test.pvalue),
    )
    assert (row["lower"], row["upper"]) == pytest.approx(tuple(test.confidence_interval()))


def test_the_order_is_that_of_the_roles_and_their_composition(result):
    order = {
        (row["first"], row["second"]): row for row in result.tables["order"].filter(pl.col("size").is_null()).to_dicts()
    }
    assert order["previous-token", K]["n_first"] == 4
    assert order[K, "induction"]["n_tie"] == 4  # both come with the same heads


def test_the_strongest_pairs_join_the_roles_in_all_runs(result):
    table = result.tables["repeats"]
    row = table.filter(what="same roles", kind="k", first="previous-token", second="induction").row(0, named=True)
    assert row["n"] == 8  # two pairs in each of four runs; there are 16 pairs, all of which are among the strongest 20
    assert row["p"] is None
    assert row["expected"] == 8


def test_paths_are_averaged_over_pairs_and_runs(result, rundir):
    paths = rundir.read("paths").filter(effect="induction", input="k", step=256)
    of_runs = paths.group_by("run").agg(
        pl.mean("change"), difference=(pl.col("change") - pl.col("control_median")).mean()
    )
    row = result.tables["path_means"].filter(effect="induction", input="k", step=256).row(0, named=True)
    assert row["change"] == pytest.approx(of_runs["change"].mean())
    assert row["change"] < -0.3
    differences = of_runs["difference"].to_numpy()
    low, high = scipy_stats.t.interval(0.95, 3, differences.mean(), scipy_stats.sem(differences))
    assert (row["lower"], row["upper"]) == pytest.approx((low, high))
    assert (row["n_runs"], row["n_pairs"], row["n_controls"]) == (4, 8, 3)


def test_findings_are_short_and_say_their_counts(result):
    assert too_long(result.found) == []
    [rise] = [finding for finding in result.findings("rise") if finding.name == "k"]
    assert rise.answer == f"{K} heads rises above random heads, and stays there, in 4 of 4 runs."
    assert "There are 8 pairs in 4 runs." in rise.text
    [path] = [finding for finding in result.headline if finding.section == "paths"]
    assert "8 pairs in 4 runs on 4 texts" in path.text


def compositions(excess, runs=5, layers=3, heads=8, seed=0):
    """A made-up table at one step, with `excess(random, pair)` of each pair (from_layer, from_head, layer, head)."""
    random, rows = np.random.default_rng(seed), []
    for run in range(runs):
        for pair in np.ndindex(layers, heads, layers, heads):
            if pair[0] < pair[2]:
                more = excess(random, pair)
                rows.append(
                    {
                        "suite": "made", "run": f"toy-seed{run}", "model": "toy", "size": "1m", "seed": str(run), "step": 64,
                        "n_params": 10**6, "n_layers": layers, "n_heads": heads, "kind": "k",
                        **dict(zip(("from_layer", "from_head", "layer", "head"), pair, strict=True)),
                        "composition": 0.1 + more, "chance": 0.1, "excess": more, "z": more, "p": 0.5, "p_holm": 1.0,
                    }
                )  # fmt: skip
    return pl.DataFrame(rows, schema=schema(COMPOSITIONS_COLUMNS))


def layered(random, pair):
    """Late heads read early ones in all runs, whichever head it is."""
    return random.normal() + 5 * (pair[0] == 0) * (pair[2] == 2)


def test_layers_alone_are_no_repetition():
    """The rate of p ≤ 0.05 where the heads of a layer are all alike."""
    final = pl.DataFrame(
        [(f"toy-seed{run}", role, layer, 3) for run in range(5) for role, layer in (("a", 0), ("b", 2))],
        schema={"run": pl.String, "role": pl.String, "layer": pl.Int32, "head": pl.Int32}, orient="row",
    )  # fmt: skip
    p = {"same heads": [], "same roles": []}
    for seed in range(60):
        table = compositions(layered, seed=seed)
        p["same heads"].append(repeats.same_heads(table, 99, seed)["p"][0])
        same = repeats.same_roles(table, final, 99, seed).filter(first="a", second="b")
        p["same roles"].append(same["p"][0])
    for found in p.values():
        # Binomial(60, 0.05): P(8 or more) = 0.01. Ties of counts make p larger.
        assert sum(one <= 0.05 for one in found) <= 7


def test_the_same_pair_in_every_run_is_found():
    def planted(random, pair):
        return layered(random, pair) + 20 * (pair == (0, 3, 2, 5))

    table = compositions(planted)
    row = repeats.corrected(repeats.same_heads(table, 199, 0)).row(0, named=True)
    assert row["n"] >= 10  # of 10 pairs of runs
    assert row["p"] <= 0.05
    final = pl.DataFrame(
        [(f"toy-seed{run}", role, *place) for run in range(5) for role, place in (("a", (0, 3)), ("b", (2, 5)))],
        schema={"run": pl.String, "role": pl.String, "layer": pl.Int32, "head": pl.Int32}, orient="row",
    )  # fmt: skip
    same = repeats.same_roles(table, final, 199, 0).filter(first="a", second="b").row(0, named=True)
    assert (same["n"], same["p"]) == (5, pytest.approx(1 / 200))
    assert same["lower"] <= same["expected"] <= same["upper"]
    assert repeats.enough(table, final, 1000) == 1000
    assert repeats.enough(pl.concat([table.with_columns(kind=pl.lit(kind)) for kind in "qkvxyzuwt"]), final, 100) == 200


def test_without_heads_only_composition_is_told(tmp_path):
    rundir = RunDirectory(tmp_path)
    sweep.store(compositions(layered, runs=2), "compositions", rundir, identity={"suite": "made"})
    assert "relations" in applying(rundir)
    alone = relations.study(rundir, bootstraps=20)
    assert {"edges", "edge_counts", "nodes", "repeats"} <= set(alone.tables)
    assert "trajectories" not in alone.tables
    missing = [item for section in chapter(alone).sections for item in section.items if isinstance(item, Missing)]
    assert any("no table of heads" in item.reason for item in missing)
    with pytest.raises(StatisticsError, match="`headway relate` makes the tables"):
        relations.study(RunDirectory(tmp_path / "none"))


def test_a_finding_on_paths_stands_beside_the_picture_of_its_own_effect(result):
    shown = {one.answer: one.at for one in chapter(result).summary if one.figure == "paths"}
    said = [one for one in result.headline if one.section == "paths"]
    assert len(said) >= 1
    assert shown == {one.answer: {"title": one.values["title"]} for one in said}
    assert {one.values["title"] for one in said} <= set(chapter(result).tables["drawn_paths"]["title"])


def test_every_figure_is_there_and_drawn(result, rundir):
    items = [item for section in chapter(result).sections for item in section.items]
    assert {item.name for item in items if isinstance(item, Figure)} == {
        "composition", "edge-shares", "onsets", "circuit", "paths",
    }  # fmt: skip
    assert not [item for item in items if isinstance(item, Missing)]
    result.save(rundir)
    page = write(rundir, figures=False).read_text(encoding="utf-8")
    assert "Relations: which head feeds which?" in page


@pytest.mark.browser
def test_every_chart_is_drawn(result, tmp_path):
    with opened(write(run_directory(tmp_path / "made", result), figures=False), width=1280) as page:
        charts = page.evaluate(DRAWN)
        assert len(charts) >= 5
        for chart in charts:
            assert chart["marks"] > 1, chart
            assert 0 < chart["width"] <= chart["room"], chart
        assert page.heard == []


def test_every_table_and_column_is_documented(result):
    assert undocumented(result.tables, "relations.md") == {}

"""Circuits that arise at chosen steps are found there, and in their order, from the checkpoints to the study of roles."""

import polars as pl
import pytest

from headway import analyze, measure
from headway.known_scores import DECODER, ROLES, SCORES
from headway.store.directory import RunDirectory
from support_circuits import HEADS, LOGIT, PLACES, planted_suite

STEPS = (0, 1, 10, 100, 1000, 10000)
L = 8
# The first step of each circuit. The order differs between runs; without `previous` there is no induction.
RUNS = {
    "planted-1m-seed1": {"previous": 10, "suppressing": 10, "copying": 100, "induction": 1000, "decoy": 1000},
    "planted-1m-seed2": {"copying": 10, "previous": 100, "suppressing": 1000, "induction": 10000, "decoy": 10000},
    "planted-1m-seed3": {"previous": 10, "copying": 1000, "induction": 1000, "decoy": 100, "suppressing": 10000},
}
# Equal tokens are the token itself and its duplicate.
HOLDERS = {
    "previous-token": {"previous"},
    "induction": {"induction", "decoy"},
    "copying": {"copying", "induction"},
    "duplicate-token": {"suppressing"},
    "current-token": {"suppressing"},
    "first-token": set(),
}


@pytest.fixture(scope="module")
def rundir(tmp_path_factory):
    folder = planted_suite(tmp_path_factory.mktemp("planted"), RUNS, STEPS)
    out = folder / "out"
    measure(
        folder / "suite", out=out, corpus=str(folder / "texts.txt"), scores="all", loss=True, repeated_length=L,
        repeated_texts=8,
    )  # fmt: skip
    return RunDirectory(out)


@pytest.fixture(scope="module")
def result(rundir):
    (found,) = analyze(rundir.path, studies=["roles"]).values()
    return found


def starts(run, role):
    """When the role arises in the run: with the first of the circuits that hold it."""
    found = [RUNS[run][circuit] for circuit in HOLDERS[role] if circuit in RUNS[run]]
    return min(found, default=None)


def test_every_role_is_found_at_its_step_in_its_head(result):
    firsts = result.tables["firsts"]
    assert set(firsts["role"]) == set(HOLDERS) == set(ROLES)
    for row in firsts.iter_rows(named=True):
        start = starts(row["run"], row["role"])
        assert row["upper"] == start, row
        if start is not None:
            assert row["lower"] == STEPS[STEPS.index(start) - 1]
            holders = {PLACES[circuit] for circuit in HOLDERS[row["role"]] if RUNS[row["run"]][circuit] <= start}
            assert (row["layer"], row["head"]) in holders


def test_the_order_of_roles_is_the_planted_one(result):
    order = result.tables["order"].filter(pl.col("size").is_null())
    for row in order.iter_rows(named=True):
        pairs = [(starts(run, row["first"]), starts(run, row["second"])) for run in RUNS]
        known = [(one or 10**9, other or 10**9) for one, other in pairs]
        assert row["n_first"] == sum(one < other for one, other in known), row
        assert row["n_second"] == sum(one > other for one, other in known), row
    row = order.row(by_predicate=(pl.col("first") == "previous-token") & (pl.col("second") == "induction"), named=True)
    assert (row["n_first"], row["n_second"], row["n_tie"]) == (3, 0, 0)


def test_the_planted_heads_hold_each_role_at_the_end(rundir, result):
    """And no head without a circuit. Another circuit may pass a level by a little: it differs from untrained heads, too."""
    levels = dict(result.tables["levels"].select("role", "level").rows())
    last = rundir.read("heads").filter(pl.col("step") == STEPS[-1])
    for role, circuits in HOLDERS.items():
        passing = last.filter(pl.col(ROLES[role].score) > levels[role])
        holders = set(passing.select("run", "layer", "head").rows())
        assert holders >= {(run, *PLACES[circuit]) for run in RUNS for circuit in circuits}, role
        assert {(layer, head) for _, layer, head in holders} <= set(PLACES.values()), role
        if role in ("copying", "induction"):
            assert len(holders) == len(RUNS) * len(circuits), role


def test_the_ability_to_repeat_comes_with_induction_and_not_with_the_decoy(rundir):
    measured = rundir.read("abilities").filter(ability="repeat_accuracy")
    for run, step, accuracy in measured.select("run", "step", "value").iter_rows():
        start = RUNS[run]["induction"]
        assert (accuracy > 0.9) if step >= start else (accuracy < 0.6), (run, step, accuracy)


def test_the_decoy_has_the_pattern_and_no_effect(rundir):
    last = rundir.read("heads").filter(pl.col("step") == STEPS[-1], pl.col("layer") == 1)
    induction, decoy = (last.filter(pl.col("head") == PLACES[name][1]).sort("run") for name in ("induction", "decoy"))
    assert decoy["induction"].to_list() == pytest.approx(induction["induction"].to_list(), abs=0.01)
    assert (decoy["induction"] > 0.9).all()
    assert (induction["direct_logit_attribution"] > 0.8 * LOGIT).all()
    # What it writes is noise.
    assert (decoy["direct_logit_attribution"].abs() < 0.05 * LOGIT).all()
    assert (decoy["copy_suppression"].abs() < 0.05 * LOGIT).all()
    assert (decoy["copying"].abs() < 0.5).all()


def test_the_suppressing_head_suppresses(rundir):
    last = rundir.read("heads").filter(pl.col("step") == STEPS[-1])
    most = last.sort("copy_suppression").group_by("run", maintain_order=True).last()
    assert {(row["layer"], row["head"]) for row in most.iter_rows(named=True)} == {PLACES["suppressing"]}
    assert (most["copy_suppression"] > 0.9 * LOGIT).all()
    assert (most["copying"] < -0.9).all()
    assert (most["qk_matching"] > 0.9).all()


def test_without_circuits_no_role_is_found(tmp_path):
    runs = {f"empty-1m-seed{seed}": {} for seed in range(1, 4)}
    folder = planted_suite(tmp_path, runs, STEPS[:4])
    measure(folder / "suite", out=tmp_path / "out", corpus=str(folder / "texts.txt"), scores="all", repeated_length=L)
    (found,) = analyze(tmp_path / "out", studies=["roles"]).values()
    assert found.tables["firsts"]["upper"].is_null().all()


def test_every_score_was_measured(rundir):
    frame = rundir.read("heads")
    of_decoders = {name for name, score in SCORES.items() if DECODER in score.stacks and score.kind != "causal"}
    assert of_decoders <= set(frame.columns)
    assert frame.height == len(RUNS) * len(STEPS) * 2 * HEADS
    assert rundir.manifest().tables["heads"].used == {"repeated": {"length": L, "texts": 8}}

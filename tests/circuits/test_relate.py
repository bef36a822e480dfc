"""The command relate, on circuits that were written into the weights from some steps on."""

import polars as pl
import pytest

import headway
from headway.circuits.path_job import controls_of
from headway.errors import UsageError
from headway.store import RunDirectory
from support_circuits import PLACES, planted_suite

RUN, STEPS = "planted-1m-seed1", (0, 10, 1000)
PREVIOUS, INDUCTION, DECOY = (PLACES[name] for name in ("previous", "induction", "decoy"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """From step 10 on there is a previous-token head, and from step 1000 on induction and its decoy."""
    circuits = {"previous": 10, "induction": 1000, "decoy": 1000}
    folder = planted_suite(tmp_path_factory.mktemp("related"), {RUN: circuits}, STEPS)
    headway.measure(
        folder / "suite", out=folder / "out", corpus=str(folder / "texts.txt"), scores=["prev", "induction"],
        repeated_length=8, repeated_texts=8,
    )  # fmt: skip
    return folder


def related(place, **asked):
    given = {
        "senders": "role=previous-token at last",
        "receivers": "role=induction at last",
        "repeated_length": 8,
    } | asked
    return headway.relate(
        place / "suite", out=place / "out", corpus=str(place / "texts.txt"), n_texts=8, force=True, **given
    )


@pytest.fixture(scope="module")
def tables(place):
    for summary in related(place, replacements=["mean", "resample"]):
        assert summary.failed == []
    return {name: RunDirectory(place / "out").read(name) for name in ("compositions", "paths")}


def test_edges_arise_with_the_heads(tables):
    table = tables["compositions"]
    edges = table.filter(pl.col("p_holm") <= 0.05)
    assert edges["step"].unique().to_list() == [1000]  # the first head alone feeds nothing
    found = set(edges.select("kind", "from_layer", "from_head", "layer", "head").rows())
    assert found == {("k", *PREVIOUS, *reader) for reader in (INDUCTION, DECOY)}
    one = edges.row(0, named=True)
    assert one["excess"] == pytest.approx(one["composition"] - 127**-0.5)  # 128 dimensions less the mean
    assert one["z"] > 10
    assert table.filter(step=0).height == 3 * 4 * 4


def test_paths_are_there_from_the_step_on_at_which_the_circuit_is_whole(tables):
    table = tables["paths"]
    keys = table.filter(input="k", replaced_by="resample", effect="induction")
    change = {(step, head): change for step, head, change in keys.select("step", "head", "change").iter_rows()}
    assert change[1000, INDUCTION[1]] < -0.3
    assert change[1000, DECOY[1]] < -0.3  # it has the pattern, too
    assert all(abs(value) < 0.1 for (step, _), value in change.items() if step < 1000)
    queries = table.filter(input="q", effect="induction")
    assert queries["change"].abs().max() < 0.1
    assert table.filter(input="v", effect="induction").is_empty()  # values do not decide where a head attends


def test_the_decoy_is_told_apart_by_what_reaches_the_logits(tables):
    logits = tables["paths"].filter(input="k", effect="next_token_logit", step=1000, replaced_by="resample")
    change = dict(logits.select("head", "change").iter_rows())
    assert change[INDUCTION[1]] < -1
    assert abs(change[DECOY[1]]) < 0.3


def test_controls_are_the_other_heads_of_the_layer(tables):
    row = tables["paths"].filter(input="k", effect="induction", step=1000, head=INDUCTION[1]).row(0, named=True)
    assert row["n_controls"] == 3
    assert row["p"] == 1 / 4
    assert abs(row["control_median"]) < 0.1
    found = controls_of(((0, 1), (0, 2), (3, 5)), 6, 3, [0])
    assert set(found) == {0, 3}
    assert all(len(heads) == 3 and not set(heads) & {(0, 1), (0, 2), (3, 5)} for heads in found.values())
    assert controls_of(((0, 0), (0, 1)), 2, 3, [0]) == {0: ()}


def test_scores_of_texts_can_choose_receivers(place):
    asked = {"senders": "top 1 by prev", "receivers": "top 8 by prev at last", "where": "step=1000"}
    [summary] = related(place, relations="paths", **asked)
    table = RunDirectory(place / "out").read("paths")
    assert summary.failed == []
    assert table["layer"].unique().to_list() == [1]  # of all eight heads, those above the sender
    assert set(table["effect"].unique()) == {"prev", "next_token_logit"}


def test_checkpoints_without_heads_or_order_are_recorded(place):
    [summary] = related(place, relations="paths", receivers="role=induction at each", where="step=0")
    assert "has no heads by --to 'role=induction at each'" in summary.failed[0].error
    [summary] = related(place, relations="paths", senders="top 1 by induction at last", where="step=1000")
    assert "no head of --from (L1H" in summary.failed[0].error
    assert "is in an earlier layer than one of --to" in summary.failed[0].error


def test_requests_that_cannot_be(place, tmp_path):
    with pytest.raises(UsageError, match="has no table of heads to choose from"):
        headway.relate(place / "suite", out=tmp_path / "none", corpus=str(place / "texts.txt"))
    with pytest.raises(UsageError, match="--to 'role=induktion': the heads table has no role 'induktion'"):
        related(place, receivers="role=induktion")
    with pytest.raises(UsageError, match="--from takes 'top N by SCORE' or 'role=NAME'"):
        related(place, senders="clusters")
    with pytest.raises(UsageError, match="--relations: unknown value 'path'"):
        related(place, relations="path")

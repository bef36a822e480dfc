"""Ablating the heads of a score or a role over training, on circuits that were written into the weights."""

import numpy as np
import polars as pl
import pytest
import torch

import headway
from headway.abilities.next_tokens import next_token_predictions
from headway.errors import UsageError
from headway.interventions import Ablate
from headway.interventions.ablations import SAME_LAYERS, SAME_NORM, alike_heads, random_heads
from headway.interventions.head_choice import parse_heads, read_heads
from headway.interventions.objects import output_norms
from headway.store import RunDirectory
from support_circuits import PLACES, planted, planted_suite

RUN, STEPS = "planted-1m-seed1", (0, 10, 1000)
INDUCTION, DECOY, PREVIOUS = PLACES["induction"], PLACES["decoy"], PLACES["previous"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """From step 10 on there is a previous-token head, and from step 1000 on induction and its decoy."""
    circuits = {"previous": 10, "induction": 1000, "decoy": 1000}
    folder = planted_suite(tmp_path_factory.mktemp("ablated"), {RUN: circuits}, STEPS)
    headway.measure(
        folder / "suite", out=folder / "out", corpus=str(folder / "texts.txt"), scores=["prev", "induction"],
        repeated_length=8, repeated_texts=8,
    )  # fmt: skip
    return folder


def ablated(place, heads, **asked):
    given = {"where": "step=0,10,1000", "effects": ["repeat", "kl"], "operations": ["zero"], "controls": 10} | asked
    [summary] = headway.intervene(
        place / "suite", out=place / "out", corpus=str(place / "texts.txt"), heads=heads, n_texts=4, force=True, **given
    )
    assert summary.failed == []
    return RunDirectory(place / "out").read("ablations")


def test_without_the_planted_head_the_ability_is_gone_at_the_steps_at_which_it_exists(place):
    """Both heads with the pattern are followed from the last step: the first in the order of scores, then both."""
    table = ablated(place, "top 2 by induction at last")
    of = table.filter(pl.col("effect") == "repeat_accuracy", pl.col("dose") == 2, pl.col("control") == SAME_LAYERS)
    assert set(of["heads"].unique().item().split()) == {"L1H0", "L1H1"}
    change = dict(of.select("step", "change").iter_rows())
    assert change[1000] < -0.8  # to chance, one of 23 tokens
    assert abs(change[0]) < 0.2
    assert abs(change[10]) < 0.2
    last = of.filter(step=1000).row(0, named=True)
    assert last["before"] > 0.9  # the noise costs some
    # The layer has two other heads, which write noise: one group of as many.
    assert last["n_controls"] == 1
    assert last["control_median"] == pytest.approx(0.0, abs=0.1)
    assert last["p"] == 1 / 2


def test_the_decoy_costs_nothing_although_it_looks_the_same(place):
    first = ablated(place, "top 2 by induction at last").filter(
        pl.col("effect") == "repeat_accuracy", pl.col("dose") == 1, pl.col("step") == 1000
    )
    of_each = {}
    for head in (INDUCTION, DECOY):
        model = planted("gpt_neox", ("previous", "induction", "decoy"), noise=0.02, step=1000)
        text = [np.tile(np.random.default_rng(seed).permutation(23)[:8], 2) for seed in range(8)]
        with Ablate([head]).on(model):
            right = next_token_predictions(model, text).right
        of_each[f"L{head[0]}H{head[1]}"] = np.mean([one[8:] for one in right])
    assert of_each["L1H0"] < 0.2
    assert of_each["L1H1"] > 0.9
    row = first.row(0, named=True)
    assert row["after"] == pytest.approx(of_each[row["heads"]], abs=0.15)  # of other texts, 56 tokens each
    assert row["control"] is None
    assert row["n_controls"] == 0


def test_taking_the_previous_token_head_takes_what_is_built_on_it(place):
    """K-composition: without the head of layer 0 the induction head finds nothing."""
    table = ablated(place, "role=previous-token at each", where="step=10,1000")
    of = table.filter(pl.col("effect") == "repeat_accuracy", pl.col("step") == 1000, pl.col("dose") == 1)
    assert of["heads"].unique().to_list() == [f"L{PREVIOUS[0]}H{PREVIOUS[1]}"]
    assert of["change"].max() < -0.8


def test_a_checkpoint_without_heads_of_the_role_is_recorded(place):
    [summary] = headway.intervene(
        place / "suite", out=place / "out", corpus=str(place / "texts.txt"), heads="role=induction at each",
        where="step=0,10", effects=["kl"], controls=2, n_texts=2, force=True,
    )  # fmt: skip
    assert len(summary.failed) == 2
    assert "has no heads to ablate by --heads 'role=induction at each'" in summary.failed[0].error


def test_what_a_head_writes_is_the_norm_of_its_part_of_the_projection(place):
    model = planted("gpt_neox", noise=0.1)
    texts = [np.arange(9), np.arange(5, 20)]
    found = output_norms(model, texts)
    written = {}
    for layer in range(2):
        dense = model.gpt_neox.layers[layer].attention.dense
        seen = []
        hook = dense.register_forward_hook(lambda _, inputs, __, seen=seen: seen.append(inputs[0][0].detach()))
        with torch.no_grad():
            for ids in texts:
                model(torch.as_tensor(ids)[None])
        hook.remove()
        read = torch.cat(seen).view(-1, 4, 32)
        weight = dense.weight.detach().T.reshape(4, 32, -1)
        written[layer] = torch.einsum("tnd,ndm->tnm", read, weight).norm(dim=-1).mean(0)
        np.testing.assert_allclose(found[layer], written[layer], rtol=1e-4)  # float32 sums in the hook


def test_controls_have_the_layers_or_the_norms_of_the_chosen_heads():
    chosen = ((0, 1), (2, 0), (2, 3))
    for heads in random_heads(chosen, 6, 30, [0]):
        assert [layer for layer, _ in heads] == [0, 2, 2]
        assert not set(heads) & set(chosen)
    assert len(set(random_heads(chosen, 6, 30, [0]))) == 30
    assert len(random_heads(chosen, 5, 100, [0])) == 4 * 3  # all there are
    assert random_heads(((0, 0), (0, 1)), 2, 10, [0]) == []
    norms = {layer: np.array([10.0**layer, 1.1 * 10.0**layer, 2 * 10.0**layer, 3 * 10.0**layer]) for layer in range(3)}
    groups = alike_heads(((1, 0),), norms, 50, [0])
    # The five nearest in ratio to 10.
    assert {head for (head,) in groups} == {(1, 1), (1, 2), (1, 3), (0, 3), (0, 2)}
    assert alike_heads(tuple((0, head) for head in range(3)), {0: np.ones(4)}, 5, [0]) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("top 0 by prev", "takes no head"),
        ("top 3 by prv", "no score 'prv', perhaps 'prev' was meant"),
        ("role=induktion", "no role 'induktion', perhaps 'induction' was meant"),
        ("role=first-token", "no score 'first'"),
        ("the best ones", "is none of these"),
    ],
)
def test_heads_that_cannot_be_chosen_are_named(words, message):
    roles = {"induction": "induction", "first-token": "first"}
    with pytest.raises(UsageError, match=message):
        parse_heads(words, roles, ["prev", "induction"])


def test_other_requests_that_cannot_be(place, tmp_path):
    ask = {"corpus": str(place / "texts.txt"), "heads": "top 1 by prev"}
    with pytest.raises(UsageError, match="has no table of heads to choose from"):
        headway.intervene(place / "suite", out=tmp_path / "none", **ask)
    with pytest.raises(UsageError, match="unknown effect 'lss'"):
        headway.intervene(place / "suite", out=place / "out", effects=["lss"], **ask)
    with pytest.raises(UsageError, match="swap concerns clusters"):
        headway.intervene(place / "suite", out=place / "out", operations=["swap"], **ask)


def test_the_scores_of_other_heads_are_followed(place):
    """Without the previous-token head induction is gone; without one of two that look like it the other is as before."""
    table = ablated(place, "top 1 by prev at last", effects=["induction"], operations=["zero", "mean", "resample"])
    at_last = table.filter(step=1000, dose=1, control=SAME_LAYERS)
    assert at_last["of_head"].unique().item() in {"L1H0", "L1H1"}
    assert at_last["before"].min() > 0.9
    assert at_last["after"].max() < 0.3
    assert set(at_last["operation"]) == {"zero", "mean", "resample"}
    assert at_last["higher_is_better"].all()
    other = ablated(place, "top 1 by induction at last", effects=["induction"]).filter(step=1000, control=SAME_LAYERS)
    assert other["of_head"].item() != other["heads"].item()  # that of the two which is not ablated
    assert abs(other["change"].item()) < 0.05
    # Three other heads in the layer, one of which is followed, and says nothing when it is ablated itself.
    assert other["n_controls"].item() == 2


def test_groups_of_a_file_are_ablated_each_by_itself(place, tmp_path):
    """Run and step are optional, and an empty cell means all of them."""
    file = tmp_path / "heads.csv"
    file.write_text(
        "group,run,step,layer,head\n"
        f"path,,,{PREVIOUS[0]},{PREVIOUS[1]}\npath,,,{INDUCTION[0]},{INDUCTION[1]}\n"
        f"decoy,{RUN},1000,{DECOY[0]},{DECOY[1]}\nother,another-run,,0,0\n"
    )
    table = ablated(place, str(file), effects=["repeat"]).filter(effect="repeat_accuracy")
    assert table.filter(step=10)["group"].unique().to_list() == ["path"]
    last = table.filter(pl.col("step") == 1000, pl.col("control").is_null() | (pl.col("control") == SAME_LAYERS))
    assert last.select("group", "dose", "heads").rows() == [
        ("path", 1, "L0H1"), ("path", 2, "L0H1 L1H0"), ("decoy", 1, "L1H1"),
    ]  # fmt: skip
    assert last["change"].to_list()[:2] == pytest.approx([-0.95, -0.95], abs=0.15)
    assert abs(last["change"][2]) < 0.05


def test_several_choices_are_several_groups(place):
    table = ablated(place, "role=previous-token at last; top 1 by induction at last", where="step=1000", effects=["kl"])
    assert table["group"].unique(maintain_order=True).to_list() == [
        "role=previous-token at last", "top 1 by induction at last"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("layer\n1\n", "heads.csv has no column head"),
        ("layer,head\n0,1\n0,-1\n", "row 2 has no layer and head"),
        ("layer,head\n0,one\n", "row 1 has no layer and head"),
        ("layer,head\n", "has no layer and head"),
        ("", "cannot be read"),
        ("layer,head,group\n0,1,\x1b[31mred\n", "needs a printable name"),
    ],
)
def test_files_that_name_no_heads_are_refused(tmp_path, content, message):
    (tmp_path / "heads.csv").write_text(content)
    with pytest.raises(UsageError, match=message):
        read_heads(str(tmp_path / "heads.csv"))


def test_files_that_are_not_there_or_name_heads_that_are_not(place, tmp_path):
    with pytest.raises(UsageError, match=r"none\.csv cannot be read"):
        read_heads(str(tmp_path / "none.csv"))
    pl.DataFrame({"layer": [0, 7], "head": [1, 0]}).write_parquet(tmp_path / "far.parquet")
    [summary] = headway.intervene(
        place / "suite", out=place / "out", corpus=str(place / "texts.txt"), heads=str(tmp_path / "far.parquet"),
        where="step=10", effects=["kl"], controls=2, n_texts=2, force=True,
    )  # fmt: skip
    assert "names L7H0, and planted-1m-seed1@10 has 2 layers of 4 heads" in summary.failed[0].error


def test_heads_of_the_same_norm_stand_beside_an_effect(place):
    table = ablated(place, "top 1 by induction at last").filter(pl.col("step") == 1000)
    row = table.filter(pl.col("control") == SAME_NORM, pl.col("effect") == "kl").row(0, named=True)
    assert 0 < row["n_controls"] <= 10
    assert row["after"] > 0

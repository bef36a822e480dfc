"""Heads of models whose weights are found by structure, and of hybrids, are ablated: one head by hand is the reference."""

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional

import headway
from headway.attention import head_scores
from headway.errors import UsageError
from headway.interventions import Ablate
from headway.interventions.ablations import SAME_LAYERS, SAME_NORM
from headway.interventions.objects import output_norms
from headway.models.anatomy import anatomy
from headway.store import RunDirectory
from support_architectures import random_model, tiny
from support_models import saved_suite

# phi through AttentionInterface, falcon with attention of its own, and hybrids: with a gate behind the heads (qwen3_next), and
# with blocks of attention alone (nemotron_h).
STRUCTURES = ["phi", "falcon", "jamba", "qwen3_next", "nemotron_h"]


@pytest.fixture(scope="module", params=STRUCTURES)
def model(request):
    return random_model(tiny(request.param, vocab_size=97))


def losses(model, texts):
    """The mean loss of all predicted tokens, from the model's own logits."""
    with torch.no_grad():
        predicted = [model(input_ids=torch.as_tensor(ids)[None]).logits[0, :-1].double() for ids in texts]
    nats = [
        functional.cross_entropy(one, torch.as_tensor(ids[1:]), reduction="sum")
        for one, ids in zip(predicted, texts, strict=True)
    ]
    return float(sum(nats)) / sum(len(ids) - 1 for ids in texts)


def without(model, layer, head, texts):
    """The same loss with a column block of the output projection set to 0, and set back."""
    body = anatomy(model)
    weight = body.projections[layer].weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[:, head * body.head_dim : (head + 1) * body.head_dim] = 0
        changed = losses(model, texts)
        weight.copy_(kept)
    return changed


TEXTS = [np.random.default_rng(number).integers(5, 90, length) for number, length in enumerate((9, 14, 9))]


def test_an_ablation_is_a_projection_without_the_columns_of_the_head(model):
    body = anatomy(model)
    layer, head = [*body.projections][-1], body.n_heads - 1
    expected = without(model, layer, head, TEXTS)
    with Ablate([(layer, head)]).on(model):
        assert losses(model, TEXTS) == pytest.approx(expected, abs=1e-6)  # float32 logits
    assert expected != losses(model, TEXTS)


def test_what_a_head_writes_is_known_without_the_norms_of_the_model(model):
    body, found = anatomy(model), output_norms(model, TEXTS)
    assert list(found) == list(body.projections)
    for layer, projection in body.projections.items():
        seen = []
        hook = projection.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0][0].detach()))
        with torch.no_grad():
            for ids in TEXTS:
                model(input_ids=torch.as_tensor(ids)[None])
        hook.remove()
        read = torch.cat(seen).double().unflatten(-1, (body.n_heads, body.head_dim))
        parts = projection.weight.detach().double().unflatten(1, (body.n_heads, body.head_dim))
        written = torch.einsum("tnd,mnd->tnm", read, parts).norm(dim=-1).mean(0)
        np.testing.assert_allclose(found[layer], written, rtol=1e-4)  # float32 outputs, in batches of other shapes


def test_what_each_ablation_costs_is_a_score_of_the_layers_with_heads(model):
    body = anatomy(model)
    costs = head_scores(model, TEXTS, ["ablation_loss"])["ablation_loss"]
    assert np.isfinite(costs).any((0, 2)).nonzero()[0].tolist() == list(body.projections)


def test_layers_without_heads_are_named():
    with pytest.raises(UsageError, match=r"layer 0 has no attention heads: those of layers 1 can be chosen"):
        anatomy(random_model(tiny("jamba"))).require([(0, 0)])


@pytest.mark.parametrize("architecture", ["phi", "jamba"])
def test_a_suite_of_them_is_ablated_beside_both_controls(architecture, tmp_path):
    saved_suite(tmp_path, 1, 12, (5, 12))
    folder = tmp_path / "suite" / "toy-1m-seed1" / "step0"
    for path in folder.iterdir():
        path.unlink()
    model = random_model(tiny(architecture, vocab_size=97))
    model.save_pretrained(folder)
    layer = [*anatomy(model).projections][-1]
    (tmp_path / "heads.csv").write_text(f"layer,head\n{layer},2\n")
    given = {"corpus": str(tmp_path / "texts.txt"), "out": tmp_path / "out", "n_texts": 6, "controls": 3}
    asked = {"effects": ["loss", "prev"], "operations": ["zero"]}
    (summary,) = headway.intervene(tmp_path / "suite", heads=str(tmp_path / "heads.csv"), **given, **asked)
    assert summary.failed == []
    table = RunDirectory(tmp_path / "out").read("ablations")
    assert set(table["control"]) == {SAME_LAYERS, SAME_NORM}
    assert table["n_controls"].min() >= 1
    texts = [
        np.array([int(word[1:]) for word in line.split()])
        for line in (tmp_path / "texts.txt").read_text().splitlines()[:6]
    ]
    loss = table.filter(pl.col("effect") == "loss").row(0, named=True)
    assert loss["before"] == pytest.approx(losses(model, texts), abs=1e-5)  # float32, and another order of sums
    assert loss["after"] == pytest.approx(without(model, layer, 2, texts), abs=1e-5)
    if architecture == "jamba":
        (tmp_path / "heads.csv").write_text("layer,head\n0,2\n")
        (summary,) = headway.intervene(
            tmp_path / "suite", heads=str(tmp_path / "heads.csv"), force=True, **given, **asked
        )
        assert "names L0H2" in summary.failed[0].error
        assert "layers 0 have none" in summary.failed[0].error

"""Hybrids: heads of the layers with attention are clustered by their own weights, under the layers' own numbers."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from headway.cli import app
from headway.clusters.job import WeightClusters
from headway.clusters.labels import GivenLabels
from headway.errors import UsageError
from headway.models import HeadWeights, architecture_for, geometry_of
from headway.models.anatomy import anatomy
from headway.models.architectures import StoredWeight
from headway.models.config import skeleton
from headway.models.probing import fault_of
from headway.store.directory import RunDirectory
from support_architectures import HEAD_DIM, HEADS, random_model, tiny

QUICK = {"methods": ("kmeans",), "ks": (2,), "nulls": 0, "features": ("raw",)}


# Its layers return pairs (bamba), its files name the base model otherwise (nemotron_h), its attention comes first (minimax).
@pytest.mark.parametrize(
    ("architecture", "layer", "attention"),
    [
        ("bamba", 1, "self_attn"),
        ("jamba", 1, "self_attn"),
        ("lfm2", 1, "self_attn"),
        ("nemotron_h", 2, "mixer"),
        ("minimax", 0, "self_attn"),
    ],
)
def test_weights_are_those_of_the_layer_with_heads(architecture, layer, attention, tmp_path):
    model = random_model(tiny(architecture))
    model.save_pretrained(tmp_path)
    weights, own = HeadWeights(tmp_path), model.model.layers[layer].get_submodule(attention)
    assert weights.geometry.layers == (layer,)
    out = getattr(own, "o_proj", None) or own.out_proj
    for kind, module in {"q": own.q_proj, "k": own.k_proj, "v": own.v_proj, "o": out}.items():
        matrix = module.weight.detach()
        expected = (
            matrix.unflatten(1, (-1, HEAD_DIM)).permute(1, 2, 0) if kind == "o" else matrix.unflatten(0, (-1, HEAD_DIM))
        )
        np.testing.assert_array_equal(weights.get(kind, layer), expected.numpy())


def test_gates_beside_queries_are_not_taken_for_them(tmp_path):
    """Qwen3-Next's q_proj holds the query and the gate of each head, one after the other."""
    model = random_model(tiny("qwen3_next"))
    model.save_pretrained(tmp_path)
    both = model.model.layers[1].self_attn.q_proj.weight.detach().unflatten(0, (HEADS, 2, HEAD_DIM))
    np.testing.assert_array_equal(HeadWeights(tmp_path).get("q", 1), both[:, 0].numpy())

    empty = skeleton(model.config.to_json_string(), "the model")
    architecture, geometry = architecture_for(empty), geometry_of(empty)
    assert fault_of(empty, architecture, geometry) is None
    gates = StoredWeight(
        architecture.weights["q"].tensor,
        lambda weight, of: weight.view(of.n_heads, 2, of.head_dim, of.hidden_size)[:, 1],
    )
    taken = replace(architecture, weights={**architecture.weights, "q": gates})
    assert fault_of(empty, taken, geometry) == "the weights taken for q of head 0 are not that head's alone"


def test_layers_without_heads_are_refused_by_name(tmp_path):
    model = random_model(tiny("bamba"))
    model.save_pretrained(tmp_path)
    weights = HeadWeights(tmp_path)
    refused = r"layer 0 has no attention heads: those of layers 1 can be chosen"
    with pytest.raises(UsageError, match=refused):
        weights.get("q", 0)
    with pytest.raises(UsageError, match=refused):
        WeightClusters(**QUICK, layers=(0,)).rows(weights, weights.geometry)
    mine = GivenLabels("mine", tuple((None, 0, head, str(head % 2)) for head in range(HEADS)))
    with pytest.raises(UsageError, match=f"labels 'mine': {refused}"):
        WeightClusters(**QUICK, labels=(mine,)).rows(weights, weights.geometry)
    assert list(anatomy(model).projections) == [1]


def test_from_the_command_line_to_a_report(tmp_path):
    for seed in (1, 2):
        for step in (0, 100):
            random_model(tiny("jamba"), seed=seed + step).save_pretrained(
                tmp_path / "suite" / f"toy-1m-seed{seed}" / f"step{step}"
            )
    out = tmp_path / "out"
    for words in (
        ("cluster", tmp_path / "suite", "--nulls", 0, "--out", out),
        ("analyze", out),
        ("report", out, "--figures", "no"),
    ):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, (done.output, done.exception)
    rundir = RunDirectory(out)
    table = rundir.read("clusters")
    assert table["layer"].unique().to_list() == [1]
    assert table["n_layers"].unique().to_list() == [2]
    assert set(table["kind"]) == {"q", "k", "v", "o", "qk", "ov"}
    assert rundir.manifest().tables["clusters"].used == {"layers_without_heads": [0]}
    assert "layers without heads" in (out / "report.html").read_text()

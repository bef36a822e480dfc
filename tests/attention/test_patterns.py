"""The attention matrix of one head, against transformers' eager attention."""

import numpy as np
import polars as pl
import pytest
import torch

import headway
from headway.attention import attention, kernels
from headway.attention.patterns import pattern_of
from headway.cli import main
from headway.errors import CheckpointError, SelectionError, UsageError
from support_models import CONFIGS, eager, random_model, saved_suite


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("rows", [5, 256])
def test_the_matrix_is_that_of_eager_attention(architecture, rows, monkeypatch):
    """In memory at once and, as if the text were long, some rows at a time. 1e-5 is what scores promise, in float32."""
    model = random_model(architecture)
    ids = np.random.default_rng(0).integers(5, 60, 23).tolist()
    expected = eager(model, ids)
    if rows < 23:
        monkeypatch.setattr(attention, "SHORT", {"cpu": 4, "cuda": 4})
        monkeypatch.setattr(kernels, "PLAIN_ROWS", rows)
    n_layers, n_heads = expected.shape[:2]
    for layer, head in {(0, 0), (n_layers - 1, n_heads - 1), (n_layers - 1, n_heads // 2)}:
        found = pattern_of(model, ids, layer, head)
        assert found.dtype == np.float64
        assert np.abs(found - expected[layer, head]).max() < 1e-5
        assert not np.triu(found, 1).any()


def test_weights_that_are_not_finite_are_named():
    model = random_model("gpt_neox")
    with torch.no_grad():
        model.gpt_neox.layers[0].attention.query_key_value.weight.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="layer 0, head 1 is not finite"):
        pattern_of(model, [1, 2, 3], 0, 1)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    place = tmp_path_factory.mktemp("patterns")
    saved_suite(place, 2)
    return place / "suite"


def test_a_pattern_has_its_tokens_and_its_table(suite, tmp_path):
    out = tmp_path / "pattern.parquet"
    found = headway.pattern(suite, run="toy-1m-seed1", layer=1, head=0, text="w3 w5 w8 w13", out=out)
    assert (found.checkpoint, found.tokens) == ("toy-1m-seed1@1", ("w3", "w5", "w8", "w13"))
    assert found.matrix.sum(axis=1) == pytest.approx(np.ones(4), abs=1e-6)  # float32
    table = pl.read_parquet(out)
    assert table.height == 4 * 5 // 2
    row = table.filter(query=3, key=1).row(0, named=True)
    assert (row["query_token"], row["key_token"]) == ("w13", "w5")
    assert row["attention"] == found.matrix[3, 1]


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"run": "toy-9m"}, SelectionError, "has no run 'toy-9m'"),
        ({"step": "7"}, SelectionError, "7"),
        ({"step": "0,1"}, UsageError, "name 2 checkpoints: name one run and one step"),
        ({"layer": 99}, UsageError, "there is no layer 99: the model has"),
        ({"head": 99}, UsageError, "there is no head 99"),
        ({"text": ""}, UsageError, "the text has 0 tokens"),
        ({"text": "w1 " * 5000}, UsageError, "the text has 5,000 tokens; the model reads 1 to"),
        ({"add_bos": True}, UsageError, "has no BOS token"),
        ({"out": "pattern.xlsx"}, UsageError, "ends in .csv or .parquet"),
    ],
)
def test_what_cannot_be_shown_is_named(suite, changed, error, message):
    asked = {"run": "toy-1m-seed1", "layer": 0, "head": 0, "text": "w1 w2"} | changed
    with pytest.raises(error, match=message):
        headway.pattern(suite, **asked)


def test_the_command_prints_a_line_for_each_token(suite, capsys, monkeypatch):
    words = ["pattern", str(suite), "--run", "toy-1m-seed1", "--layer", "0", "--head", "1", "--text", "w1 w2 w3"]
    monkeypatch.setattr("sys.argv", ["headway", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "'w1' →    0 'w1'" in lines[1]
    assert lines[1].endswith("1.000")

"""Checkpoints of OLMo's own library give its logits: `olmo_reference.py` ran ai2-olmo 0.6.0."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from polars.testing import assert_frame_equal
from safetensors.torch import save_file

from headway import api
from headway.errors import CheckpointError, UnsupportedModel
from headway.models import HeadWeights, load, read_geometry
from headway.store.directory import RunDirectory
from support_models import saved_suite

REFERENCE = json.loads(Path(__file__).with_name("olmo_reference.json").read_text())
MODELS = REFERENCE["models"]


def weights(name: str) -> dict[str, torch.Tensor]:
    draw = np.random.default_rng(0)
    shapes = sorted(MODELS[name]["shapes"].items())
    return {tensor: torch.from_numpy(draw.normal(size=shape)).float() for tensor, shape in shapes}


def made(folder: Path, name: str, tensors=None, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights(name) if tensors is None else tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(MODELS[name]["config"] | changes))
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_the_logits_are_those_of_the_library(name, tmp_path):
    model = load(made(tmp_path, name), lm_head=True)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(REFERENCE["ids"])).logits[0].numpy()
    # The reference has five decimals. Sums in float32 of numbers of up to 16 differ by 1e-5 at most.
    assert np.abs(logits - np.array(MODELS[name]["logits"])).max() < 2e-5


def test_the_weights_of_heads_are_the_rows_of_the_fused_tensor(tmp_path):
    heads, fused = HeadWeights(made(tmp_path, "rms")), weights("rms")
    rows = fused["model.transformer.blocks.1.att_proj.weight"].numpy()
    assert np.array_equal(heads.get("q", 1).reshape(16, 16), rows[:16])
    assert np.array_equal(heads.get("k", 1).reshape(8, 16), rows[16:24])
    assert np.array_equal(heads.get("v", 1).reshape(8, 16), rows[24:])
    out = fused["model.transformer.blocks.1.attn_out.weight"].numpy()
    assert np.array_equal(heads.get("o", 1), out.reshape(16, 4, 4).transpose(1, 2, 0))


def test_the_geometry_counts_the_rows_of_the_embedding(tmp_path):
    geometry = read_geometry(made(tmp_path, "rms"))
    assert (geometry.n_layers, geometry.n_heads, geometry.n_kv_heads, geometry.head_dim) == (2, 4, 2, 4)
    assert (geometry.context_length, geometry.vocab_size, geometry.rotary_dim) == (32, 24, 4)
    assert geometry.n_params == sum(tensor.numel() for tensor in weights("rms").values())


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("rms", {"alibi": True, "rope": False}, "alibi True, rope False"),
        ("rms", {"norm_after": True}, "norm_after True"),
        ("rms", {"clip_qkv": 8.0}, "layer_norm_type 'rms'.*clip_qkv 8.0"),
        ("rms", {"bias_for_layer_norm": True}, "bias_for_layer_norm True"),
        ("default", {"layer_norm_eps": 1e-6}, "layer_norm_eps 1e-06"),
        ("default", {"layer_norm_with_affine": True}, "layer_norm_with_affine True"),
        ("rms", {"d_model": None}, "lacks the number d_model"),
    ],
)
def test_models_that_transformers_does_not_have_are_refused_by_their_settings(name, changes, said, tmp_path):
    with pytest.raises(UnsupportedModel, match=said):
        read_geometry(made(tmp_path, name, **changes))


def test_missing_misshapen_and_unknown_tensors_are_errors(tmp_path):
    whole = weights("rms")
    fused = "model.transformer.blocks.0.att_proj.weight"
    with pytest.raises(CheckpointError, match=r"lack .*q_proj.weight"):
        load(made(tmp_path / "missing", "rms", {name: one for name, one in whole.items() if name != fused}))
    with pytest.raises(CheckpointError, match=r"v_proj.weight' has shape \(9, 16\)"):
        load(made(tmp_path / "long", "rms", whole | {fused: torch.randn(33, 16)}))
    extra = {"model.transformer.blocks.0.q_norm.weight": torch.ones(16)}
    with pytest.raises(CheckpointError, match=r"q_norm"):
        load(made(tmp_path / "extra", "rms", whole | extra))


def test_a_suite_of_them_is_measured_and_clustered_as_the_same_model_of_transformers(tmp_path):
    """DataDecide's files beside the same weights as transformers writes them."""
    saved_suite(tmp_path, 1, lengths=(2, 20))
    tokenizer = (tmp_path / "suite" / "toy-1m-seed1" / "tokenizer.json").read_bytes()
    embedding = {"embedding_size": 128, "vocab_size": 128}
    tensors = weights("rms") | {
        f"model.transformer.{part}.weight": torch.randn(128, 16, generator=torch.Generator().manual_seed(1))
        for part in ("wte", "ff_out")
    }
    for suite in ("own", "known"):
        folder = made(tmp_path / suite / "olmo-1m-seed1" / "step1", "rms", tensors, **embedding)
        (folder / "tokenizer.json").write_bytes(tokenizer)
    load(folder, lm_head=True).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    for suite in ("own", "known"):
        out = tmp_path / f"out-{suite}"
        corpus = str(tmp_path / "texts.txt")
        measured = api.measure(tmp_path / suite, corpus=corpus, out=out, scores=("prev", "first"))
        clustered = api.cluster(tmp_path / suite, out=out, nulls=0)
        assert (measured.done, clustered.done) == (1, 1)
    own, known = (RunDirectory(tmp_path / f"out-{suite}") for suite in ("own", "known"))
    for table in ("heads", "clusters"):
        assert_frame_equal(own.read(table).drop("suite"), known.read(table).drop("suite"), check_exact=True)

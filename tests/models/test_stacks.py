"""Models with an encoder: their files, geometry and weights. docs/architectures.md says what headway does with each."""

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from headway.errors import CheckpointError, UnsupportedModel
from headway.known_scores import CROSS, DECODER, ENCODER
from headway.models import HeadWeights, load, read_geometry, read_stacks
from support_architectures import PAGE, TOLERANCE
from support_stacks import EVERY, examine_stacks, stack_rows_of, stacked_model

WRITTEN = PAGE.read_text(encoding="utf-8")
of_this_version = pytest.mark.skipif(
    f"transformers {transformers.__version__}." not in WRITTEN, reason="the page is of another transformers"
)


@of_this_version
@pytest.mark.parametrize("architecture", EVERY)
def test_the_page_says_what_is_found(architecture, tmp_path):
    row = examine_stacks(architecture, tmp_path)
    found = tuple("no" if reason else "yes" for reason in (row.measure, row.cluster))
    assert stack_rows_of(WRITTEN)[architecture] == found, row
    assert row.difference is None or row.difference <= TOLERANCE


@of_this_version
def test_the_page_has_every_architecture():
    assert tuple(stack_rows_of(WRITTEN)) == EVERY


@pytest.mark.parametrize(
    ("architecture", "stack", "names"),
    [
        ("bert", ENCODER, "bert.encoder.layer.1.attention.{self.query|self.key|self.value|output.dense}"),
        ("t5", ENCODER, "encoder.block.1.layer.0.SelfAttention.{q|k|v|o}"),
        ("t5", DECODER, "decoder.block.1.layer.0.SelfAttention.{q|k|v|o}"),
        ("t5", CROSS, "decoder.block.1.layer.1.EncDecAttention.{q|k|v|o}"),
        ("whisper", ENCODER, "model.encoder.layers.1.self_attn.{q_proj|k_proj|v_proj|out_proj}"),
        ("whisper", DECODER, "model.decoder.layers.1.self_attn.{q_proj|k_proj|v_proj|out_proj}"),
        ("whisper", CROSS, "model.decoder.layers.1.encoder_attn.{q_proj|k_proj|v_proj|out_proj}"),
        ("longformer", ENCODER, "longformer.encoder.layer.1.attention.{self.query|self.key|self.value|output.dense}"),
        (
            "deberta-v2",
            ENCODER,
            "deberta.encoder.layer.1.attention.{self.query_proj|self.key_proj|self.value_proj|output.dense}",
        ),
        (
            "led",
            ENCODER,
            "led.encoder.layers.1.self_attn.{longformer_self_attn.query|longformer_self_attn.key|longformer_self_attn.value|output}",
        ),
        ("led", CROSS, "led.decoder.layers.1.encoder_attn.{q_proj|k_proj|v_proj|out_proj}"),
        ("bart", CROSS, "model.decoder.layers.1.encoder_attn.{q_proj|k_proj|v_proj|out_proj}"),
    ],
)
def test_weights_are_those_of_the_stack(architecture, stack, names, tmp_path):
    model = stacked_model(architecture)
    model.save_pretrained(tmp_path)
    weights = HeadWeights(tmp_path, stack=stack)
    heads, size = weights.geometry.n_heads, weights.geometry.head_dim
    prefix, _, last = names.rstrip("}").partition("{")
    for kind, name in zip("qkvo", last.split("|"), strict=True):
        own = model.get_submodule(prefix + name).weight.detach()
        expected = own.view(-1, heads, size).permute(1, 2, 0) if kind == "o" else own.view(heads, size, -1)
        np.testing.assert_array_equal(weights.get(kind, 1), expected.numpy())


def test_halves_may_differ_in_size(tmp_path):
    stacked_model("bart").save_pretrained(tmp_path)
    sizes = {one.stack: (one.n_layers, one.n_heads, one.head_dim) for one in read_stacks(tmp_path)}
    assert sizes == {DECODER: (3, 4, 12), ENCODER: (2, 6, 8), CROSS: (3, 4, 12)}
    assert read_geometry(tmp_path).stack == DECODER
    assert not read_geometry(tmp_path).causal


def test_positions_that_no_token_has_do_not_count(tmp_path):
    """RoBERTa's 514 rows are for 512 tokens: positions count from 2, after that of padding (Liu et al. 2019)."""
    stacked_model("roberta", pad_token_id=1, max_position_embeddings=514).save_pretrained(tmp_path)
    assert read_geometry(tmp_path).context_length == 512
    ids = torch.arange(4, 4 + 50).repeat(11)[None, :512]
    assert load(tmp_path)(input_ids=ids).last_hidden_state.shape[1] == 512  # one more fails in the embedding


@pytest.mark.parametrize("architecture", ["bert", "t5", "bart"])
def test_loaded_as_saved(architecture, tmp_path):
    model = stacked_model(architecture)
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    loaded.set_attn_implementation("eager")  # as the other one, so that the numbers are the same
    ids = torch.arange(5, 15)[None]
    inputs = {"decoder_input_ids": ids + 3} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        expected = model.base_model(input_ids=ids, **inputs)[0]
        torch.testing.assert_close(loaded(input_ids=ids, **inputs)[0], expected, atol=0, rtol=0)


def test_other_tasks_and_old_names_of_norms_are_read_past(tmp_path):
    """As in the first BERT: LayerNorm.gamma and beta, a pooled output, and the prediction of the next sentence."""
    model = stacked_model("bert")
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(path).items()
    }
    tensors |= {"bert.pooler.dense.weight": torch.ones(2, 2), "cls.seq_relationship.bias": torch.ones(2)}
    save_file(tensors, path, metadata={"format": "pt"})
    loaded, ids = load(tmp_path), torch.arange(5, 15)[None]
    loaded.set_attn_implementation("eager")
    with torch.inference_mode():
        torch.testing.assert_close(loaded(ids)[0], model.base_model(ids)[0], atol=0, rtol=0)
    del tensors["bert.encoder.layer.1.attention.self.query.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack tensor bert.encoder.layer.1.attention.self.query.weight"):
        load(tmp_path)


def test_weights_that_layers_share_are_no_heads_of_a_layer(tmp_path):
    stacked_model("albert").save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match="the layers of the architecture 'albert' share 1 set of weights"):
        HeadWeights(tmp_path)
    stacked_model("albert", num_hidden_groups=2).save_pretrained(tmp_path / "own")
    assert read_geometry(tmp_path / "own").sets_of_weights is None


def test_fused_weights_of_deberta_are_divided_by_heads(tmp_path):
    model = stacked_model("deberta")
    model.save_pretrained(tmp_path)
    weights = HeadWeights(tmp_path)
    fused = model.deberta.encoder.layer[1].attention.self.in_proj.weight.detach().unflatten(0, (6, 3, 8))
    for place, kind in enumerate("qkv"):
        np.testing.assert_array_equal(weights.get(kind, 1), fused[:, place].numpy())

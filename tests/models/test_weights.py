"""Per-head weights against the model's own layers: what a head computes must follow from them alone."""

import numpy as np
import pytest
import torch

from headway.errors import CheckpointError, UnsupportedModel, UsageError
from headway.models import HeadWeights, architecture_for
from support_architectures import random_model, tiny
from support_models import CONFIGS, LAYERS, saved

ROUNDINGS = {"rtol": 1e-4, "atol": 1e-4}  # float32 products of a few dozen numbers in another order


def heads_seen_by_attention(model, layer, hidden):
    """q, k and v of each head as the model's attention function gets them, before biases and positions.

    Biases are zero, positions switched off (cos 1, sin 0) and q and k norms, where there are any, skipped.
    """
    block = model.get_submodule(architecture_for(model).layer.format(layer=layer))
    attention = getattr(block, "self_attn", None) or getattr(block, "attention", None) or block.attn
    for name, parameter in attention.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    for name in ("q_norm", "k_norm"):
        if hasattr(attention, name):
            setattr(attention, name, torch.nn.Identity())
    seen = {}

    def spy(module, query, key, value, *_, **__):
        seen.update(q=query, k=key, v=value)
        return torch.zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[3]), None

    from transformers import AttentionInterface

    AttentionInterface.register("spy", spy)
    model.config._attn_implementation = "spy"
    width = model.config.head_dim if getattr(model.config, "head_dim", None) else hidden.shape[-1]
    positions = (torch.ones(1, hidden.shape[1], width), torch.zeros(1, hidden.shape[1], width))
    if model.config.model_type == "gpt_neox":
        positions = tuple(x[..., : attention.rotary_ndims] for x in positions)
    elif model.config.model_type not in ("qwen3", "gemma", "gemma2", "gpt_oss"):
        positions = tuple(x[..., :14] for x in positions)
    if model.config.model_type == "gpt_oss":
        positions = tuple(x[..., :7] for x in positions)  # it keeps half of the frequencies
    keywords = {} if model.config.model_type == "gpt2" else {"position_embeddings": positions}
    with torch.no_grad():
        attention(hidden, attention_mask=None, **keywords)
    return seen, attention


@pytest.mark.parametrize("architecture", CONFIGS)
def test_heads_are_those_of_the_forward_pass(architecture, tmp_path):
    model = saved(tmp_path, architecture)
    weights = HeadWeights(tmp_path)
    geometry = weights.geometry
    layer = LAYERS - 1
    hidden = torch.randn(1, 11, geometry.hidden_size)
    seen, attention = heads_seen_by_attention(model, layer, hidden)
    for kind, of_model in seen.items():
        own = torch.from_numpy(weights.get(kind, layer))
        n_heads = geometry.n_heads if kind == "q" else geometry.n_kv_heads
        assert own.shape == (n_heads, geometry.head_dim, geometry.hidden_size)
        torch.testing.assert_close(torch.einsum("btm,hdm->bhtd", hidden, own), of_model, **ROUNDINGS)
    outputs = torch.randn(1, 11, geometry.n_heads, geometry.head_dim)
    name = architecture_for(model).output_projection.partition(".")[2]
    with torch.no_grad():
        written = attention.get_submodule(name)(outputs.flatten(2))
    own = torch.from_numpy(weights.get("o", layer))
    torch.testing.assert_close(torch.einsum("bthd,hdm->btm", outputs, own), written, **ROUNDINGS)


def test_published_layout_is_the_studys_reshape(tmp_path):
    model = saved(tmp_path, "gpt_neox")
    fused = model.gpt_neox.layers[1].attention.query_key_value.weight.detach()
    as_published = fused.reshape(3, 5, 22, 110).numpy()  # clustering-dynamics: kinds first, then heads
    published = HeadWeights(tmp_path, layout="published")
    for number, kind in enumerate("qkv"):
        np.testing.assert_array_equal(published.get(kind, 1), as_published[number])
    # A head of the true layout is found nowhere in it: its q, k and v lie side by side in the file.
    assert not np.allclose(published.get("q", 1)[1], HeadWeights(tmp_path).get("q", 1)[1])
    np.testing.assert_array_equal(published.get("o", 1), HeadWeights(tmp_path).get("o", 1))


def test_a_base_model_saved_alone(tmp_path):
    model = saved(tmp_path / "whole", "gpt_neox")
    model.base_model.save_pretrained(tmp_path / "alone")
    for kind in "qkvo":
        np.testing.assert_array_equal(
            HeadWeights(tmp_path / "alone").get(kind, 2), HeadWeights(tmp_path / "whole").get(kind, 2)
        )


def test_only_what_is_asked_for_is_read(tmp_path, monkeypatch):
    from headway.models.tensors import TensorFiles

    saved(tmp_path, "llama")
    read = []
    get = TensorFiles.__getitem__
    monkeypatch.setattr(TensorFiles, "__getitem__", lambda self, name: read.append(name) or get(self, name))
    HeadWeights(tmp_path).get("k", 1)
    assert read == ["model.layers.1.self_attn.k_proj.weight"]


def test_returned_weights_are_the_readers_own(tmp_path):
    saved(tmp_path, "gpt_neox")
    weights = HeadWeights(tmp_path)
    first = weights.get("q", 0)
    first[:] = 0
    assert weights.get("q", 0).any()


class TestRefusals:
    def test_latent_attention(self, tmp_path):
        random_model(tiny("deepseek_v3")).save_pretrained(tmp_path)
        with pytest.raises(UnsupportedModel, match=r"'deepseek_v3' .* one latent vector .* write an `Architecture`"):
            HeadWeights(tmp_path)

    def test_published_layout_elsewhere(self, tmp_path):
        saved(tmp_path, "llama")
        with pytest.raises(UnsupportedModel, match="published layout"):
            HeadWeights(tmp_path, layout="published")

    def test_words(self, tmp_path):
        saved(tmp_path, "llama")
        with pytest.raises(UsageError, match="unknown layout 'wrong'"):
            HeadWeights(tmp_path, layout="wrong")
        with pytest.raises(UsageError, match="unknown kind of weight 'qk'"):
            HeadWeights(tmp_path).get("qk", 0)
        for layer in (-1, LAYERS):
            with pytest.raises(UsageError, match="layers 0 to 2"):
                HeadWeights(tmp_path).get("q", layer)

    def test_misshapen(self, tmp_path):
        saved(tmp_path, "llama")
        config = (tmp_path / "config.json").read_text()
        (tmp_path / "config.json").write_text(config.replace('"num_key_value_heads": 3', '"num_key_value_heads": 2'))
        with pytest.raises(UnsupportedModel, match="does not fit"):
            HeadWeights(tmp_path).get("k", 0)

    def test_not_finite(self, tmp_path):
        model = saved(tmp_path, "llama")
        with torch.no_grad():
            model.model.layers[0].self_attn.q_proj.weight[2, 3] = torch.nan
        model.save_pretrained(tmp_path)
        with pytest.raises(CheckpointError, match="NaN or infinite"):
            HeadWeights(tmp_path).get("q", 0)

import json

import pytest
from transformers import GPTNeoXConfig

from headway.errors import CheckpointError, UnsupportedModel
from headway.models import read_geometry
from support_architectures import tiny
from support_models import CONFIGS, CONTEXT, LAYERS, VOCAB, random_model, saved


def test_pythia_14m(tmp_path):
    GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=512,
        rotary_pct=0.25,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    ).save_pretrained(tmp_path)
    geometry = read_geometry(tmp_path)
    assert geometry.n_params == 14_067_712  # as study 2's table of Pythia says
    assert (geometry.n_layers, geometry.n_heads, geometry.head_dim) == (6, 4, 32)
    assert geometry.rotary_dim == 8  # a quarter of head_dim
    assert geometry.context_length == 2048


@pytest.mark.parametrize("architecture", CONFIGS)
def test_agrees_with_the_model(architecture, tmp_path):
    model = random_model(architecture)
    model.config.save_pretrained(tmp_path)
    geometry = read_geometry(tmp_path)
    assert geometry.n_params == sum(parameter.numel() for parameter in model.parameters())
    assert geometry.architecture == architecture
    assert (geometry.n_layers, geometry.vocab_size, geometry.context_length) == (LAYERS, VOCAB, CONTEXT)
    keys = 5 if architecture in ("gpt_neox", "gpt2") else 3
    assert geometry.n_kv_heads == keys


def test_tied_embeddings_count_once(tmp_path):
    sizes = {}
    for tied in (True, False):
        random_model("llama", tie_word_embeddings=tied).config.save_pretrained(tmp_path / str(tied))
        sizes[tied] = read_geometry(tmp_path / str(tied)).n_params
    assert sizes[False] - sizes[True] == VOCAB * 6 * 14


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        (None, CheckpointError, "is missing"),
        ("{", CheckpointError, "not JSON"),
        ("[1]", CheckpointError, "a JSON list instead of an object"),
        ("{}", UnsupportedModel, "model_type 'None'"),
        ('{"model_type": "made_up"}', UnsupportedModel, "does not know"),
        ('{"model_type": "vit"}', UnsupportedModel, "not a language model"),
        ('{"model_type": "gpt2", "n_embd": 10, "n_head": 3}', CheckpointError, "no model can be built from"),
    ],
)
def test_bad_configs(config, error, words, tmp_path):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(error, match=words):
        read_geometry(tmp_path)


@pytest.mark.parametrize(
    ("config", "context", "keys"),
    [
        ({"model_type": "bloom", "hidden_size": 10, "n_head": 2, "n_layer": 3, "vocab_size": VOCAB}, 2048, 2),
        ({"model_type": "mpt", "d_model": 10, "n_heads": 2, "n_layers": 3, "max_seq_len": 77}, 77, 2),
        ({"model_type": "gpt_bigcode", "n_embd": 10, "n_head": 2, "n_layer": 3, "multi_query": True}, 1024, 1),
    ],
)
def test_unusual_names_of_settings(config, context, keys, tmp_path):
    """BLOOM's paper says 2048 tokens, the others' configs say theirs; GPT-BigCode's heads share one key."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    geometry = read_geometry(tmp_path)
    assert (geometry.n_layers, geometry.n_heads, geometry.head_dim, geometry.hidden_size) == (3, 2, 5, 10)
    assert (geometry.context_length, geometry.n_kv_heads) == (context, keys)


def test_infinities_that_transformers_wrote(tmp_path):
    tiny("bamba").save_pretrained(tmp_path)
    assert "Infinity" in (tmp_path / "config.json").read_text()
    assert read_geometry(tmp_path).architecture == "bamba"


def test_heads_of_different_sizes_are_refused(tmp_path):
    tiny("gemma4_text").save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match="layers of architecture 'gemma4_text' have heads of different sizes"):
        read_geometry(tmp_path)


def test_code_of_a_checkpoint_is_not_run(tmp_path):
    saved(tmp_path, "llama")
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    assert read_geometry(tmp_path).architecture == "llama"

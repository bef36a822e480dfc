import json
import pickle
import re

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import support_models
from headway.errors import CheckpointError, UnsupportedModel, UsageError
from headway.models import HeadWeights, load, read_geometry
from headway.models.config import config_text, skeleton
from support_models import CONFIGS, VOCAB, saved

IDS = torch.arange(23)[None] % VOCAB


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS.to(model.device)).logits.cpu()


def change(folder, **changes):
    """Rewrites the stored tensors: None removes one."""
    tensors = load_file(folder / "model.safetensors") | changes
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("architecture", CONFIGS)
class TestAgainstFromPretrained:
    def test_logits_are_bit_for_bit_the_same(self, architecture, tmp_path):
        saved(tmp_path, architecture)
        expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
        assert torch.equal(logits(load(tmp_path, lm_head=True)), logits(expected))

    def test_all_tensors_are_the_same(self, architecture, tmp_path):
        """Buffers that no file stores, such as rotary frequencies, included."""
        saved(tmp_path, architecture)
        expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
        found = load(tmp_path, lm_head=True)
        for kind in ("named_parameters", "named_buffers"):
            wanted, got = dict(getattr(expected, kind)()), dict(getattr(found, kind)())
            assert wanted.keys() == got.keys()
            for name, tensor in wanted.items():
                assert torch.equal(tensor, got[name]), name

    def test_base_model_has_the_same_hidden_states(self, architecture, tmp_path):
        model = saved(tmp_path, architecture)
        base = load(tmp_path)
        assert type(base) is type(model.base_model)
        expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval().base_model
        with torch.no_grad():
            assert torch.equal(base(IDS).last_hidden_state, expected(IDS).last_hidden_state)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_onto_a_gpu(tmp_path, dtype):
    """All of it, buffers that no file stores too: the same weights as on the CPU."""
    if support_models.DEVICE == "cpu":
        pytest.skip("no GPU is asked for: run pytest with --device cuda")
    saved(tmp_path, "gpt_neox")
    there, here = (load(tmp_path, lm_head=True, dtype=dtype, device=d) for d in (support_models.DEVICE, "cpu"))
    assert {tensor.device.type for tensor in (*there.parameters(), *there.buffers())} == {"cuda"}
    assert all(torch.equal(tensor.cpu(), here.state_dict()[name]) for name, tensor in there.state_dict().items())
    # Two devices sum in other orders: a few roundings of numbers below 100.
    torch.testing.assert_close(logits(there.float()), logits(here.float()), rtol=1e-4, atol=1e-3)


def test_two_checkpoints_of_one_config_do_not_share_weights(tmp_path):
    models = [saved(tmp_path / str(seed), "gpt_neox", seed) for seed in (1, 2)]
    first, second = (load(tmp_path / str(seed), lm_head=True) for seed in (1, 2))
    # Eager attention there, PyTorch's own here: a few roundings apart.
    torch.testing.assert_close(logits(first), logits(models[0]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits(second), logits(models[1]), rtol=1e-4, atol=1e-4)
    assert read_geometry(tmp_path / "1") is not None
    assert not any(parameter.is_meta for parameter in (*first.parameters(), *second.parameters()))


def test_checkpoints_of_one_config_share_a_skeleton_and_errors_name_their_own_folder(tmp_path):
    for name in "ab":
        saved(tmp_path / name, "gpt_neox")
    texts = [config_text(tmp_path / name) for name in "ab"]
    assert skeleton(texts[0], "a") is skeleton(texts[1], "b")
    for name in "ab":
        (tmp_path / name / "config.json").write_text('{"model_type": "gpt_neox", "num_hidden_layers": 20000}')
        with pytest.raises(
            CheckpointError, match=f"{re.escape(str(tmp_path / name))}.config.json has num_hidden_layers"
        ):
            read_geometry(tmp_path / name)


def test_changing_a_model_does_not_change_its_file(tmp_path):
    saved(tmp_path, "gpt_neox")
    before = (tmp_path / "model.safetensors").read_bytes()
    model = load(tmp_path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_shards(tmp_path):
    model = saved(tmp_path / "whole", "llama")
    model.save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    assert torch.equal(logits(load(tmp_path / "whole", lm_head=True)), logits(load(tmp_path / "shards", lm_head=True)))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_bin(tmp_path, zipped):
    model = saved(tmp_path, "gpt_neox")
    expected = logits(load(tmp_path, lm_head=True))
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert torch.equal(logits(load(tmp_path, lm_head=True)), expected)


def test_malicious_pickle_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "it_ran"), "w")

    saved(tmp_path, "gpt_neox")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Evil()}))
    with pytest.raises(CheckpointError, match="damaged or holds more than tensors"):
        load(tmp_path)
    assert not (tmp_path / "it_ran").exists()


def test_a_base_model_saved_alone(tmp_path):
    model = saved(tmp_path / "whole", "gpt2")
    model.base_model.save_pretrained(tmp_path / "alone")
    names = load_file(tmp_path / "alone" / "model.safetensors")
    assert not any(name.startswith("transformer.") for name in names)
    with torch.no_grad():
        expected = load(tmp_path / "whole")(IDS).last_hidden_state
        assert torch.equal(load(tmp_path / "alone")(IDS).last_hidden_state, expected)


def test_buffers_of_older_versions_are_ignored(tmp_path):
    saved(tmp_path, "gpt_neox")
    expected = logits(load(tmp_path, lm_head=True))
    change(
        tmp_path,
        **{
            "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool),
            "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
            "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(4),
        },
    )
    assert torch.equal(logits(load(tmp_path, lm_head=True)), expected)


class TestTiedEmbeddings:
    def test_stored_once(self, tmp_path):
        model = saved(tmp_path, "llama", tie_word_embeddings=True)
        assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
        found = load(tmp_path, lm_head=True)
        assert found.lm_head.weight is found.model.embed_tokens.weight
        torch.testing.assert_close(logits(found), logits(model), rtol=1e-4, atol=1e-4)  # two attention kernels

    def test_stored_twice_and_equal(self, tmp_path):
        saved(tmp_path, "llama", tie_word_embeddings=True)
        embedding = load_file(tmp_path / "model.safetensors")["model.embed_tokens.weight"]
        change(tmp_path, **{"lm_head.weight": embedding.clone()})
        assert torch.isfinite(logits(load(tmp_path, lm_head=True))).all()

    def test_stored_twice_and_different(self, tmp_path):
        saved(tmp_path, "llama", tie_word_embeddings=True)
        """Both are used, as transformers does."""
        unembedding = torch.randn(VOCAB, 6 * 14, generator=torch.Generator().manual_seed(0))
        change(tmp_path, **{"lm_head.weight": unembedding})
        found = load(tmp_path, lm_head=True)
        assert torch.equal(found.lm_head.weight, unembedding)
        expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
        assert torch.equal(logits(found), logits(expected))


class TestDamage:
    NAME = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"

    @pytest.fixture(autouse=True)
    def model(self, tmp_path):
        saved(tmp_path, "gpt_neox")

    def test_missing_tensor(self, tmp_path):
        change(tmp_path, **{self.NAME: None})
        with pytest.raises(CheckpointError, match=f"lack tensor {self.NAME}"):
            load(tmp_path)

    def test_unexpected_tensor(self, tmp_path):
        change(tmp_path, **{"gpt_neox.layers.3.attention.dense.weight": torch.ones(2)})
        with pytest.raises(CheckpointError, match=r"dense\.weight, which the model of config"):
            load(tmp_path)

    def test_misshapen_tensor(self, tmp_path):
        change(tmp_path, **{self.NAME: torch.ones(37, 109)})
        with pytest.raises(CheckpointError, match=r"shape \(37, 109\), but .* expects \(37, 110\)"):
            load(tmp_path)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, tmp_path, value):
        weight = load_file(tmp_path / "model.safetensors")[self.NAME].clone()
        weight[3, 5] = value
        change(tmp_path, **{self.NAME: weight})
        with pytest.raises(CheckpointError, match=f"'{self.NAME}' holds 1 of 4070 values"):
            load(tmp_path)

    def test_too_large_for_the_dtype(self, tmp_path):
        weight = load_file(tmp_path / "model.safetensors")[self.NAME].clone()
        weight[3, 5] = 1e6
        change(tmp_path, **{self.NAME: weight})
        load(tmp_path)
        with pytest.raises(CheckpointError, match="infinite as float16"):
            load(tmp_path, dtype="float16")

    @pytest.mark.parametrize("size", [0, 7, 1000, -100])
    def test_truncated(self, tmp_path, size):
        path = tmp_path / "model.safetensors"
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(CheckpointError, match=r"truncated or damaged: .*\. Copy it again from an intact source"):
            load(tmp_path)

    def test_truncated_in_the_cache_of_the_hub(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        repo = tmp_path / "models--someone--toy"
        blob, snapshot = repo / "blobs" / "c0ffee", repo / "snapshots" / "main"
        blob.parent.mkdir(parents=True)
        snapshot.mkdir(parents=True)
        blob.write_bytes((tmp_path / "model.safetensors").read_bytes()[:-100])
        (snapshot / "model.safetensors").symlink_to(blob)
        (tmp_path / "config.json").rename(snapshot / "config.json")
        with pytest.raises(CheckpointError, match="truncated or damaged") as error:
            load(snapshot)
        assert str(error.value).endswith(f"Remove {blob.resolve()} to download it again")

    def test_truncated_bin(self, tmp_path):
        model = load(tmp_path, lm_head=True)
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        path = tmp_path / "pytorch_model.bin"
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(CheckpointError, match="damaged"):
            load(tmp_path)

    def test_no_weights(self, tmp_path):
        (tmp_path / "model.safetensors").unlink()
        with pytest.raises(CheckpointError, match="holds no weights"):
            load(tmp_path)

    @pytest.mark.parametrize(("shard", "words"), [("../secret.safetensors", "outside"), ("b.safetensors", "lacks 1")])
    def test_bad_index(self, tmp_path, shard, words):
        (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
        index = {"weight_map": {"x": "a.safetensors", "y": shard}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(CheckpointError, match=words):
            load(tmp_path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_dtypes(tmp_path, dtype):
    saved(tmp_path, "gpt_neox")
    model = load(tmp_path, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    assert model.rotary_emb.inv_freq.dtype == torch.float32  # rounded frequencies would turn late positions wrongly


def test_unknown_dtype(tmp_path):
    saved(tmp_path, "gpt_neox")
    with pytest.raises(UsageError, match="unknown dtype 'float8'"):
        load(tmp_path, dtype="float8")


# --- files whose names or shapes are not those in memory -------------------------------------------------------------

_MOE = {
    "vocab_size": VOCAB,
    "hidden_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 36,
    "max_position_embeddings": 64,
    "num_experts_per_tok": 2,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_LATENT = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "moe_intermediate_size": 36,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
}
CONVERTED = {
    "MixtralConfig": {"num_local_experts": 4},
    "OlmoeConfig": {"num_experts": 4},
    "Qwen2MoeConfig": {"num_experts": 4, "moe_intermediate_size": 36, "shared_expert_intermediate_size": 36},
    "Qwen3MoeConfig": {"num_experts": 4, "moe_intermediate_size": 36},
    "PhimoeConfig": {"num_local_experts": 4},
    "GraniteMoeConfig": {"num_local_experts": 4},
    "DeepseekV2Config": _LATENT | {"n_group": 1, "topk_group": 1},
    "DeepseekV3Config": _LATENT | {"n_group": 1, "topk_group": 1},
    "Gemma3TextConfig": {"head_dim": 14},
}


def converted(folder, name):
    """A random model of transformers in the names and shapes of the Hub, which `save_pretrained` restores."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(getattr(transformers, name)(**_MOE | CONVERTED[name])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("name", CONVERTED)
class TestConvertedNames:
    def test_the_model_is_the_one_that_was_saved(self, name, tmp_path):
        model = converted(tmp_path, name)
        if name not in (
            "Gemma3TextConfig",
            "GraniteMoeConfig",
        ):  # the names of some releases of transformers are the same
            assert load_file(tmp_path / "model.safetensors").keys() != model.state_dict().keys()
        found = load(tmp_path, lm_head=True)
        for key, tensor in model.state_dict().items():
            assert torch.equal(found.state_dict()[key], tensor), key
        assert torch.equal(logits(found), logits(model))

    def test_unexpected_tensors_are_refused(self, name, tmp_path):
        converted(tmp_path, name)
        change(tmp_path, **{"model.layers.0.other.weight": torch.ones(2)})
        with pytest.raises(CheckpointError, match=r"other\.weight, which the model of config"):
            load(tmp_path)

    def test_missing_tensors_are_refused(self, name, tmp_path):
        converted(tmp_path, name)
        experts = [
            one for one in load_file(tmp_path / "model.safetensors") if "mlp" in one or "expert" in one or "moe" in one
        ]
        change(tmp_path, **{experts[-1]: None})
        with pytest.raises(CheckpointError, match=r"lack|not complete"):
            load(tmp_path)

    def test_tensors_that_are_not_finite_are_named(self, name, tmp_path):
        converted(tmp_path, name)
        key, tensor = next(iter(load_file(tmp_path / "model.safetensors").items()))
        tensor = tensor.clone()
        tensor.view(-1)[0] = np.nan
        change(tmp_path, **{key: tensor})
        with pytest.raises(CheckpointError, match=f"'{key}' holds 1 of"):
            load(tmp_path, lm_head=True)


def test_conversion_leaves_the_default_dtype_to_others(tmp_path):
    converted(tmp_path, "MixtralConfig")
    model = load(tmp_path, dtype="bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32


WRAPPED = {
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "a part under torch.compile": lambda name: name.replace("layers.1.", "layers.1._orig_mod."),
    "DistributedDataParallel": lambda name: f"module.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "FSDP with checkpointing": lambda name: name.replace(
        "layers.1.", "layers.1._fsdp_wrapped_module._checkpoint_wrapped_module."
    ),
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_names_of_wrappers_are_left_out(wrapper, tmp_path):
    saved(tmp_path, "gpt_neox")
    expected = logits(load(tmp_path, lm_head=True))
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({WRAPPED[wrapper](name): one for name, one in tensors.items()}, tmp_path / "model.safetensors")
    assert torch.equal(logits(load(tmp_path, lm_head=True)), expected)
    assert HeadWeights(tmp_path).get("q", 1).shape == (5, 22, 110)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_quantized_weights_are_refused(dtype, tmp_path):
    saved(tmp_path, "gpt_neox")
    name = "gpt_neox.layers.1.attention.query_key_value.weight"
    change(tmp_path, **{name: torch.ones(330, 110).to(dtype)})
    for read in (lambda: load(tmp_path), lambda: HeadWeights(tmp_path).get("q", 1)):
        with pytest.raises(
            UnsupportedModel, match=f"'{name}' is stored as {str(dtype)[6:]}, so its weights are quantized"
        ):
            read()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"num_hidden_layers": 10**7}, CheckpointError, "num_hidden_layers 10,000,000. The file seems damaged"),
        ({"text_config": {"num_experts": 10**9}}, CheckpointError, "num_experts 1,000,000,000"),
        ({"quantization_config": {"quant_method": "fp8"}}, UnsupportedModel, r"quantized \(fp8\)"),
    ],
)
def test_a_config_that_cannot_be_read_truthfully_is_refused_at_once(changes, error, words, tmp_path):
    saved(tmp_path, "gpt_neox")
    config = json.loads((tmp_path / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    for read in (load, read_geometry):
        with pytest.raises(error, match=words):
            read(tmp_path)

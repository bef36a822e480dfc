import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from headway.errors import CheckpointError, UsageError
from headway.models import load, read_geometry
from support_models import CONFIGS, VOCAB, saved

IDS = torch.arange(23)[None] % VOCAB


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


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


def test_two_checkpoints_of_one_config_do_not_share_weights(tmp_path):
    models = [saved(tmp_path / str(seed), "gpt_neox", seed) for seed in (1, 2)]
    first, second = (load(tmp_path / str(seed), lm_head=True) for seed in (1, 2))
    # Eager attention there, PyTorch's own here: a few roundings apart.
    torch.testing.assert_close(logits(first), logits(models[0]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits(second), logits(models[1]), rtol=1e-4, atol=1e-4)
    assert read_geometry(tmp_path / "1") is not None
    assert not any(parameter.is_meta for parameter in (*first.parameters(), *second.parameters()))


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
        change(tmp_path, **{"lm_head.weight": torch.zeros(VOCAB, 6 * 14)})
        with pytest.raises(CheckpointError, match="two that differ"):
            load(tmp_path, lm_head=True)


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
        with pytest.raises(CheckpointError, match=r"shape \(37, 109\), where .* \(37, 110\)"):
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
        with pytest.raises(CheckpointError, match=r"truncated or damaged: .*\. Copy it anew from where it is whole"):
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
        assert str(error.value).endswith(f"Remove {blob.resolve()}, and it is fetched anew")

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

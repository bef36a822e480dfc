"""A folder suite with planted weights goes through the command line; the study finds what was planted, and nothing else."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from headway.store.directory import RunDirectory
from headway.studies import Result

STEPS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
LAYERS, HEADS, HEAD_DIM, HIDDEN, VOCAB = 2, 12, 8, 96, 61
PLANTED_AT, LONE_HEAD = 32, 5


def headway(*words) -> str:
    command = [Path(sys.executable).with_name("headway"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def heads_of(model, layer: int, kind: str) -> torch.Tensor:
    """A view (heads, head_dim, hidden) into the fused weight, in which each head's q, k and v stand together."""
    fused = model.gpt_neox.layers[layer].attention.query_key_value.weight
    return fused.view(HEADS, 3, HEAD_DIM, HIDDEN)[:, "qkv".index(kind)]


def plant(model, step: int) -> None:
    """Layer 0: queries fall into even and odd heads at once. Layer 1: values do so little by little, one key head outgrows
    the others. Everything else is noise."""
    random = torch.Generator().manual_seed(step)
    sign = torch.tensor([-1.0, 1.0] * (HEADS // 2))[:, None, None]
    away = torch.randn(HEAD_DIM, HIDDEN, generator=random) * 0.02
    risen = float(np.log2(step + 1) / 8)
    with torch.no_grad():
        heads_of(model, 1, "v").add_(1.2 * risen * sign * away)
        if step >= PLANTED_AT:
            heads_of(model, 0, "q").add_(sign * away)
            heads_of(model, 1, "k")[LONE_HEAD] *= 4


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Result:
    place = tmp_path_factory.mktemp("planted")
    config = GPTNeoXConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    run = place / "suite" / "toy-1m-seed1"
    for step in STEPS:
        torch.manual_seed(step)
        model = GPTNeoXForCausalLM(config)
        plant(model, step)
        model.save_pretrained(run / f"step{step}")
    tokenizer = Tokenizer(models.WordLevel({f"w{at}": at for at in range(VOCAB)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(run / "tokenizer.json"))
    (place / "texts.txt").write_text("w1 w2 w3 w4 w5 w6\nw7 w8 w9 w10\n")
    (place / "prompts.txt").write_text("counting\tw1 w2 w3\ncounting\tw7 w8\n")
    out = place / "run"
    options = ("--out", out, "--features", "raw", "--methods", "kmeans", "--ks", 2)
    headway("cluster", place / "suite", *options)
    headway("cluster", place / "suite", *options, "--nulls", 0, "--layout", "published", "--where", "step=last")
    read = ("--corpus", place / "texts.txt", "--prompts", place / "prompts.txt")
    headway("intervene", place / "suite", "--out", out, *read, "--controls", 20, "--kinds", "q", "--where", "step=last")
    said = headway("analyze", out, "--bootstraps", 199)
    assert "weight clusters" in said
    headway("report", out)
    assert (out / "report.html").stat().st_size > 10_000
    return Result.load(RunDirectory(out), "weight_clusters", "weights")


def transition(result, layer, kind):
    own = (pl.col("layer") == layer) & (pl.col("kind") == kind) & (pl.col("feature") == "raw")
    return result.tables["transitions"].filter(own).row(0, named=True)


def test_groups_are_found_at_the_step_at_which_they_were_planted(result):
    found = transition(result, 0, "q")
    assert (found["beyond_after"], found["beyond_from"]) == (16, 32)
    assert found["last_beyond"]
    assert (found["change_from"], found["change_to"]) == (16, 32)
    assert found["change"] in ("abrupt", "undecided")  # ten steps seldom exclude a steep curve


def test_growth_is_not_called_a_jump(result):
    found = transition(result, 1, "v")
    assert found["last_beyond"]
    assert found["change"] in ("gradual", "undecided")


def test_the_planted_groups_are_those_found(result):
    last = result.tables["composition"].filter(
        pl.col("step") == 256, pl.col("k") == 2, ((pl.col("layer") == 0) & (pl.col("kind") == "q"))
    )
    assert last["clusters"].to_list() == [[[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]]]


def test_an_outlier_is_named_and_is_no_cluster(result):
    row = result.tables["published"].filter(pl.col("layer") == 1, pl.col("kind") == "k").row(0, named=True)
    assert row["lone_heads"] == [LONE_HEAD]
    assert row["published_clusters"]
    assert not row["corrected_clusters"]
    left = result.tables["outliers"].filter("left")
    assert left.select("layer", "kind", "head", "onset_after", "onset").rows() == [(1, "k", LONE_HEAD, 16, PLANTED_AT)]


def test_nothing_is_found_without_a_planted_effect(result):
    rows = result.tables["published"].filter(pl.col("corrected_clusters"))
    assert set(rows.select("layer", "kind").rows()) == {(0, "q"), (1, "v")}


def test_the_published_reading_loses_the_planted_groups(result):
    row = result.tables["layouts"].filter(pl.col("layer") == 0, pl.col("kind") == "q").row(0, named=True)
    assert row["silhouette"] > row["silhouette_published_layout"] + 0.1
    assert row["ari"] < 0.5


def test_interventions_come_with_controls_at_both_steps(result):
    effects = result.tables["effects"]
    assert set(effects["step"]) == {0, 256}
    assert (effects["n_controls"] > 0).all()
    assert set(result.tables["prompts"]["task"]) == {"counting"}

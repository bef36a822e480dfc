"""Folder suites of tiny models that read words w0 to w22, for what goes through the api."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from headway.api import cluster, intervene
from headway.store.directory import RunDirectory
from headway.sweep import Summary

WORDS = [f"w{i}" for i in range(23)]
RUN = "toy-1m-seed1"
_SHAPE = {
    "vocab_size": len(WORDS),
    "num_hidden_layers": 2,
    "intermediate_size": 37,
    "max_position_embeddings": 32,
    "initializer_range": 0.4,  # so that heads matter
}


def neox(seed: int = 0, heads: int = 6, **changes: Any) -> GPTNeoXForCausalLM:
    torch.manual_seed(seed)
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(**_SHAPE | {"hidden_size": heads * 4, "num_attention_heads": heads} | changes)
    )


def llama(seed: int = 0, heads: int = 8, kv_heads: int = 4) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    own = {"hidden_size": 56, "head_dim": 6, "num_attention_heads": heads, "num_key_value_heads": kv_heads}
    return LlamaForCausalLM(LlamaConfig(**_SHAPE | own))


def write_suite(folder: Path, checkpoints: Mapping[tuple[str, int], PreTrainedModel]) -> Path:
    """A folder suite of these models, by run and step, with a corpus `texts.txt` beside it."""
    for (run, step), model in checkpoints.items():
        model.save_pretrained(folder / "suite" / run / f"step{step}")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "suite" / "tokenizer.json"))
    (folder / "texts.txt").write_text("w1 w2 w3 w4 w5 w6\nw3 w2 w7 w8 w9 w10 w11 w12 w4 w4 w5\nw9 w1 w2\n")
    (folder / "prompts.txt").write_text("counting\tw1 w2 w3\nother\tw7 w8\n")
    return folder


def clustered(folder: Path, **options: Any) -> RunDirectory:
    """The run directory `out` of a folder that `write_suite` made, with clusters in it."""
    quick = {"nulls": 0, "features": ("raw",), "methods": ("kmeans",), "ks": (2,)}
    cluster(folder / "suite", out=folder / "out", **quick | options)
    return RunDirectory(folder / "out")


def intervened(folder: Path, **options: Any) -> list[Summary]:
    """What `intervene` came to on such a folder, its own texts and prompts read."""
    own = {"corpus": str(folder / "texts.txt"), "prompts": str(folder / "prompts.txt"), "controls": 20}
    return intervene(folder / "suite", out=folder / "out", **own | options)

"""Checkpoints of a few tensors, as files on a Hub or in a folder."""

import json

import numpy as np
from safetensors.numpy import save

from headway.suites import Checkpoint, HubSource

REPO = "someone/toy-1m-seed1"
CONFIG = b'{"model_type": "gpt_neox"}'
TOKENIZER = b'{"version": "1.0"}'


def weights(value: float = 0.0, rows: int = 5, columns: int = 7) -> bytes:
    """A safetensors file of one tensor; its numbers start at `value`."""
    return save({"a": value + np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)})


def small(**others: bytes) -> dict[str, bytes]:
    """The small files of a checkpoint; dots in names are written as __."""
    return {"config.json": CONFIG, "tokenizer.json": TOKENIZER} | {k.replace("__", "."): v for k, v in others.items()}


def shard_index(*shards: str, whole: str = "model.safetensors") -> dict[str, bytes]:
    weight_map = {f"tensor{i}": shard for i, shard in enumerate(shards)}
    return {f"{whole}.index.json": json.dumps({"metadata": {}, "weight_map": weight_map}).encode()}


def checkpoint(revision: str = "step0", repo: str = REPO, step: int = 0, tokenizer_repo: str = "") -> Checkpoint:
    name = repo.split("/")[1]
    return Checkpoint("toy", name, "toy-1m", "1m", "1", step, revision, HubSource(repo, revision, tokenizer_repo))

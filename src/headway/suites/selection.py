"""Select the files of a checkpoint by name, on the Hub or in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from headway.errors import CheckpointError

CONFIG = "config.json"
# In order of preference. Only one is used.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
)
_ONE_MAKES_A_TOKENIZER = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",))
# Files of a tokenizer that determine the tokens of a text.
TOKEN_FILES = frozenset(chain.from_iterable(_ONE_MAKES_A_TOKENIZER))


class WeightFiles(NamedTuple):
    """Names of the weight files. `shard_index` is empty for a single file."""

    names: tuple[str, ...]
    shard_index: str = ""


def weight_files(names: Collection[str], read: Callable[[str], bytes], where: str) -> WeightFiles:
    """Select the weight files among `names`: safetensors before .bin, whole before shards.

    Args:
        read: returns the content of a file in `names`. It is called only for an index of shards.
        where: the checkpoint, as named in errors.

    Raises:
        CheckpointError: there are no weights, a shard is missing, or the index is invalid.
    """
    for whole in WEIGHTS:
        if whole in names:
            return WeightFiles((whole,))
        index = f"{whole}.index.json"
        if index in names:
            return WeightFiles(_shards(index, names, read(index), where), index)
    raise CheckpointError(f"{where} holds no weights: neither {' nor '.join(WEIGHTS)}, whole or in shards")


def _shards(index: str, names: Collection[str], content: bytes, where: str) -> tuple[str, ...]:
    try:
        shards = sorted(set(json.loads(content)["weight_map"].values()))
        outside = [shard for shard in shards if "/" in shard or "\\" in shard or shard in (".", "..")]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{where}: {index} is not an index of shards ({error!r})") from error
    if outside:
        raise CheckpointError(f"{where}: {index} names a file outside its folder: {outside[0]!r}")
    missing = [shard for shard in shards if shard not in names]
    if missing or not shards:
        raise CheckpointError(f"{where} lacks {len(missing)} of {len(shards)} shards: {', '.join(missing)}")
    return tuple(shards)


def tokenizer_files(names: Collection[str]) -> Sequence[str]:
    """Select the tokenizer's files among `names`; empty if they do not make up a tokenizer."""
    if not any(all(name in names for name in needed) for needed in _ONE_MAKES_A_TOKENIZER):
        return ()
    return [name for name in TOKENIZER_FILES if name in names]


# Settings in config.json that describe the file or the software and do not affect the model's numbers.
_BOOKKEEPING = frozenset(
    {
        "_attn_implementation_autoset",
        "_commit_hash",
        "_name_or_path",
        "architectures",
        "auto_map",
        "dtype",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in config.json that affect a model's numbers. They must be equal at all steps of a run."""
    return {name: value for name, value in config.items() if name not in _BOOKKEEPING}

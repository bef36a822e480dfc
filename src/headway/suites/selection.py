"""Which files of a checkpoint are needed: chosen by name, whether they lie on the Hub or in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from headway.errors import CheckpointError

CONFIG = "config.json"
# In order of preference; never both.
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


class WeightFiles(NamedTuple):
    """The files of the weights; `shard_index` is empty where there is one file."""

    names: tuple[str, ...]
    shard_index: str = ""


def weight_files(names: Collection[str], read: Callable[[str], bytes], where: str) -> WeightFiles:
    """The files of the weights among `names`: safetensors before .bin, whole before shards.

    Args:
        read: the content of a file of `names`; asked for an index of shards alone.
        where: what is being looked at, for messages.

    Raises:
        CheckpointError: there are none, a shard is missing, or the index is not one.
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
        raise CheckpointError(f"{where}: {index} names a file outside of its folder: {outside[0]!r}")
    missing = [shard for shard in shards if shard not in names]
    if missing or not shards:
        raise CheckpointError(f"{where} lacks {len(missing)} of {len(shards)} shards: {', '.join(missing)}")
    return tuple(shards)


def tokenizer_files(names: Collection[str]) -> Sequence[str]:
    """The tokenizer's files among `names`; none if they do not make up a tokenizer."""
    if not any(all(name in names for name in needed) for needed in _ONE_MAKES_A_TOKENIZER):
        return ()
    return [name for name in TOKENIZER_FILES if name in names]


# What config.json says of the file and of the software, and nothing of the model's numbers.
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
    """The settings of a config.json that decide a model's numbers, which must be the same at all steps of a run."""
    return {name: value for name, value in config.items() if name not in _BOOKKEEPING}

"""The shape of a checkpoint's heads, from its config.json alone."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.errors import CheckpointError, UnsupportedModel
from headway.models.architectures import require_attention_interface
from headway.suites.selection import deciding

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Geometry:
    """The numbers of a causal language model that a study of its heads needs.

    Attributes:
        architecture: `model_type` as transformers names it, such as gpt_neox.
        n_heads: query heads in a layer.
        n_kv_heads: key and value heads in a layer; fewer than `n_heads` with grouped queries.
        rotary_dim: how many of a head's `head_dim` dimensions turn with the position; 0 without rotary positions.
        n_params: parameters, embedding and unembedding included, tied ones once.
        context_length: most tokens that the model was made to read.
        vocab_size: rows of the embedding, those of no token included.
    """

    architecture: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    hidden_size: int
    rotary_dim: int
    n_params: int
    context_length: int
    vocab_size: int


def read_geometry(folder: str | PathLike[str]) -> Geometry:
    """The geometry of the checkpoint in `folder`; reads config.json and no weights.

    Raises:
        CheckpointError: config.json is absent, damaged, or describes no model that can be built.
        UnsupportedModel: transformers does not know its architecture as a causal language model.
    """
    return _geometry(config_text(folder), str(folder))


@lru_cache(maxsize=64)
def _geometry(text: str, folder: str) -> Geometry:
    return geometry_of(skeleton(text, folder), folder)


def geometry_of(model: PreTrainedModel, folder: str = "the model") -> Geometry:
    """The geometry of a causal language model; `folder` is what an error names.

    Raises:
        UnsupportedModel: its config lacks what every model with attention heads in all layers has.
    """
    config = model.config.get_text_config()
    n_heads = _number(model, "num_attention_heads", folder)
    hidden_size = _number(model, "hidden_size", folder)
    return Geometry(
        architecture=config.model_type,
        n_layers=_number(model, "num_hidden_layers", folder),
        n_heads=n_heads,
        n_kv_heads=getattr(config, "num_key_value_heads", None) or n_heads,
        head_dim=getattr(config, "head_dim", None) or hidden_size // n_heads,
        hidden_size=hidden_size,
        rotary_dim=_rotary_dim(model),
        n_params=sum(parameter.numel() for parameter in model.parameters()),
        context_length=_number(model, "max_position_embeddings", folder),
        vocab_size=_number(model, "vocab_size", folder),
    )


def _number(model: PreTrainedModel, name: str, folder: str) -> int:
    config = model.config.get_text_config()
    value = getattr(config, name, None)
    if not isinstance(value, int):
        require_attention_interface(model)  # configs of another kind, as BLOOM's, mostly come with attention of another
        raise UnsupportedModel(
            f"{folder}: the config of architecture {config.model_type!r} has no {name}, so it does not look like "
            "a causal language model with attention heads in every layer"
        )
    return value


def _rotary_dim(model: PreTrainedModel) -> int:
    """Each frequency of a rotary embedding turns two dimensions."""
    sizes = [buffer.numel() for name, buffer in model.named_buffers() if name.endswith("inv_freq")]
    return 2 * max(sizes, default=0)


def settings_of(model: PreTrainedModel) -> dict[str, Any]:
    """What the model's config says that decides its numbers, as JSON; defaults that config.json leaves out included."""
    config = model.config.get_text_config()
    return deciding(json.loads(config.to_json_string(False)))


def config_text(folder: str | PathLike[str]) -> str:
    """The folder's config.json.

    Raises:
        CheckpointError: it is absent or cannot be read.
    """
    path = Path(folder) / "config.json"
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CheckpointError(f"{path} is absent: the folder of a checkpoint holds its config.json") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def read_config(text: str, folder: str) -> PreTrainedConfig:
    """The config that `text`, the config.json of `folder`, describes; code from the checkpoint is never run.

    Raises:
        CheckpointError: it is not JSON, or holds values that its architecture refuses.
        UnsupportedModel: transformers has no architecture of its name, or the weights are quantized.
    """
    from transformers import CONFIG_MAPPING

    values = _json_object(text, folder)
    _require_buildable(values, folder)
    model_type = str(values.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        raise UnsupportedModel(
            f"{folder}/config.json says model_type {model_type!r}, which the installed transformers does not know. "
            "A newer transformers may; headway runs no code that comes with a checkpoint"
        )
    try:
        return CONFIG_MAPPING[model_type].from_dict(values)
    except Exception as error:  # each architecture validates its config in its own way
        raise CheckpointError(f"{folder}/config.json is refused by architecture {model_type!r}: {error}") from error


def _json_object(text: str, folder: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{folder}/config.json is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{folder}/config.json is not a JSON object but {type(values).__name__}")
    return values


# More layers, experts and the like than any model has. They are built one by one, so a damaged number would not end.
_MOST_MODULES = 10_000
_COUNTED = re.compile(r"layers?|experts|blocks", re.IGNORECASE)


def _require_buildable(values: Mapping[str, Any], folder: str) -> None:
    """
    Raises:
        CheckpointError: a number of modules is beyond `_MOST_MODULES`.
        UnsupportedModel: the weights are quantized.
    """
    for name, value in values.items():
        if isinstance(value, dict) and name.endswith("_config"):
            _require_buildable(value, folder)
        if isinstance(value, int) and value > _MOST_MODULES and _COUNTED.search(name):
            raise CheckpointError(
                f"{folder}/config.json says {name} {value:,}; more than {_MOST_MODULES:,} are taken for damage"
            )
    if quantized := values.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        raise UnsupportedModel(
            f"{folder}/config.json says that the weights are quantized ({method}), and their codes are not weights. "
            "Use a checkpoint that is not quantized"
        )


_building = threading.Lock()


@lru_cache(maxsize=16)
def _built(text: str, folder: str) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    config = read_config(text, folder)
    try:
        with _building, _parameters_on_meta():
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False).eval()
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise CheckpointError(f"{folder}/config.json describes no model that can be built: {error}") from error
        raise UnsupportedModel(
            f"{folder}: architecture {config.model_type!r} is not a causal language model of transformers"
        ) from error
    except Exception as error:  # a config with impossible sizes fails wherever its architecture meets them
        raise CheckpointError(f"{folder}/config.json describes no model that can be built: {error}") from error


def skeleton(text: str, folder: str) -> PreTrainedModel:
    """The causal language model of a config.json, its parameters on the meta device, where they take no memory.

    Buffers that no file stores, such as rotary frequencies, are real. Built once per config: copy before changing.
    """
    return _built(text, folder)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """In this thread, new parameters lose their values as soon as a module registers them; buffers keep theirs.

    Building under `torch.device("meta")` would lose the buffers too, and nothing would notice wrong ones.
    """
    from torch import nn

    register, thread = nn.Module.register_parameter, threading.get_ident()

    def register_on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        # One that is there already is registered again where modules share it, and must stay the one.
        if parameter is not None and not parameter.is_meta and threading.get_ident() == thread:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=False)
        register(module, name, parameter)

    nn.Module.register_parameter = register_on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]

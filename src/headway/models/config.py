"""Read config.json: the geometry of a checkpoint's heads, its settings, and a model without weights."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.errors import CheckpointError, UnsupportedModel
from headway.known_scores import DECODER
from headway.models.geometry import Geometry
from headway.models.olmo_files import config_of
from headway.models.stacks import (
    auto_class,
    layers_and_heads,
    layers_without_heads,
    measured_stacks,
    sets_of_weights,
    stacks_of,
)
from headway.suites.selection import deciding

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def read_geometry(folder: str | PathLike[str]) -> Geometry:
    """Return the geometry of the checkpoint in `folder`: of its first stack, if it has several. Only config.json is read.

    Raises:
        CheckpointError: config.json is missing or damaged, or no model can be built from it.
        UnsupportedModel: transformers does not know its architecture as a language model.
    """
    return read_stacks(folder)[0]


def read_stacks(folder: str | PathLike[str]) -> tuple[Geometry, ...]:
    """Return the geometry of each stack of the checkpoint in `folder`; the decoder is the first, if there is one.

    Raises:
        CheckpointError, UnsupportedModel: as `read_geometry`.
    """
    return _geometries(_Config(config_text(folder), str(folder)))


@dataclass(frozen=True)
class _Config:
    """The text of a config.json. Its folder is only named in errors, so that all steps of a run share what is cached."""

    text: str
    folder: str = field(compare=False)


@lru_cache(maxsize=64)
def _geometries(config: _Config) -> tuple[Geometry, ...]:
    return geometries_of(_built(config), config.folder)


def geometries_of(model: PreTrainedModel, folder: str = "the model") -> tuple[Geometry, ...]:
    """Return the geometry of each stack of a language model, the decoder first. `folder` is only named in errors.

    Raises:
        UnsupportedModel: as `geometry_of`.
    """
    first = geometry_of(model, folder)
    return (first, *(_of_stack(model, first, stack) for stack in first.stacks[1:]))


def _of_stack(model: PreTrainedModel, first: Geometry, stack: str) -> Geometry:
    n_layers, n_heads = layers_and_heads(model.config, stack)
    size = first.head_dim * first.n_heads // n_heads  # halves with different numbers of heads are equally wide
    return replace(first, n_layers=n_layers, n_heads=n_heads, n_kv_heads=n_heads, head_dim=size, stack=stack)


def geometry_of(model: PreTrainedModel, folder: str = "the model") -> Geometry:
    """Return the geometry of a language model: of its first stack, if it has several. `folder` is only named in errors.

    Raises:
        UnsupportedModel: the config lacks a setting that every model with attention heads has.
    """
    config = model.config.get_text_config()
    stacks = stacks_of(model.config)
    without_heads = layers_without_heads(config)
    n_layers, n_heads = _number(model, "num_hidden_layers", folder), _number(model, "num_attention_heads", folder)
    if stacks != (DECODER,):
        n_layers, n_heads = layers_and_heads(model.config, stacks[0])
    hidden_size = _number(model, "hidden_size", folder)
    return Geometry(
        architecture=config.model_type,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads if len(stacks) > 1 else _kv_heads(config, n_heads),  # Whisper's config has the encoder's
        head_dim=_head_dim(config, folder) or hidden_size // n_heads,
        hidden_size=hidden_size,
        rotary_dim=_rotary_dim(model),
        n_params=sum(parameter.numel() for parameter in model.parameters()),
        context_length=_context_length(model, folder),
        vocab_size=_number(model, "vocab_size", folder),
        without_heads=without_heads,
        stack=stacks[0],
        stacks=stacks,
        measured=measured_stacks(model.config),
        sets_of_weights=sets_of_weights(model.config),
    )


def _number(model: PreTrainedModel, name: str, folder: str) -> int:
    config = model.config.get_text_config()
    value = getattr(config, name, None)
    if not isinstance(value, int):
        raise UnsupportedModel(
            f"{folder}: the config of architecture {config.model_type!r} has no {name}. headway supports language models "
            "with attention heads"
        )
    return value


def _head_dim(config: Any, folder: str) -> int | None:
    """The config's `head_dim`, if it has one.

    Raises:
        UnsupportedModel: it differs between layers.
    """
    try:
        return getattr(config, "head_dim", None)
    except Exception as error:  # transformers raises it for settings of single layers, from a module that may move
        raise UnsupportedModel(
            f"{folder}: the layers of architecture {config.model_type!r} have heads of different sizes. headway supports "
            "models whose layers all have the same"
        ) from error


def _kv_heads(config: Any, n_heads: int) -> int:
    """Key and value heads, by the names and switches that configs have for them."""
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1
    if config.model_type == "falcon" and not config.new_decoder_architecture:
        return n_heads  # its num_kv_heads counts only in the new architecture
    inner = getattr(config, "attn_config", None)
    names = ("num_key_value_heads", "num_kv_heads")
    found = next((value for name in names if (value := getattr(config, name, None))), None)
    return found or getattr(inner, "kv_n_heads", None) or n_heads


# Positions that are biases of distances need no table, so these configs have no longest text. BLOOM was trained on 2,048
# tokens (BigScience 2022, "BLOOM"), T5 on 512 (Raffel et al. 2020), mT5 on 1,024 (Xue et al. 2021).
_TRAINED_ON = {"bloom": 2048, "t5": 512, "mt5": 1024}


def _context_length(model: PreTrainedModel, folder: str) -> int:
    config = model.config.get_text_config()
    for name in ("max_seq_len", "max_target_positions", "n_positions", "max_decoder_position_embeddings"):
        if isinstance(length := getattr(config, name, None), int):
            return length
    trained_on = _TRAINED_ON.get(config.model_type)
    return trained_on or _number(model, "max_position_embeddings", folder) - _reserved_positions(model)


def _reserved_positions(model: PreTrainedModel) -> int:
    """Rows of the table of positions that no token has: RoBERTa counts positions from the number after its padding's."""
    padding = (
        getattr(module, "padding_idx", None)
        for name, module in model.named_modules()
        if name.endswith("position_embeddings")
    )
    return max((number + 1 for number in padding if number is not None), default=0)


def _rotary_dim(model: PreTrainedModel) -> int:
    """Rotary dimensions of a head: two for each frequency."""
    sizes = [buffer.numel() for name, buffer in model.named_buffers() if name.endswith("inv_freq")]
    return 2 * max(sizes, default=0)


def settings_of(model: PreTrainedModel) -> dict[str, Any]:
    """Settings of the model's config that affect its numbers, as JSON, including defaults that config.json omits."""
    config = model.config.get_text_config()
    return deciding(json.loads(config.to_json_string(False)))


def config_text(folder: str | PathLike[str]) -> str:
    """Return the content of the folder's config.json, as transformers would write it.

    Raises:
        CheckpointError: the file is missing or cannot be read.
        UnsupportedModel: it is of the format of OLMo's own library, and transformers has no such model.
    """
    path = Path(folder) / "config.json"
    try:
        return config_of(path.read_text(encoding="utf-8"), str(folder))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: the folder of a checkpoint must hold a config.json") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def read_config(text: str, folder: str) -> PreTrainedConfig:
    """Parse `text`, the config.json of `folder`. Code that comes with the checkpoint is never run.

    Raises:
        CheckpointError: the text is not JSON, or its architecture rejects a value.
        UnsupportedModel: transformers does not know the architecture, or the weights are quantized.
    """
    from transformers import CONFIG_MAPPING

    values = _json_object(text, folder)
    _require_buildable(values, folder)
    model_type = str(values.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        raise UnsupportedModel(
            f"{folder}/config.json has model_type {model_type!r}, which the installed transformers does not know. "
            "Try a newer transformers. headway never runs code that comes with a checkpoint"
        )
    try:
        return CONFIG_MAPPING[model_type].from_dict(_with_infinities(values))
    except Exception as error:  # each architecture validates its config in its own way
        raise CheckpointError(f"architecture {model_type!r} rejects {folder}/config.json: {error}") from error


def _with_infinities(value: Any) -> Any:
    """Values of a config in which transformers wrote an infinity as {"__float__": "Infinity"}."""
    if isinstance(value, dict):
        tagged = value.get("__float__") if len(value) == 1 else None
        return (
            float(tagged) if isinstance(tagged, str) else {name: _with_infinities(own) for name, own in value.items()}
        )
    return [_with_infinities(own) for own in value] if isinstance(value, list) else value


def _json_object(text: str, folder: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{folder}/config.json is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{folder}/config.json is a JSON {type(values).__name__} instead of an object")
    return values


# More layers, experts or blocks than any model has. transformers builds them one by one, so a damaged number would hang.
_MOST_MODULES = 10_000
_COUNTED = re.compile(r"layers?|experts|blocks", re.IGNORECASE)


def _require_buildable(values: Mapping[str, Any], folder: str) -> None:
    """Check the config's values before a model is built from them.

    Raises:
        CheckpointError: a number of modules is above `_MOST_MODULES`.
        UnsupportedModel: the weights are quantized.
    """
    for name, value in values.items():
        if isinstance(value, dict) and name.endswith("_config"):
            _require_buildable(value, folder)
        if isinstance(value, int) and value > _MOST_MODULES and _COUNTED.search(name):
            raise CheckpointError(
                f"{folder}/config.json has {name} {value:,}. The file seems damaged: no model has over {_MOST_MODULES:,}"
            )
    if quantized := values.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        raise UnsupportedModel(
            f"{folder}/config.json says that the weights are quantized ({method}), which headway does not support. "
            "Use a checkpoint that is not quantized"
        )


_building = threading.Lock()


@lru_cache(maxsize=16)
def _built(asked: _Config) -> PreTrainedModel:
    config, folder = read_config(asked.text, asked.folder), asked.folder
    try:
        auto = auto_class(config)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{folder}: {error}") from error
    try:
        with _building, _parameters_on_meta():
            model: PreTrainedModel = auto.from_config(config, trust_remote_code=False)
            model.eval()
            return model
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise CheckpointError(f"no model can be built from {folder}/config.json: {error}") from error
        raise UnsupportedModel(
            f"{folder}: architecture {config.model_type!r} is not a language model of transformers"
        ) from error
    except Exception as error:  # impossible sizes fail with any exception, anywhere in the architecture's code
        raise CheckpointError(f"no model can be built from {folder}/config.json: {error}") from error


def skeleton(text: str, folder: str) -> PreTrainedModel:
    """Build the language model of a config.json with its parameters on the meta device, where they use no memory.

    Buffers that no file stores, such as rotary frequencies, have their values. The model is cached by config: copy it
    before changing it. `folder` is only named in errors.
    """
    return _built(_Config(text, folder))


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Put new parameters of this thread on the meta device when a module registers them. Buffers keep their values.

    Building under `torch.device("meta")` would also lose the values of the buffers, and wrong ones would go unnoticed.
    """
    from torch import nn

    register, thread = nn.Module.register_parameter, threading.get_ident()

    def register_on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        # A module that shares a parameter registers it again. It must stay the same object, or it is no longer shared.
        if parameter is not None and not parameter.is_meta and threading.get_ident() == thread:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=False)
        register(module, name, parameter)

    nn.Module.register_parameter = register_on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]

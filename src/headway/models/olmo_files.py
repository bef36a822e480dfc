"""Read checkpoints in the format of OLMo's own library, `hf_olmo`, as what transformers has: as Llama or as OLMo.

The first OLMo and DataDecide were published so. Settings, their defaults and the names of tensors are those of ai2-olmo
0.6.0 (`olmo/config.py`, `olmo/model.py`). Its models are Llama's with an RMS norm, and transformers' OLMo with a layer norm
that has no weights. They differ in the names of files' tensors, and fuse queries, keys and values, and both halves of SwiGLU.

Shapes: d width, h heads, g key and value heads, m neurons.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.errors import UnsupportedModel

if TYPE_CHECKING:
    from torch import Tensor

MODEL_TYPE = "hf_olmo"

# What a config.json that lacks a setting means, for those whose value matters here.
_DEFAULTS: dict[str, Any] = {
    "activation_type": "swiglu",
    "alibi": False,
    "attention_layer_norm": False,
    "bias_for_layer_norm": None,
    "block_group_size": 1,
    "clip_qkv": None,
    "embedding_layer_norm": False,
    "embedding_size": None,
    "eos_token_id": None,
    "include_bias": True,
    "init_std": 0.02,
    "layer_norm_eps": 1e-5,
    "layer_norm_type": "default",
    "layer_norm_with_affine": True,
    "max_sequence_length": 1024,
    "mlp_hidden_size": None,
    "mlp_ratio": 4,
    "multi_query_attention": None,
    "n_kv_heads": None,
    "norm_after": False,
    "pad_token_id": None,
    "rope": False,
    "rope_theta": 10_000,
    "scale_logits": False,
    "weight_tying": True,
}
# Settings with another value make a model that transformers has none for.
_ALWAYS = {
    "activation_type": "swiglu",
    "alibi": False,
    "attention_layer_norm": False,
    "block_group_size": 1,
    "embedding_layer_norm": False,
    "include_bias": False,
    "norm_after": False,
    "rope": True,
    "scale_logits": False,
}
_SIZES = ("d_model", "n_heads", "n_layers", "vocab_size")
_EPSILON = 1e-5  # of the layer norms of transformers' OLMo, which has no setting for it

_WHOLE = {"wte": "model.embed_tokens", "ln_f": "model.norm", "ff_out": "lm_head"}
_OF_LAYER = {
    "attn_norm": "input_layernorm",
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ff_norm": "post_attention_layernorm",
    "ff_out": "mlp.down_proj",
}
_NAME = re.compile(r"(?:model\.)?transformer\.(?:blocks\.(?P<layer>\d+)\.)?(?P<part>\w+)\.weight")


def config_of(text: str, folder: str) -> str:
    """The text of a config.json, which for `hf_olmo` becomes that of a Llama or an OLMo.

    Raises:
        UnsupportedModel: transformers has no such model; the message names the settings.
    """
    stated = _stated(text)
    if stated is None:
        return text
    values = _DEFAULTS | stated
    if lacking := [name for name in _SIZES if not isinstance(values.get(name), int)]:
        raise UnsupportedModel(f"{folder}/config.json of the format {MODEL_TYPE} lacks the number {', '.join(lacking)}")
    differing = [f"{name} {values[name]!r}" for name, usual in _ALWAYS.items() if values[name] != usual]
    family, of_norm = _family(values)
    if differing or not family:
        differing += [] if family else [of_norm]
        raise UnsupportedModel(
            f"{folder}/config.json has {', '.join(differing)}: the format {MODEL_TYPE} is read where its model is a Llama "
            "or an OLMo of transformers, which have no such setting"
        )
    heads, inner = _kv_heads(values), _neurons(values)
    known = {
        "architectures": [f"{family.capitalize()}ForCausalLM"],
        "model_type": family,
        "vocab_size": values["embedding_size"] or values["vocab_size"],
        "hidden_size": values["d_model"],
        "intermediate_size": inner,
        "num_hidden_layers": values["n_layers"],
        "num_attention_heads": values["n_heads"],
        "num_key_value_heads": heads,
        "max_position_embeddings": values["max_sequence_length"],
        "rope_parameters": {"rope_type": "default", "rope_theta": float(values["rope_theta"])},
        "hidden_act": "silu",
        "attention_bias": False,
        "initializer_range": values["init_std"],
        "tie_word_embeddings": values["weight_tying"],
        "bos_token_id": None,
        "eos_token_id": values["eos_token_id"],
        "pad_token_id": values["pad_token_id"],
    }
    own = {"rms_norm_eps": values["layer_norm_eps"]} if family == "llama" else {"clip_qkv": values["clip_qkv"]}
    return json.dumps(known | own)


def tensors_of(
    folder: str | PathLike[str], tensors: Mapping[str, Callable[[], Tensor]]
) -> dict[str, Callable[[], Tensor]]:
    """The tensors of a folder by the names of the model in `config_of`; those of other formats are left as they are.

    A fused tensor becomes its parts, which are read on access.
    """
    try:
        stated = _stated((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        stated = None
    if stated is None:
        return dict(tensors)
    values = _DEFAULTS | stated
    found: dict[str, Callable[[], Tensor]] = {}
    for name, read in tensors.items():
        for own, start, stop in _parts(name, values):
            found[own] = read if (start, stop) == (0, None) else partial(_rows, read, start, stop)
    return found


def _stated(text: str) -> dict[str, Any] | None:
    """The settings of a config.json of this format; None for others."""
    try:
        values = json.loads(text)
    except ValueError:
        return None
    return values if isinstance(values, dict) and values.get("model_type") == MODEL_TYPE else None


def _family(values: Mapping[str, Any]) -> tuple[str, str]:
    """`llama` or `olmo`; or an empty text, and the settings of norms that neither has."""
    kind, weights, bias = (
        values[name] for name in ("layer_norm_type", "layer_norm_with_affine", "bias_for_layer_norm")
    )
    if kind == "rms" and weights and not bias and values["clip_qkv"] is None:
        return "llama", ""
    if kind in ("default", "low_precision") and not weights and values["layer_norm_eps"] == _EPSILON:
        return "olmo", ""
    names = ("layer_norm_type", "layer_norm_with_affine", "layer_norm_eps", "bias_for_layer_norm", "clip_qkv")
    return "", ", ".join(f"{name} {values[name]!r}" for name in names)


def _kv_heads(values: Mapping[str, Any]) -> int:
    heads: int = values["n_kv_heads"] or (1 if values["multi_query_attention"] else values["n_heads"])
    return heads


def _neurons(values: Mapping[str, Any]) -> int:
    """m. The setting counts both halves of SwiGLU."""
    both: int = values["mlp_hidden_size"] or values["mlp_ratio"] * values["d_model"]
    return both // 2


def _parts(name: str, values: Mapping[str, Any]) -> list[tuple[str, int, int | None]]:
    """The parts of a stored tensor: their names and rows. The last part has all rows that are left, so that none is lost."""
    found = _NAME.fullmatch(name)
    if found is None:
        return [(name, 0, None)]
    layer, part = found["layer"], found["part"]
    if layer is None:
        return [(f"{_WHOLE[part]}.weight", 0, None)] if part in _WHOLE else [(name, 0, None)]
    if part == "att_proj":
        width = values["d_model"]
        keys = width + _kv_heads(values) * (width // values["n_heads"])
        rows = {"self_attn.q_proj": (0, width), "self_attn.k_proj": (width, keys), "self_attn.v_proj": (keys, None)}
    elif part == "ff_proj":
        rows = {"mlp.up_proj": (0, _neurons(values)), "mlp.gate_proj": (_neurons(values), None)}
    elif part in _OF_LAYER:
        rows = {_OF_LAYER[part]: (0, None)}
    else:
        return [(name, 0, None)]
    return [(f"model.layers.{layer}.{own}.weight", start, stop) for own, (start, stop) in rows.items()]


def _rows(read: Callable[[], Tensor], start: int, stop: int | None) -> Tensor:
    return read()[start:stop]

"""A tiny random model of every causal language model that the installed transformers has.

`tiny` gives a config with 4 layers of 6 heads. Sizes that do not matter for attention are as small as they can be. Names
that only one architecture uses stand in `SPECIAL`.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from headway.attention import head_scores
from headway.attention.attention import Attention
from headway.attention.reading import reading
from headway.errors import HeadwayError
from headway.interventions import Ablate, Permute
from headway.models import ARCHITECTURES, HeadWeights, architecture_for, geometry_of
from headway.models.anatomy import anatomy
from headway.models.stacks import layers_without_heads

EVERY = tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
VOCAB, LAYERS, HEADS, KV_HEADS, HEAD_DIM, HIDDEN, WINDOW = 67, 2, 6, 3, 8, 48, 7

# By the names that transformers' configs use for the same number.
_SIZES: dict[str, Any] = {
    **dict.fromkeys(("vocab_size",), VOCAB),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size"), HIDDEN),
    **dict.fromkeys(
        (
            "num_hidden_layers",
            "n_layer",
            "n_layers",
            "num_layers",
            "decoder_layers",
            "encoder_layers",
            "num_decoder_layers",
            "num_encoder_layers",
        ),
        LAYERS,
    ),
    **dict.fromkeys(
        (
            "num_attention_heads",
            "n_head",
            "n_heads",
            "num_heads",
            "decoder_attention_heads",
            "encoder_attention_heads",
            "num_decoder_attention_heads",
            "num_encoder_attention_heads",
        ),
        HEADS,
    ),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), KV_HEADS),
    **dict.fromkeys(("head_dim", "d_kv", "dim_head", "kv_channels", "attention_head_dim", "v_head_dim"), HEAD_DIM),
    **dict.fromkeys(
        (
            "intermediate_size",
            "ffn_dim",
            "n_inner",
            "d_ff",
            "dim_ff",
            "decoder_ffn_dim",
            "encoder_ffn_dim",
            "moe_intermediate_size",
            "shared_expert_intermediate_size",
            "ffn_hidden_size",
            "d_inner",
            "shared_intermediate_size",
            "expert_ffn_hidden_size",
            "intermediate_size_mlp",
            "moe_shared_expert_intermediate_size",
        ),
        32,
    ),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 128),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "n_group", "topk_group"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 20),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim"), HEAD_DIM),
    **dict.fromkeys(("sliding_window", "window_size", "attention_window_size", "sliding_window_size"), WINDOW),
    "first_k_dense_replace": 1,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "decoder_start_token_id": 1,
    "image_token_id": 3,
    "unpadded_vocab_size": VOCAB,
    "word_embed_proj_dim": HIDDEN,
    "rotary_dim": 4,
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "vocab_size_per_layer_input": VOCAB,
    "hidden_size_per_layer_input": 8,
    "is_decoder": True,
    "index_n_heads": 2,
    "index_head_dim": 16,
    "mamba_d_head": 16,
    "mamba_n_heads": 6,
    "mamba_n_groups": 1,
}

_LATENT = {"num_key_value_heads": HEADS}
_TEXT = {"vocab_size": VOCAB, "hidden_size": HIDDEN}
SPECIAL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        (
            "axk1",
            "axk2",
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "glm4_moe_lite",
            "glm_moe_dsa",
            "longcat_flash",
            "minicpm3",
            "sarvam_mla",
            "youtu",
            "dots3_note_text",
            "dots3_note",
        ),
        _LATENT,
    ),
    "big_bird": {"attention_type": "original_full"},
    "diffllama": {"num_attention_heads": 8, "num_key_value_heads": 4, "hidden_size": 64},
    "falcon_h1": {"mamba_d_ssm": 96},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "mamba2": {"num_heads": 12},
    "olmo_hybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "zaya": {"num_experts_per_tok": 1},
    "zamba": {"layer_types": ["mamba", "hybrid"]},
    "codegen": {"n_head": 8, "n_embd": 64},
    "whisper": {"max_target_positions": 128},
    "xlm": {"causal": True},
    **{
        key: {"layer_types": ["linear_attention", "full_attention"]}
        for key in ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "qwen4_exp_text")
    },
    **{key: {"layer_types": ["linear_attention", "full_attention"]} for key in ("granitemoehybrid", "zamba2")},
    **{
        key: _LATENT | {"layer_types": ["linear_attention", "full_attention"]}
        for key in ("kimi_linear", "bailing_hybrid")
    },
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "lfm3": {"layer_types": ["conv", "full_attention"]},
    **{key: {"layer_types": ["conv", "full_attention"]} for key in ("lfm2", "lfm2_moe")},
    "rembert": {"input_embedding_size": HIDDEN, "output_embedding_size": HIDDEN},
    "roc_bert": {
        "pronunciation_vocab_size": 11,
        "shape_vocab_size": 11,
        "pronunciation_embed_dim": 8,
        "shape_embed_dim": 8,
    },
    "xglm": {"attention_heads": HEADS},
    "xmod": {"default_language": "en_XX"},
    "bamba": {"attn_layer_indices": [1]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
}
# Their eager attention hands out weights before the sinks take their share, which the output has after it.
BEFORE_SINKS = ("granite_swa", "granitemoe_swa")
# Larger models are not tried: their other parts, such as an image encoder, have no small sizes here.
MOST_PARAMETERS = 5_000_000


def tiny(model_type: str, **changes: Any) -> PreTrainedConfig:
    """A config of the architecture with small sizes. `changes` are settings of its text model."""
    cls = CONFIG_MAPPING[model_type]
    values = sizes(cls) | SPECIAL.get(model_type, {})
    for name, sub in cls.sub_configs.items():
        if (
            name == "text_config"
            and inspect.isclass(sub)
            and sub is not PreTrainedConfig
            and hasattr(sub, "model_type")
        ):
            inner = sizes(sub) | SPECIAL.get(sub.model_type, {}) | changes
            values[name] = inner
            return cls(**values)
    return cls(**values | changes)


def sizes(cls: type[PreTrainedConfig]) -> dict[str, Any]:
    """The small sizes, by the names that the config class has."""
    if dataclasses.is_dataclass(cls):
        names = {field.name for field in dataclasses.fields(cls)}
    else:
        names = set(inspect.signature(cls.__init__).parameters)
    return {name: value for name, value in _SIZES.items() if name in names}


def random_model(config: PreTrainedConfig, seed: int = 0) -> PreTrainedModel:
    """A model of `config` whose attention is neither flat nor one-hot, in evaluation mode, eager."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


# --- what headway can do with each ----------------------------------------------------------------------------------

TOLERANCE = 1e-5  # what is promised; found: 2e-6


@dataclasses.dataclass(frozen=True)
class Row:
    """What headway can do with an architecture. An empty reason means that it can.

    Attributes:
        difference: the largest one of an attention weight from transformers' eager attention.
        tried: whether a tiny model could be made.
    """

    architecture: str
    difference: float | None = None
    measure: str = ""
    cluster: str = ""
    intervene: str = ""
    tried: bool = True


def examine(architecture: str, folder: Path) -> Row:
    """Measure, cluster and intervene on a tiny model of an architecture. Refusals are reasons; other errors are raised."""
    try:
        config = tiny(architecture)
        with torch.device("meta"):
            size = sum(one.numel() for one in AutoModelForCausalLM.from_config(config).parameters())
    except Exception as error:  # each config has its own rules
        return _untried(architecture, f"no small config is known here: {type(error).__name__}")
    if size > MOST_PARAMETERS:
        return _untried(architecture, "its other parts, such as an image encoder, have no small sizes here")
    model = random_model(config)
    row = {"architecture": architecture}
    found: dict[str, Any] = {}
    for name, does in (("measure", measured), ("cluster", clustered), ("intervene", intervened)):
        try:
            found[name] = does(model, folder)
            row[name] = ""
        except HeadwayError as error:
            row[name] = short(str(error).replace(str(folder), "the model"))
    return Row(**row, difference=found.get("measure"))


def _untried(architecture: str, why: str) -> Row:
    return Row(architecture, None, why, why, why, tried=False)


def short(message: str) -> str:
    """A refusal's reason in one line, without what to do and without what stands in every row."""
    said = " ".join(message.partition(". ")[0].replace("|", "/").split())
    return re.sub(r"^headway cannot tell which weights .*? belong to which head: |^the model: ", "", said)


def eager(model: PreTrainedModel, ids: np.ndarray) -> list[torch.Tensor]:
    """The attention (N, T, T) of transformers' eager implementation in each layer."""
    with torch.inference_mode():
        found = model(input_ids=torch.tensor(ids)[None], output_attentions=True, use_cache=False)
    matrices = [one[0] for one in getattr(found, "attentions", None) or () if one is not None]
    if model.config.model_type in BEFORE_SINKS:
        matrices = [one * share for one, share in zip(matrices, sink_shares(model, ids), strict=True)]
    return matrices


def sink_shares(model: PreTrainedModel, ids: np.ndarray) -> list[torch.Tensor]:
    """The share (N, T, 1) of each row that the sinks of granite's models leave, from queries and keys seen by a spy."""
    module = sys.modules[type(model).__module__]
    plain, shares = module.eager_attention_forward, []

    def spy(layer, query, key, value, attention_mask, scaling, **others):
        logits = query @ module.repeat_kv(key, layer.num_key_value_groups).transpose(2, 3) * scaling
        logits = logits if attention_mask is None else logits + attention_mask
        sinks = layer.sinks.view(1, -1, 1, 1).expand(*logits.shape[:3], 1)
        shares.append(1 - torch.cat([logits, sinks], -1).softmax(-1)[0, ..., -1:])
        return plain(layer, query, key, value, attention_mask, scaling, **others)

    module.eager_attention_forward = spy
    try:
        with torch.inference_mode():
            model(input_ids=torch.tensor(ids)[None], use_cache=False)
    finally:
        module.eager_attention_forward = plain
    return shares


def measured(model: PreTrainedModel, folder: Path) -> float:
    """The largest difference of scores and of attention weights from eager attention."""
    geometry_of(model)
    ids = np.random.default_rng(0).integers(4, 60, 19)
    scores = head_scores(model, [ids], ["prev", "self", "first"])
    seen: dict[int, torch.Tensor] = {}

    def read(layer: int, attention: Attention) -> None:
        seen[layer] = torch.stack([attention.matrix_of(head)[0] for head in range(attention.mass.shape[1])])

    with torch.inference_mode(), reading(model, read):
        model.base_model(input_ids=torch.tensor(ids)[None], use_cache=False)
    expected = eager(model, ids)
    if layers_without_heads(model.config.get_text_config()) and len(expected) > len(seen):
        expected = [expected[layer] for layer in sorted(seen)]  # linear attention hands out something else
    assert len(seen) == len(expected), "eager attention hands out another number of layers"
    differences = [0.0]
    for layer, matrix in zip(sorted(seen), expected, strict=True):  # hybrids have layers without attention
        differences.append(float((seen[layer] - matrix).abs().max()))
        by_hand = {
            "prev": matrix.diagonal(-1, 1, 2).mean(-1),
            "self": matrix.diagonal(0, 1, 2).mean(-1),
            "first": matrix[..., 0].mean(-1),
        }
        differences += [float(np.abs(scores[name][0, layer] - value.numpy()).max()) for name, value in by_hand.items()]
    return max(differences)


def clustered(model: PreTrainedModel, folder: Path) -> None:
    """Check the weights of heads in the saved model: what a head computes must follow from them alone.

    Without the values of `v` a head writes nothing, as if it were ablated; so it does without its rows of `o`. Without
    queries or without keys its logits are the same. Weights are found in the model by their values, which are all
    different, so nothing here knows how they are stored. Biases are zero, and norms within attention are left out.
    """
    model = copy.deepcopy(model)
    architecture, layer = architecture_for(model), geometry_of(model).layers[-1]
    of_layer = model.get_submodule(architecture.layer.format(layer=layer))
    attention = of_layer.get_submodule(architecture.attention)
    all_different(attention)
    model.save_pretrained(folder)
    weights = HeadWeights(folder)
    geometry = weights.geometry
    for module in attention.modules():
        if "norm" in type(module).__name__.lower():
            module.register_forward_hook(lambda module, args, output: args[0])
    heads = list(range(geometry.n_heads // geometry.n_kv_heads))  # those that share the first key

    def without(kind: str, which: list[int]) -> torch.Tensor:
        with zeroed(attention, torch.from_numpy(weights.get(kind, layer)[which])):
            return logits(model)

    plain = logits(model)
    with silent(of_layer.get_submodule(architecture.output_projection), len(heads) * geometry.head_dim):
        ablated = logits(model)
    no_query, no_key = without("q", heads), without("k", [0])
    effect, of_key = apart(plain, ablated), apart(plain, no_key)
    # Rounding of logits of about 10 in float32 is near 1e-5. Weights of another head differ by the whole effect.
    assert effect > 2e-4
    assert of_key > 2e-4
    assert apart(without("o", heads), ablated) < 0.1 * effect
    assert apart(without("v", [0]), ablated) < 0.1 * effect
    assert apart(no_query, no_key) < 0.1 * of_key


@contextmanager
def silent(projection: torch.nn.Module, width: int) -> Iterator[None]:
    """Let the first `width` inputs of an output projection be 0: those of the first heads."""

    def zero(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (torch.cat([torch.zeros_like(args[0][..., :width]), args[0][..., width:]], -1), *args[1:])

    handle = projection.register_forward_pre_hook(zero)
    try:
        yield
    finally:
        handle.remove()


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def all_different(attention: torch.nn.Module) -> None:
    """Give each weight of the attention its own value between -0.5 and 0.5, and set biases to 0."""
    parameters = dict(attention.named_parameters())
    count = sum(one.numel() for one in parameters.values())
    values = (torch.randperm(count, generator=torch.Generator().manual_seed(2)) + 0.5) / count - 0.5
    for name, parameter in parameters.items():
        own, values = values[: parameter.numel()], values[parameter.numel() :]
        parameter.data = torch.zeros_like(parameter) if name.endswith("bias") else own.view(parameter.shape).clone()


@contextmanager
def zeroed(attention: torch.nn.Module, values: torch.Tensor) -> Iterator[None]:
    """Set the parameters that have one of these values to 0."""
    before = {parameter: parameter.data for parameter in attention.parameters()}
    count = 0
    for parameter in before:
        where = torch.isin(parameter.data, values.flatten())
        count += int(where.sum())
        parameter.data = parameter.data.masked_fill(where, 0.0)
    assert count == values.numel()
    try:
        yield
    finally:
        for parameter, data in before.items():
            parameter.data = data


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(5, 16)[None], use_cache=False).logits


def intervened(model: PreTrainedModel, folder: Path) -> None:
    """Check that a head that is ablated, or replaced by what it computes anyway, changes the logits or does not."""
    body = anatomy(model)
    plain = logits(model)
    first, *_, last = [*body.projections] * 2
    with Ablate([(last, body.n_heads - 1)]).on(model):
        assert not torch.equal(logits(model), plain)
    with Permute({first: list(range(body.n_heads))}).on(model):
        torch.testing.assert_close(logits(model), plain, atol=0, rtol=0)
    torch.testing.assert_close(logits(model), plain, atol=0, rtol=0)


# --- the page -------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parent.parent / "docs" / "architectures.md"
_COLUMNS = ("measure", "cluster", "intervene")
_HEAD = """\
# Architectures

What headway can do with a checkpoint depends on its architecture, `model_type` in its config.json. This page lists every
causal language model of transformers {version}. Each row was found by a test, on a small model of random weights.

- **measure**: scores of attention. The last column is the largest difference of an attention weight, or of a score of one
  text, from the model's own eager attention. The test allows {tolerance:.0e}.
- **cluster**: weights of heads, read from the files. The test sets one head's weights to 0 in the model, wherever they are
  stored, and compares the logits with those of the model whose head is ablated.
- **intervene**: ablations, replacements and patches of heads' outputs. Scores that need the norms of a model, such as
  `copying`, exist for fewer architectures:
  {known}.

Of {count} architectures, {measure} can be measured, {cluster} clustered and {intervene} intervened on. Encoders with a
decoder's head, such as `bert`, were tried as decoders (`is_decoder`) here. As what they are they stand [below](#encoders-and-encoder-decoders).

headway finds the weights of an architecture without an entry from the names and shapes of its modules, and tries them on the
model's first layer with heads before it uses them. Of hybrids it takes the layers that have heads. Models that compute attention in their own code, such as `bloom` and `falcon`, run
their eager attention. They are slower, and headway says so.

The format `hf_olmo` of OLMo's own library, in which the first OLMo and DataDecide were published, is read as `llama` or
`olmo`. Its logits were compared with those of ai2-olmo 0.6.0. Settings that neither architecture has are refused.

To make this page again: `python tests/support_architectures.py --write`.

| architecture | measure | cluster | intervene | difference |
|---|---|---|---|---|
"""


def page(rows: list[Row]) -> str:
    """The text of docs/architectures.md."""
    counts = {name: sum(not getattr(row, name) for row in rows) for name in _COLUMNS}
    text = _HEAD.format(
        version=transformers.__version__, tolerance=TOLERANCE, known=_with_norms(), count=len(rows), **counts
    )
    for row in rows:
        answers = ("no" if getattr(row, name) else "yes" for name in _COLUMNS)
        difference = "" if row.difference is None else f"{row.difference:.0e}"
        text += f"| {row.architecture} | {' | '.join(answers)} | {difference} |\n"
    text += "\n## Why not\n\n"
    for row in rows:
        reasons: dict[str, list[str]] = {}
        for name in _COLUMNS:
            if reason := getattr(row, name):
                reasons.setdefault(reason, []).append(name)
        if not row.tried:
            text += f"- **{row.architecture}**, not tried: {row.measure}.\n"
        elif reasons:
            text += f"- **{row.architecture}**: "
            text += "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items()) + ".\n"
    return text


def _with_norms() -> str:
    known = sorted(name for one in ARCHITECTURES if one.final_norm for name in one.model_types)
    return "\n  ".join(textwrap.wrap(", ".join(known), 110))


def rows_of(text: str) -> dict[str, tuple[str, ...]]:
    """The answers of each architecture on the page."""
    decoders = text.partition("## Encoders")[0]
    lines = (line.strip("| \n").split(" | ") for line in decoders.splitlines() if line.startswith("| "))
    return {cells[0]: tuple(cells[1:4]) for cells in lines if cells[0] != "architecture"}


def examined(architecture: str) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        return examine(architecture, Path(folder))


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    from support_stacks import stacks_page  # which imports this module

    made = page([examined(architecture) for architecture in EVERY]) + stacks_page()
    print(made if "--write" not in sys.argv else f"{PAGE}: {PAGE.write_text(made, encoding='utf-8')} characters")

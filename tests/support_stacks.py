"""Small suites of models with an encoder: BERT and T5, with a tokenizer that puts special tokens around a text."""

from __future__ import annotations

import copy
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedConfig, PreTrainedModel, WhisperFeatureExtractor
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from headway.attention.scores import DEFINITIONS
from headway.attention.stacks import stack_scores
from headway.errors import HeadwayError, UnsupportedModel
from headway.known_scores import CROSS, DECODER, ENCODER
from headway.models import HeadWeights, architecture_for
from headway.models.config import geometries_of
from headway.models.stacks import UNMEASURED, auto_class, sets_of_weights, stacks_of
from headway.models.stacks import measured_stacks as measured_by_config
from support_architectures import all_different, apart, short, tiny, zeroed

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
WORDS = tuple(f"w{number}" for number in range(60))
# What real checkpoints state and `tiny` leaves out, and sizes that differ between the halves of a model.
SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {"decoder_start_token_id": 0, "n_positions": 128} for name in ("longt5", "switch_transformers", "umt5")},
    # As in real checkpoints: positions by content. Windows are shorter than the tests' texts.
    "deberta": {"relative_attention": True, "max_relative_positions": 16, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 8,
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "conv_kernel_size": 3,
    },
    "longformer": {"attention_window": 8, "pad_token_id": 1, "max_position_embeddings": 130},
    "led": {
        "attention_window": 8,
        "decoder_start_token_id": 2,
        "max_encoder_position_embeddings": 128,
        "max_decoder_position_embeddings": 128,
        "decoder_layers": 3,
    },
    "plbart": {"decoder_start_token_id": 2},
    "mobilebert": {"intra_bottleneck_size": 48},
    "t5": {"decoder_start_token_id": 0, "num_layers": 2, "num_decoder_layers": 3},
    "whisper": {"num_mel_bins": 8, "max_source_positions": 50, "decoder_layers": 3, "decoder_attention_heads": 4},
    "bart": {"decoder_start_token_id": 2, "decoder_layers": 3, "decoder_attention_heads": 4},
}
# Their other parts, such as an encoder of images or audio, have no small sizes here, or take long to build.
OF_IMAGES = {
    *("modernvbert", "ultravbert", "moss_transcribe_diarize", "perceiver", "t5gemma", "t5gemma2", "fsmt", "luke"),
    *("audioflamingo3", "glmasr", "granite_speech", "granite_speech_plus", "musicflamingo", "nemo_speechlm", "omniasr"),
    *("qwen2_audio", "qwen3_asr", "vibevoice_asr", "voxtral", "voxtral_realtime", "seamless_m4t", "seamless_m4t_v2"),
}


def with_settings(architecture: str, **changes: Any) -> PreTrainedConfig:
    """A small config of a model that is no decoder alone."""
    config = tiny(architecture, **SETTINGS.get(architecture, {}) | changes)
    config.is_decoder = False
    if hasattr(config, "causal"):
        config.causal = False
    return config


def stacked_model(architecture: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model with an encoder, in evaluation mode, eager. Its attention is neither flat nor one-hot."""
    config = with_settings(architecture, **changes)
    torch.manual_seed(seed)
    model: PreTrainedModel = auto_class(config).from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def tokenizer_with_ends() -> Tokenizer:
    """[CLS] before each text, [SEP] after it."""
    vocab = {word: at for at, word in enumerate((*SPECIAL, *WORDS))}
    found = Tokenizer(models.WordLevel(vocab, unk_token="w0"))
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    found.add_special_tokens(list(SPECIAL))
    ends = [(name, vocab[name]) for name in ("[CLS]", "[SEP]")]
    found.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return found


def stacked_suite(place: Path, architecture: str, steps: int = 3, seeds: int = 2) -> tuple[Path, Path]:
    """`place`/suite: runs of random models that move a little with each step; `place`/texts.txt: what they read."""
    for seed in range(1, seeds + 1):
        run = place / "suite" / f"toy-1m-seed{seed}"
        first, last = (stacked_model(architecture, seed=10 * seed + end) for end in (0, 1))
        for step in range(steps):
            share = step / max(1, steps - 1)
            mixed = stacked_model(architecture)
            with torch.no_grad():
                for own, a, b in zip(mixed.parameters(), first.parameters(), last.parameters(), strict=True):
                    own.copy_((1 - share) * a + share * b)
            mixed.save_pretrained(run / f"step{100 * step}")
        tokenizer_with_ends().save(str(run / "tokenizer.json"))
    texts = random.Random(1)
    lines = (" ".join(texts.choices(WORDS, k=texts.randint(4, 30))) for _ in range(20))
    (place / "texts.txt").write_text("\n".join(lines))
    return place / "suite", place / "texts.txt"


# --- what headway can do with each ----------------------------------------------------------------------------------

EVERY = tuple(
    sorted({*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, "whisper"} - OF_IMAGES)
)


@dataclass(frozen=True)
class StackRow:
    """What headway can do with an architecture that has an encoder. An empty reason means that it can.

    Attributes:
        stacks: those that the architecture has.
        difference: the largest one of a score from transformers' eager attention.
        left_out: stacks whose heads are not measured, with the reasons, or what else is to be known of its heads.
    """

    architecture: str
    stacks: tuple[str, ...] = ()
    difference: float | None = None
    measure: str = ""
    cluster: str = ""
    left_out: str = ""
    tried: bool = True


def examine_stacks(architecture: str, folder: Path) -> StackRow:
    """Measure and cluster a tiny model of an architecture. Refusals are reasons; other errors are raised."""
    row: dict[str, Any] = {"architecture": architecture}
    try:
        row["stacks"] = stacks_of(with_settings(architecture))
        with torch.device("meta"):
            config = with_settings(architecture)
            auto_class(config).from_config(config)
    except UnsupportedModel as error:
        return StackRow(**row, **dict.fromkeys(("measure", "cluster"), short(str(error))))
    except Exception as error:  # each config has its own rules
        why = f"no small config is known here: {type(error).__name__}"
        return StackRow(**row, measure=why, cluster=why, tried=False)
    model = stacked_model(architecture)
    told = [
        f"the {stack} is left out, because {UNMEASURED[stack]}"
        for stack in row["stacks"]
        if stack not in measured_by_config(model.config)
    ]
    if sets_of_weights(model.config):
        told.append(
            "its layers share weights, so that the heads of a layer differ from those of others only in what they read"
        )
    row["left_out"] = "; ".join(told)
    for name, does in (("measure", measured_stacks), ("cluster", clustered_stacks)):
        try:
            found = does(model, folder)
            row |= {"difference": found} if name == "measure" else {}
        except HeadwayError as error:
            row[name] = short(str(error).replace(str(folder), "the model"))
    return StackRow(**row)


def eager_stacks(model: PreTrainedModel, ids: np.ndarray) -> dict[str, np.ndarray]:
    """The attention (layers, heads, T, S) of transformers' eager implementation in each stack."""
    model.set_attn_implementation("eager")
    text = torch.tensor(np.asarray(ids))[None]
    inputs: dict[str, Any] = {"output_attentions": True} | read_by_encoder(model, text)
    with torch.inference_mode():
        if not model.config.is_encoder_decoder:
            found = _numbers(model(**inputs).attentions)
            return {ENCODER: _whole(found) if model.config.model_type == "longformer" else found}
        start = torch.tensor([[model.config.decoder_start_token_id]])
        if model.config.model_type == "whisper":
            after = text[:, 1:] if text[0, 0] == start[0, 0] else text
            found = model(**inputs, decoder_input_ids=torch.cat([start, after[:, :-1]], 1), use_cache=False)
            return {DECODER: _numbers(found.decoder_attentions)}
        found = model(**inputs, decoder_input_ids=torch.cat([start, text[:, :-1]], 1), use_cache=False)
    parts = {DECODER: found.decoder_attentions, ENCODER: found.encoder_attentions, CROSS: found.cross_attentions}
    numbers = {stack: _numbers(matrices) for stack, matrices in parts.items()}
    return numbers | ({ENCODER: _whole(numbers[ENCODER])} if model.config.model_type == "led" else {})


def read_by_encoder(model: PreTrainedModel, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """The text, or what the feature extractor of Whisper makes of a second of silence."""
    if model.config.model_type != "whisper":
        return {"input_ids": ids}
    extract = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins, chunk_length=1)  # 100 frames
    features = extract(np.zeros(16_000), sampling_rate=16_000, return_tensors="pt").input_features
    return {"input_features": features.expand(len(ids), -1, -1)}


def _numbers(matrices: Any) -> np.ndarray:
    return np.stack([one[0].numpy() for one in matrices]).astype(np.float64)


def _whole(bands: np.ndarray) -> np.ndarray:
    """The matrices of attention in windows, of which each row (layers, heads, T) has the tokens around its own."""
    n_tokens, width = bands.shape[-2:]
    whole = np.zeros((*bands.shape[:-1], n_tokens))
    for i in range(n_tokens):
        for at in range(width):
            if 0 <= (j := i + at - width // 2) < n_tokens:
                whole[..., i, j] = bands[..., i, at]
    return whole


def measured_stacks(model: PreTrainedModel, folder: Path) -> float:
    """The largest difference of scores from those of eager attention."""
    geometries_of(model)
    ids = np.random.default_rng(0).integers(4, 60, 19)
    found = stack_scores(model.base_model, [ids], {name: DEFINITIONS[name] for name in ("self", "first", "next")})
    differences = []
    for stack, A in eager_stacks(model, ids).items():
        by_hand = {"self": A.diagonal(0, -2, -1), "first": A[..., 0], "next": A.diagonal(1, -2, -1)}
        own = found[stack]
        assert own.keys() >= {"self", "first"}
        differences += [np.abs(own[name][0] - by_hand[name].mean(-1)).max() for name in own]
    return float(max(differences))


def clustered_stacks(model: PreTrainedModel, folder: Path) -> None:
    """Check the weights of heads in the saved model, in each stack: what a head computes must follow from them alone.

    Without the values of `v` a head writes nothing, and so it does without its rows of `o`. Without queries or without keys
    its logits are the same.
    """
    model = copy.deepcopy(model)
    layer = 0
    attentions = {}
    for geometry in geometries_of(model):
        architecture = architecture_for(model, geometry.stack)
        module = model.get_submodule(architecture.layer.format(layer=layer)).get_submodule(architecture.attention)
        all_different(module)
        # DeBERTa's logits have parts of positions, too. Without them, they are products of queries and keys alone.
        for name, parameter in model.named_parameters():
            if name.startswith("deberta.encoder.rel_embeddings") or name == "deberta.encoder.LayerNorm.weight":
                parameter.data.zero_()
        attentions[geometry.stack] = module
    model.save_pretrained(folder)
    model.double()  # rounding is near 1e-15 then, and effects of one head are far above it
    for weights in HeadWeights(folder).stacks:
        attention = attentions[weights.geometry.stack]
        heads = list(range(weights.geometry.n_heads // weights.geometry.n_kv_heads))  # those that share the first key

        def without(
            kind: str,
            weights: HeadWeights = weights,
            attention: torch.nn.Module = attention,
            heads: list[int] = heads,
        ) -> torch.Tensor:
            own = torch.from_numpy(weights.get(kind, layer)[[0] if kind in "kv" else heads])
            with zeroed(attention, own.double()):
                return outputs(model)

        plain, no_output = outputs(model), without("o")
        effect, of_key = apart(plain, no_output), apart(plain, without("k"))
        assert effect > 1e-9
        assert of_key > 1e-9
        assert apart(without("v"), no_output) < 0.1 * effect
        assert apart(without("q"), without("k")) < 0.1 * of_key


def outputs(model: PreTrainedModel) -> torch.Tensor:
    text = torch.arange(5, 16)[None]
    inputs = {"decoder_input_ids": text + 7, "use_cache": False} if model.config.is_encoder_decoder else {}
    features = {
        name: part.to(model.dtype) if part.is_floating_point() else part
        for name, part in read_by_encoder(model, text).items()
    }
    with torch.inference_mode():
        return model(**features, **inputs).logits


_PAGE = """
## Encoders and encoder-decoders

These models have several *stacks* of heads: `encoder`, `decoder`, and `cross`, the decoder's attention to the encoder's tokens.
Of each stack the scores are compared with eager attention, and the weights of a head are tried on the model's output. The
matrices come from the model's own eager attention, which is slower. Interventions and abilities need a causal language model.

| architecture | stacks | measure | cluster | difference |
|---|---|---|---|---|
"""


def stacks_page() -> str:
    """The part of docs/architectures.md about models with an encoder."""
    rows = []
    for architecture in EVERY:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(examine_stacks(architecture, Path(folder)))
    text = _PAGE
    for row in rows:
        difference = "" if row.difference is None else f"{row.difference:.0e}"
        answers = ("no" if reason else "yes" for reason in (row.measure, row.cluster))
        text += f"| {row.architecture} | {', '.join(row.stacks)} | {' | '.join(answers)} | {difference} |\n"
    text += "\n"
    for row in rows:
        told = {"measure": row.measure or row.left_out, "cluster": row.cluster}
        if not row.tried:
            text += f"- **{row.architecture}**, not tried: {row.measure}.\n"
        elif reasons := dict.fromkeys(reason for reason in told.values() if reason):
            of = {reason: ", ".join(name for name, own in told.items() if own == reason) for reason in reasons}
            text += f"- **{row.architecture}**: {'; '.join(f'{names}: {reason}' for reason, names in of.items())}.\n"
    return text


def stack_rows_of(text: str) -> dict[str, tuple[str, ...]]:
    """The answers of each architecture in that part of the page."""
    lines = (
        line.strip("| \n").split(" | ") for line in text.partition("## Encoders")[2].splitlines() if line[:2] == "| "
    )
    return {cells[0]: tuple(cells[2:4]) for cells in lines if cells[0] != "architecture"}

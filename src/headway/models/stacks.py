"""Which stacks of attention a model has, by its config: a decoder, an encoder, or both and the attention between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headway.errors import UnsupportedModel
from headway.known_scores import CROSS, DECODER, ENCODER
from headway.text import listed

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

# Configs name the sizes of their two halves in several ways. The first name that a config has counts.
_LAYERS = {
    ENCODER: ("encoder_layers", "num_encoder_layers", "num_hidden_layers"),
    DECODER: ("decoder_layers", "num_decoder_layers", "num_hidden_layers"),
}
_HEADS = {
    ENCODER: ("encoder_attention_heads", "num_encoder_attention_heads", "num_attention_heads"),
    DECODER: ("decoder_attention_heads", "num_decoder_attention_heads", "num_attention_heads"),
}

# Encoders of audio with a known input of silence, which is the same number in every frame and mel band. WhisperFeatureExtractor
# makes (log10(max(power, 1e-10)) + 4) / 4 of a waveform, and the power of silence is 0 (Radford et al. 2022).
SILENCE = {"whisper": -1.5}

# Stacks of such models that texts say nothing about. Their weights need no input.
UNMEASURED = {
    ENCODER: "it reads audio, and a corpus holds texts",
    CROSS: "it attends to frames of audio, and the audio is silence here, so that it finds nothing to attend to",
}

# In the names of modules that attend to what the encoder read.
_OF_CROSS = ("cross", "encoder_attn", "encdecattention")


def attends_to_encoder(name: str) -> bool:
    """Whether the name of a module says that it attends to the tokens of an encoder."""
    return any(word in name.lower() for word in _OF_CROSS)


def half_of(model: PreTrainedModel, stack: str) -> tuple[str, nn.Module]:
    """The part of a model that a stack lies in, with its name: the encoder, the decoder, or the whole if it has one half."""
    if DECODER not in (stacks := stacks_of(model.config)) or len(stacks) == 1:
        return "", model
    half = model.get_encoder() if stack == ENCODER else model.get_decoder()
    return next((name, module) for name, module in model.named_modules() if module is half)


def reads_audio(config: PreTrainedConfig) -> bool:
    """Whether the model has an encoder of audio, so that texts are given to its decoder alone."""
    return config.model_type in SILENCE and bool(config.is_encoder_decoder)


def measured_stacks(config: PreTrainedConfig) -> tuple[str, ...]:
    """The stacks whose attention depends on texts: all, or the decoder alone beside an encoder of audio.

    Raises:
        UnsupportedModel: as `stacks_of`.
    """
    stacks = stacks_of(config)
    return tuple(stack for stack in stacks if stack not in UNMEASURED) if reads_audio(config) else stacks


def stacks_of(config: PreTrainedConfig) -> tuple[str, ...]:
    """Return the stacks of a model: `known_scores.STACKS`, or some of them.

    BERT and its kin are encoders, unless their config says `is_decoder`. Any other model without an encoder is a decoder.

    Raises:
        UnsupportedModel: the model has an encoder that reads something else than text, except those of `SILENCE`, or is
            put together from two models.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    )

    name = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        if name in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES and name not in SILENCE:
            raise _refusal(
                name,
                f"its encoder reads audio. headway reads texts, and knows the silence beside them of {listed([*SILENCE])} alone",
            )
        known = {*MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, *SILENCE}
        if name not in known or name == "encoder-decoder":
            raise _refusal(name, "transformers has no model of text to text for this config")
        return DECODER, ENCODER, CROSS
    turned = getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    if name in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not turned:
        return (ENCODER,)
    return (DECODER,)


def auto_class(config: PreTrainedConfig) -> Any:
    """The class of transformers that builds the model of a config, with the layer that predicts tokens.

    Raises:
        UnsupportedModel: as `stacks_of`.
    """
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
        AutoModelForSeq2SeqLM,
        AutoModelForSpeechSeq2Seq,
    )

    stacks = stacks_of(config)
    if reads_audio(config):
        return AutoModelForSpeechSeq2Seq
    if stacks == (DECODER,):
        return AutoModelForCausalLM
    return AutoModelForMaskedLM if stacks == (ENCODER,) else AutoModelForSeq2SeqLM


def layers_and_heads(config: PreTrainedConfig, stack: str) -> tuple[int, int]:
    """The layers of a stack, and the heads in each. Attention to the encoder has those of the decoder.

    Raises:
        UnsupportedModel: the config does not say it.
    """
    half = DECODER if stack == CROSS else stack
    found = [
        next((value for name in names[half] if isinstance(value := getattr(config, name, None), int)), None)
        for names in (_LAYERS, _HEADS)
    ]
    if found[0] is None or found[1] is None:
        raise _refusal(config.model_type, f"its config does not say how many layers and heads its {half} has")
    return found[0], found[1]


# Kinds of layers that compute no softmax attention, as transformers names them in `layer_types`.
_WITHOUT_HEADS = frozenset({"linear_attention", "mamba", "recurrent", "conv", "mlp", "moe"})


def layers_without_heads(config: PreTrainedConfig) -> tuple[int, ...]:
    """The layers of a hybrid that have no attention heads: state-space models, linear attention, convolutions, MLPs alone.

    Raises:
        UnsupportedModel: no layer has heads.
    """
    kinds = getattr(config, "layer_types", None) or ()
    found = tuple(layer for layer, kind in enumerate(kinds) if kind in _WITHOUT_HEADS)
    if kinds and len(found) == len(kinds):
        raise _refusal(
            config.model_type,
            f"none of its layers has attention heads: they are of the kind {listed(sorted(set(kinds)))}",
        )
    return found


def sets_of_weights(config: PreTrainedConfig) -> int | None:
    """How many sets of weights the layers of ALBERT share, None if each layer has its own."""
    groups, layers = (getattr(config, name, None) for name in ("num_hidden_groups", "num_hidden_layers"))
    return groups if isinstance(groups, int) and isinstance(layers, int) and groups < layers else None


def start_of_decoder(config: PreTrainedConfig) -> int:
    """The token that a decoder reads before the tokens that it is to predict.

    Raises:
        UnsupportedModel: the config names none.
    """
    start = getattr(config, "decoder_start_token_id", None)
    if not isinstance(start, int):
        raise _refusal(config.model_type, "its config names no decoder_start_token_id, the first token of its decoder")
    return start


def _refusal(model_type: str, why: str) -> UnsupportedModel:
    return UnsupportedModel(f"architecture {model_type!r} is not supported: {why}")

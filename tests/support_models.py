"""Small random models, one per architecture, every dimension a different prime where the architecture allows.

Legend: 101 tokens, 3 layers, head_dim 14 (rotary ones must be even), 6 query heads for 3 of keys where grouped.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedModel

VOCAB, LAYERS, CONTEXT = 101, 3, 307
DEVICE = "cpu"  # of random models; `pytest --device cuda` sets it
_PLAIN = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0}
_GROUPED = {
    **_PLAIN,
    "hidden_size": 6 * 14,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "intermediate_size": 37,
    "max_position_embeddings": CONTEXT,
}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_neox": (
        "GPTNeoXConfig",
        {
            **_PLAIN,
            "hidden_size": 5 * 22,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 5,
            "intermediate_size": 37,
            "rotary_pct": 0.5,
            "max_position_embeddings": CONTEXT,
        },
    ),
    "gpt2": (
        "GPT2Config",
        {**_PLAIN, "n_embd": 5 * 7, "n_layer": LAYERS, "n_head": 5, "n_inner": 37, "n_positions": CONTEXT},
    ),
    "llama": ("LlamaConfig", _GROUPED),
    "mistral": ("MistralConfig", {**_GROUPED, "sliding_window": 5}),
    "qwen2": ("Qwen2Config", _GROUPED),
    "qwen3": ("Qwen3Config", {**_GROUPED, "hidden_size": 53, "head_dim": 14}),
    "olmo": ("OlmoConfig", _GROUPED),
    "olmo2": ("Olmo2Config", {**_GROUPED, "pad_token_id": 0}),
    "olmo3": ("Olmo3Config", {**_GROUPED, "pad_token_id": 0, "sliding_window": 5}),
    "gemma": ("GemmaConfig", {**_GROUPED, "hidden_size": 53, "head_dim": 14}),
    "gemma2": (
        "Gemma2Config",
        {**_GROUPED, "hidden_size": 6 * 11, "head_dim": 14, "sliding_window": 7, "attn_logit_softcapping": 3.0},
    ),
    # Its experts' matrix product wants sizes that are multiples of 4.
    "gpt_oss": (
        "GptOssConfig",
        {
            **_GROUPED,
            "hidden_size": 4 * 13,
            "intermediate_size": 4 * 11,
            "head_dim": 14,
            "sliding_window": 7,
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "rope_parameters": _ROPE,
        },
    ),
}


def random_model(architecture: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A causal language model whose attention is neither flat nor one-hot, in evaluation mode, eager."""
    name, values = CONFIGS[architecture]
    config = getattr(transformers, name)(**{**values, **changes})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.to(DEVICE)  # drawn on the CPU, so that every device has the same weights


def eager(model, ids):
    """The attention of transformers' eager implementation on one text: (layers, heads, T, T), in float32."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        found = model(input_ids=torch.tensor([ids], device=model.device), output_attentions=True, use_cache=False)
    return np.stack([layer[0].float().cpu().numpy() for layer in found.attentions])


def saved(folder: Path, architecture: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model on the CPU, written to `folder` as on the Hub."""
    model = random_model(architecture, seed, **changes).cpu()
    model.save_pretrained(folder)
    return model


def saved_suite(place: Path, steps: int, n_texts: int = 200, lengths: tuple[int, int] = (2, 40)) -> None:
    """`place`/suite: one run of random models with a tokenizer; `place`/texts.txt: what they can read."""
    run, words = place / "suite" / "toy-1m-seed1", [f"w{number}" for number in range(89)]
    for step in range(steps):
        saved(run / f"step{step}", "gpt_neox", seed=step)
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(run / "tokenizer.json"))
    texts = random.Random(1)
    lines = (" ".join(texts.choices(words, k=texts.randint(*lengths))) for _ in range(n_texts))
    (place / "texts.txt").write_text("\n".join(lines))

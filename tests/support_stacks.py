"""Small suites of models with an encoder: BERT and T5, with a tokenizer that puts special tokens around a text."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedModel

from support_architectures import tiny

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
WORDS = tuple(f"w{number}" for number in range(60))
# What real checkpoints state and `tiny` leaves out, and sizes that differ between the halves of a model.
SETTINGS: dict[str, dict[str, Any]] = {
    "bert": {"is_decoder": False},
    "electra": {"is_decoder": False},
    "roberta": {"is_decoder": False},
    "t5": {"decoder_start_token_id": 0, "num_layers": 2, "num_decoder_layers": 3, "is_decoder": False},
    "bart": {"decoder_start_token_id": 2, "decoder_layers": 3, "decoder_attention_heads": 4},
}


def stacked_model(architecture: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model with an encoder, in evaluation mode, eager. Its attention is neither flat nor one-hot."""
    config = tiny(architecture, **SETTINGS.get(architecture, {}) | changes)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForMaskedLM
    torch.manual_seed(seed)
    model = auto.from_config(config, attn_implementation="eager").eval()
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

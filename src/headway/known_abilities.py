"""The abilities that headway knows: name, title and unit of each. Needs nothing, as `known_scores` does."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Ability:
    """A number for one checkpoint. `higher_is_better` is None if neither direction is better."""

    name: str
    title: str
    unit: str
    higher_is_better: bool | None
    meaning: str = ""


ABILITIES = {
    ability.name: ability
    for ability in (
        Ability("loss", "Loss", "nats per token", False, "language-model loss on the corpus"),
        Ability(
            "repeat_accuracy",
            "Accuracy on repeated tokens",
            "fraction",
            True,
            "L distinct random tokens, repeated once: share of the tokens L+1..2L-1 that are predicted",
        ),
        Ability(
            "repeat_rank",
            "Mean rank of repeated tokens",
            "rank from 0",
            False,
            "mean rank of the right token over the tokens L+1..2L-1; 0 is the most probable token",
        ),
        Ability(
            "published_repeat_accuracy",
            "Accuracy on repeated tokens (as published)",
            "fraction",
            True,
            "share of right predictions at positions L..2L-1; the last one is right if it predicts the first token again",
        ),
        Ability(
            "published_repeat_rank",
            "Mean rank of repeated tokens (as published)",
            "rank from 0",
            False,
            "mean rank of the right token over the same positions; 0 is the most probable token",
        ),
    )
}


def restates(name: str) -> bool:
    """Whether an ability says in other units, or by another convention, what another ability says."""
    return name.startswith("published_") or name == "repeat_rank"


# What `headway measure --abilities` computes, by the word that asks for it.
MEASURED = {
    "loss": "the loss on the corpus",
    "positions": "the loss at tokens 2-3, 4-7, 8-15 and so on of a text",
    "icl": "the in-context score: the loss at a late token of a text minus that at an early one",
    "repeat": "accuracy and mean rank on repeated random tokens",
}


def loss_between(first: int, last: int) -> Ability:
    """The loss at the tokens `first` to `last` of a text, counted from 1."""
    words = f"language-model loss at the tokens {first} to {last} of a text, counted from 1"
    return Ability(f"loss_at_{first}_{last}", f"Loss at tokens {first}–{last}", "nats per token", False, words)


def in_context(early: int, late: int) -> Ability:
    """The in-context score (Olsson et al. 2022) of two tokens, counted from 1; published for 50 and 500."""
    words = f"loss at token {late} of a text minus loss at token {early}; negative if the model uses what it has read"
    return Ability(f"icl_{early}_{late}", f"In-context score (token {late} − token {early})", "nats", False, words)


_FAMILIES = ((re.compile(r"loss_at_(\d+)_(\d+)"), loss_between), (re.compile(r"icl_(\d+)_(\d+)"), in_context))


def known_ability(name: str) -> Ability | None:
    """The ability of this name, if headway knows it."""
    for pattern, make in _FAMILIES:
        if found := pattern.fullmatch(name):
            return make(int(found[1]), int(found[2]))
    return ABILITIES.get(name)


# Metrics of evaluations, by the word that lm-evaluation-harness uses: unit, and whether higher is better.
METRICS: dict[str, tuple[str, bool | None]] = {
    **dict.fromkeys(("acc", "acc_norm", "acc_bytes", "exact_match", "em", "f1"), ("fraction", True)),
    **dict.fromkeys(("ppl", "perplexity", "word_perplexity", "byte_perplexity"), ("perplexity", False)),
    "bits_per_byte": ("bits per byte", False),
    "mcc": ("correlation", True),
    "pct_stereotype": ("fraction", None),
    "likelihood_difference": ("nats", None),
    "log_prob": ("nats", True),
}


def unit_of(name: str) -> tuple[str | None, bool | None]:
    """Unit of an ability, and whether higher is better; None where that is not known."""
    if known := known_ability(name):
        return known.unit, known.higher_is_better
    return next((METRICS[part] for part in reversed(name.split(".")) if part in METRICS), (None, None))


def safe_ability_name(name: str) -> str:
    """`name` with an underscore for every run of characters that a file's name should not have."""
    return re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._+-]+", "_", name)).strip("_.+-") or "unnamed"

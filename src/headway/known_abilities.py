"""The abilities that headway knows: name, title and unit of each. Needs nothing, as `known_scores` does."""

from __future__ import annotations

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
            "published_repeat_accuracy",
            "Accuracy on repeated tokens, as published",
            "fraction",
            True,
            "share of right predictions at positions L..2L-1; the last one is right if it predicts the first token again",
        ),
        Ability(
            "published_repeat_rank",
            "Mean rank of repeated tokens, as published",
            "rank from 0",
            False,
            "mean rank of the right token over the same positions; 0 is the most probable token",
        ),
    )
}

# Metrics of evaluations, by the word that lm-evaluation-harness uses: unit, and whether higher is better.
METRICS: dict[str, tuple[str, bool | None]] = {
    **dict.fromkeys(("acc", "acc_norm", "acc_bytes", "exact_match", "em", "f1"), ("fraction", True)),
    **dict.fromkeys(("ppl", "perplexity", "word_perplexity", "byte_perplexity"), ("perplexity", False)),
    "bits_per_byte": ("bits per byte", False),
    "mcc": ("correlation", True),
    "pct_stereotype": ("fraction", None),
    "likelihood_difference": ("nats", None),
}

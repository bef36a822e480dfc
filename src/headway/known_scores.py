"""The head scores and the roles that they define. Needs nothing, so that `--help` can list them at once."""

from __future__ import annotations

from dataclasses import dataclass

# Attention of a model in three places. A causal language model is a decoder alone, and BERT an encoder alone. In an
# encoder-decoder, `cross` is the attention of the decoder to the tokens that the encoder read.
DECODER, ENCODER, CROSS = STACKS = ("decoder", "encoder", "cross")


@dataclass(frozen=True)
class Score:
    """A number for one head of one checkpoint. `title` labels axes; `formula` is for one text of T tokens, or for weights.

    A is the attention of a head. Its direct effect on a token's centred logit is what its output adds to that logit minus
    the mean logit, through the final norm with the scale that the norm has there (`headway.attention.effects`).

    `low` and `high` are the least and the greatest number that it can be; None where there is no such end.
    `numerator` is the score that a ratio without an upper end divides: where the divisor nears 0 the ratio is large
    although this is not. `kind` is "attention" for where a head attends, "output" for what it writes there, "circuit"
    for what its weights alone say, and "causal" for what predictions lose when its output is replaced by its mean over all
    tokens of the texts.

    `stacks` are those that the score is defined for. Rows of an encoder attend to later tokens, too: sums over j go over
    all tokens, and `i - j` in `distance` is |i - j|. In `cross`, i counts the decoder's tokens and j the encoder's.
    """

    name: str
    title: str
    unit: str
    formula: str
    low: float | None = None
    high: float | None = None
    numerator: str | None = None
    kind: str = "attention"
    stacks: tuple[str, ...] = (DECODER,)


_SELF_ATTENTION = (DECODER, ENCODER)

SCORES = {
    score.name: score
    for score in (
        Score(
            "prev",
            "Attention to the previous token",
            "probability",
            "mean over i = 1..T-1 of A[i, i-1]",
            0,
            1,
            stacks=_SELF_ATTENTION,
        ),
        Score(
            "self",
            "Attention to the token itself",
            "probability",
            "mean over i = 0..T-1 of A[i, i]",
            0,
            1,
            stacks=STACKS,
        ),
        Score(
            "first",
            "Attention to the first token",
            "probability",
            "mean over i = 0..T-1 of A[i, 0]",
            0,
            1,
            stacks=STACKS,
        ),
        Score(
            "prev_self_ratio",
            "Previous/self attention ratio",
            "ratio",
            "prev / self",
            0,
            numerator="prev",
            stacks=_SELF_ATTENTION,
        ),
        Score(
            "prev_all_ratio",
            "Previous/all attention ratio",
            "ratio",
            "prev / mean of the T × T matrix = prev · T",
            0,
            stacks=_SELF_ATTENTION,
        ),
        Score(
            "prev_fraction",
            "Fraction of all attention on previous tokens",
            "fraction",
            "prev / sum of the matrix = prev / T",
            0,
            1,
            stacks=_SELF_ATTENTION,
        ),
        Score("entropy", "Attention entropy", "nats", "mean over i of -sum_j A[i, j] log A[i, j]", 0, stacks=STACKS),
        Score(
            "entropy_norm",
            "Normalised attention entropy",
            "fraction",
            "mean over i = 1..T-1 of row i's entropy / log(i + 1); for a row that attends to all S tokens, / log S",
            0,
            1,
            stacks=STACKS,
        ),
        Score(
            "distance",
            "Attention distance",
            "tokens",
            "mean over i of sum_j A[i, j] |i - j|",
            0,
            stacks=_SELF_ATTENTION,
        ),
        Score(
            "next",
            "Attention to the next token",
            "probability",
            "mean over i = 0..T-2 of A[i, i+1]",
            0,
            1,
            stacks=(ENCODER,),
        ),
        # The last token is the special one that ends a text, such as [SEP], if the tokenizer puts one there.
        Score(
            "last",
            "Attention to the last token",
            "probability",
            "mean over i of A[i, S-1], of the S tokens attended to",
            0,
            1,
            stacks=(ENCODER, CROSS),
        ),
        Score(
            "induction",
            "Induction (prefix matching)",
            "probability",
            "L distinct random tokens, repeated once: mean over i = L..2L-1 of A[i, i-L+1]",
            0,
            1,
        ),
        Score(
            "duplicate",
            "Attention to the duplicate token",
            "probability",
            "L distinct random tokens, repeated once: mean over i = L..2L-1 of A[i, i-L]",
            0,
            1,
        ),
        # Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits": copying and QK circuits.
        Score(
            "copying",
            "Copying by OV eigenvalues",
            "ratio",
            "sum(λ) / sum(|λ|) of the eigenvalues λ of the full OV circuit W_U W_O W_V W_E, norms folded",
            -1,
            1,
            kind="circuit",
        ),
        Score(
            "qk_matching",
            "QK matching of equal tokens",
            "ratio",
            "sum(λ) / sum(|λ|) of the eigenvalues λ of the full QK circuit W_E' W_Q' W_K W_E at distance 0, norms folded, "
            "the mean key left out",
            -1,
            1,
            kind="circuit",
        ),
        # Elhage et al. 2021; with the final norm's scale frozen, as in Wang et al. 2022, "Interpretability in the Wild".
        Score(
            "direct_logit_attribution",
            "Direct logit attribution",
            "logits",
            "L distinct random tokens, repeated once: mean over i = L..2L-2 of the direct effect on token i+1's centred logit",
            kind="output",
        ),
        Score(
            "direct_logit_attribution_corpus",
            "Direct logit attribution on texts",
            "logits",
            "mean over i = 0..T-2 of the direct effect on token i+1's centred logit",
            kind="output",
        ),
        # After McDougall et al. 2023, "Copy Suppression: Comprehensively Understanding an Attention Head".
        Score(
            "copy_suppression",
            "Copy suppression",
            "logits",
            "minus the mean over i of sum_j A[i, j] (direct effect of token j's value alone on token j's centred logit)",
            kind="output",
        ),
        Score(
            "ablation_loss",
            "Loss added by ablation",
            "nats",
            "mean over i = 0..T-2 of the loss of token i+1 without the head, less the loss with it",
            kind="causal",
        ),
        Score(
            "ablation_repeat_loss",
            "Loss on repeats added by ablation",
            "nats",
            "L distinct random tokens, repeated once: mean over i = L..2L-2 of the loss of token i+1 without the head, less the "
            "loss with it",
            kind="causal",
        ),
        Score(
            "ablation_repeat_accuracy",
            "Accuracy on repeats lost by ablation",
            "share",
            "L distinct random tokens, repeated once: share of i = L..2L-2 in which token i+1 is the most probable, less the "
            "share without the head",
            -1,
            1,
            kind="causal",
        ),
    )
}


@dataclass(frozen=True)
class Role:
    """A functional criterion for a head: a score and the level that it must pass.

    Without a `level` it is what untrained heads do not reach (see `headway.studies.roles`).
    """

    name: str
    score: str
    level: float | None = None


ROLES = {
    role.name: role
    for role in (
        Role("previous-token", "prev"),
        Role("current-token", "self"),
        Role("first-token", "first"),
        Role("duplicate-token", "duplicate"),
        Role("induction", "induction"),
        Role("copying", "copying"),
    )
}

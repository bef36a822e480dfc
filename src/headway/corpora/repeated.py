"""Random tokens, repeated once: what induction and duplicate-token heads are measured on."""

from __future__ import annotations

from typing import Any

import numpy as np

from headway.errors import UsageError


def usable_tokens(tokenizer: Any, vocab_size: int) -> np.ndarray:
    """The ids, ascending, of the tokens that the tokenizer can give, special ones left out.

    An embedding is often padded to a round number of rows (Pythia's has 50,304 for 50,277 tokens); a padding row was
    never trained, and a model that reads one reads noise.

    Args:
        tokenizer: with `vocab` (text -> id) and `special_ids`, as `headway.models.load_tokenizer` gives it.
        vocab_size: rows of the model's embedding; an id beyond them is left out too.
    """
    ids = np.array(sorted(set(tokenizer.vocab.values()) - set(tokenizer.special_ids)), dtype=np.int64)
    return ids[ids < vocab_size]


def repeated_random(token_ids: np.ndarray, length: int, n: int, seed: int) -> list[np.ndarray]:
    """`n` sequences of `length` distinct random tokens, each repeated once: (2 * length,) int64 each.

    Within the second copy every token has stood before exactly once, so where a head should look is never in doubt.
    The same arguments give the same sequences; another version of NumPy may give others.

    Args:
        token_ids: what to draw from, such as `usable_tokens` gives; an id that is there twice counts once.

    Raises:
        UsageError: `length` is below 2, `n` below 1, or there are fewer than `length` distinct ids.
    """
    ids = np.unique(np.asarray(token_ids, dtype=np.int64))
    if length < 2 or n < 1:
        raise UsageError(
            f"repeated random tokens need a length of at least 2 and n of at least 1: got {length} and {n}"
        )
    if len(ids) < length:
        raise UsageError(
            f"{length} distinct random tokens were asked for, and there are only {len(ids)} to draw from: ask for a "
            "shorter sequence"
        )
    draw = np.random.default_rng(seed)
    return [np.tile(draw.choice(ids, size=length, replace=False), 2) for _ in range(n)]

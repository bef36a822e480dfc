"""Repeated random tokens, on which induction and duplicate-token heads are measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from headway.errors import UsageError


def usable_tokens(tokenizer: Any, vocab_size: int) -> np.ndarray:
    """Ids of the tokens that the tokenizer can produce, without special tokens, ascending.

    An embedding often has more rows than there are tokens (Pythia: 50,304 rows, 50,277 tokens). The extra rows were never
    trained, so a model that reads one reads noise.

    Args:
        tokenizer: with `vocab` (text -> id) and `special_ids`, as returned by `headway.models.load_tokenizer`.
        vocab_size: rows of the model's embedding. Larger ids are left out.
    """
    ids = np.array(sorted(set(tokenizer.vocab.values()) - set(tokenizer.special_ids)), dtype=np.int64)
    return ids[ids < vocab_size]


def repeated_random(token_ids: np.ndarray, length: int, n: int, seed: int) -> list[np.ndarray]:
    """Draw `n` sequences of `length` distinct random tokens, each repeated once: int64 arrays of shape (2 * length,).

    In the second copy every token has occurred exactly once before, so a head's target position is unambiguous. The same
    arguments give the same sequences, unless another version of NumPy draws differently.

    Args:
        token_ids: ids to draw from, such as `usable_tokens`. Duplicates count once.

    Raises:
        UsageError: `length` is below 2, `n` is below 1, or there are fewer than `length` distinct ids.
    """
    ids = np.unique(np.asarray(token_ids, dtype=np.int64))
    if length < 2 or n < 1:
        raise UsageError(
            f"repeated random tokens need a length of at least 2 and n of at least 1: got {length} and {n}"
        )
    if len(ids) < length:
        raise UsageError(f"cannot draw {length} distinct random tokens from {len(ids)}: ask for a shorter sequence")
    draw = np.random.default_rng(seed)
    return [np.tile(draw.choice(ids, size=length, replace=False), 2) for _ in range(n)]

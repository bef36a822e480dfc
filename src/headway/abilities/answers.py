"""Minimal pairs and cloze items, answered by a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headway.abilities.items import Blank, Cloze, Pairs
from headway.abilities.measures import Measured, mean
from headway.abilities.next_tokens import next_token_predictions
from headway.errors import CorpusError
from headway.known_abilities import METRICS, Ability
from headway.models.opened import require_readable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headway.models import Geometry, Tokenizer

Ids = NDArray[np.int64]


def pairs_accuracy(model: PreTrainedModel, items: Pairs, sentences: Sequence[Ids]) -> list[Measured]:
    """The share of pairs whose good sentence has the larger summed log-probability, for each ability of the file.

    Args:
        sentences: token ids of each pair's good and bad sentence, as `read_pairs` returns them.
    """
    loss = next_token_predictions(model, sentences).loss
    nats = np.array([one.sum(dtype=np.float64) for one in loss]).reshape(-1, 2)
    right = nats[:, 0] < nats[:, 1]
    names = np.array([pair.name for pair in items.items])
    return [Measured(_accuracy(name, "minimal pairs"), *mean(right[names == name])) for name in items.abilities]


def cloze_scores(model: PreTrainedModel, items: Cloze, answers: Sequence[tuple[Ids, int]]) -> list[Measured]:
    """The share of answers of which every token is the most probable one, and their mean summed log-probability.

    Args:
        answers: token ids of each prompt with its answer, and how many of them are the answer, from `read_cloze`.
    """
    found = next_token_predictions(model, [ids for ids, _ in answers])
    right = np.array([one[-n:].all() for one, (_, n) in zip(found.right, answers, strict=True)])
    nats = np.array([-one[-n:].sum(dtype=np.float64) for one, (_, n) in zip(found.loss, answers, strict=True)])
    accuracy, log_prob = items.abilities
    unit, better = METRICS["log_prob"]
    of_answers = Ability(log_prob, log_prob, unit, better, "mean log-probability of the whole answer")
    return [Measured(_accuracy(accuracy, "answers"), *mean(right)), Measured(of_answers, *mean(nats))]


def _accuracy(name: str, of: str) -> Ability:
    unit, better = METRICS["acc"]
    return Ability(name, name, unit, better, f"share of {of} that are right")


def read_pairs(items: Pairs, tokenizer: Tokenizer, geometry: Geometry) -> list[Ids]:
    """Token ids of the good and the bad sentence of each pair, in turn.

    The tokenizer's BOS token comes first, so that the first token has a probability. Without one, both sentences of a
    pair must begin with the same token: its probability is then the same in both sums.

    Raises:
        CorpusError: a sentence does not fit the model, or needs a BOS token that the tokenizer lacks.
    """
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    texts = tokenizer.encode_batch([text for pair in items.items for text in (pair.good, pair.bad)])
    found = [np.array([*start, *ids], dtype=np.int64) for ids in texts]
    for pair, good, bad in zip(items.items, found[::2], found[1::2], strict=True):
        place = f"{items.name}, line {pair.line}"
        for text, ids in ((pair.good, good), (pair.bad, bad)):
            require_readable(place, repr(text[:40]), ids, geometry)
        if not start and good[0] != bad[0]:
            raise CorpusError(
                f"{place}: the sentences begin with different tokens, and the tokenizer has no token that starts a text "
                "(BOS), so the first token has no probability. Let both sentences begin with the same word"
            )
        if np.array_equal(good, bad):
            raise CorpusError(f"{place}: the tokenizer reads both sentences of the pair as the same tokens")
    return found


def read_cloze(items: Cloze, tokenizer: Tokenizer, geometry: Geometry, add_bos: bool) -> list[tuple[Ids, int]]:
    """Token ids of each prompt with its answer, and how many of them are the answer.

    A token that spans the end of the prompt belongs to the answer.

    Raises:
        CorpusError: an item does not fit the model, or `add_bos` needs a BOS token that the tokenizer lacks.
    """
    if add_bos and tokenizer.bos_id is None:
        raise CorpusError(f"{items.name}: the tokenizer has no token that starts a text (BOS): leave --add-bos out")
    start = [tokenizer.bos_id] if add_bos and tokenizer.bos_id is not None else []
    prompts = tokenizer.encode_batch([item.prompt for item in items.items])
    wholes = tokenizer.encode_batch([item.prompt + item.answer for item in items.items])
    return [
        _answer(items.name, item, [*start, *prompt], [*start, *whole], geometry)
        for item, prompt, whole in zip(items.items, prompts, wholes, strict=True)
    ]


def _answer(name: str, item: Blank, prompt: list[int], whole: list[int], geometry: Geometry) -> tuple[Ids, int]:
    place = f"{name}, line {item.line}"
    ids = np.array(whole, dtype=np.int64)
    require_readable(place, repr((item.prompt + item.answer)[:40]), ids, geometry)
    same = [a == b for a, b in zip(prompt, whole, strict=False)]
    n_answer = len(whole) - (same.index(False) if False in same else len(same))
    if n_answer < 1:
        raise CorpusError(f"{place}: the tokenizer makes no token of the answer {item.answer.strip()!r}")
    if n_answer == len(whole):
        raise CorpusError(f"{place}: no token of the prompt stands before the answer, so it cannot be predicted")
    return ids, n_answer

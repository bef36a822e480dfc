"""Effects of an intervention on a model's next-token predictions.

Shapes: B texts of T tokens, V tokens in the vocabulary. p is the distribution before the intervention, q after.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from headway.interventions.objects import Intervention
from headway.models.batches import Part, read_together

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

# Rows of logits held at once. A thousand rows take 64 MiB at a vocabulary of 16,000.
BATCH_TOKENS = 1024
N_TOPS = 5  # most probable next tokens that are kept of a text


class Positions(NamedTuple):
    """Sums of a number over positions, from which mean and spread follow. The sums of several texts can be added."""

    n: int
    total: float
    squares: float

    @property
    def mean(self) -> float:
        return self.total / self.n

    @property
    def sd(self) -> float:
        """Standard deviation; NaN for a single position."""
        if self.n < 2:
            return float("nan")
        # Rounding can make the difference slightly negative.
        return math.sqrt(max(self.squares - self.total * self.mean, 0.0) / (self.n - 1))


class Tops(NamedTuple):
    """Ids and probabilities of the most probable next tokens at a text's last position, most probable first."""

    ids: list[int]
    probabilities: list[float]


class TextEffect(NamedTuple):
    """The effect on one text.

    Attributes:
        kl: KL(p ‖ q) of the next-token distribution at each position, in nats.
        kl_last: the same at the last position.
        loss_before, loss_change: negative log-likelihood of each next token of the text, in nats.
        top_changed: whether the most probable next token at the last position changes.
        top_after: the most probable next tokens at the last position, after the intervention.
    """

    kl: Positions
    kl_last: float
    loss_before: Positions
    loss_change: Positions
    top_changed: bool
    top_after: Tops


@dataclass(frozen=True)
class Effect:
    """The effect on a corpus.

    Attributes:
        texts: effect on each text, in the given order.
    """

    texts: list[TextEffect]

    def mean(self, name: str) -> float:
        """Mean of a field of `TextEffect`.

        A field with a value per position is averaged over all positions of all texts, so a long text weighs more than a
        short one. Other fields are averaged over texts.
        """
        return self._all(name).mean

    def sd(self, name: str) -> float:
        """Standard deviation over the same values as `mean`; NaN for a single value."""
        return self._all(name).sd

    def _all(self, name: str) -> Positions:
        parts = [_positions(getattr(text, name)) for text in self.texts]
        return Positions(*map(sum, zip(*parts, strict=True)))


def _positions(value: Positions | float) -> Positions:
    return value if isinstance(value, Positions) else Positions(1, float(value), float(value) ** 2)


def effects(
    model: PreTrainedModel,
    interventions: Sequence[Intervention],
    sequences: Sequence[np.ndarray],
    done: Callable[[], None] = lambda: None,
) -> list[Effect]:
    """Return the effect of each intervention, applied alone, on the predictions of `model` for `sequences`.

    The unchanged model reads each text once for all interventions. Shorter texts in a batch are padded at the end, which
    causal attention does not see. Log-probabilities are computed in float32 or wider, so effects below about 1e-6 nats
    are rounding errors. An intervention that changes nothing gives exactly 0.

    Args:
        model: a causal language model of transformers.
        sequences: token ids of each text, at least 2.
        done: called after each intervention on each batch.
    """
    found: list[list[TextEffect | None]] = [[None] * len(sequences) for _ in interventions]
    with torch.inference_mode():
        for batch in read_together(model, sequences, BATCH_TOKENS, logits=True):
            ids = torch.from_numpy(batch.ids).to(model.device)
            before = _log_probabilities(model, ids)
            for effect, intervention in zip(found, interventions, strict=True):
                with intervention.on(model):
                    after = _log_probabilities(model, ids)
                for number, text in zip(batch.numbers, _batch_effects(before, after, ids, batch.parts), strict=True):
                    effect[number] = text
                done()
    return [Effect([text for text in effect if text is not None]) for effect in found]


def top_tokens(model: PreTrainedModel, ids: np.ndarray, n: int = N_TOPS) -> Tops:
    """The `n` most probable tokens after `ids`."""
    with torch.inference_mode():
        log_p = _log_probabilities(model, torch.as_tensor(ids)[None].to(model.device))[:, -1]
    return _tops(log_p, n)[0]


def _tops(log_p: Tensor, n: int = N_TOPS) -> list[Tops]:
    """The `n` most probable tokens of each text, from the log-probabilities at its last position (B, V)."""
    values, tokens = log_p.exp().topk(min(n, log_p.shape[-1]))
    return [Tops(*both) for both in zip(tokens.tolist(), values.tolist(), strict=True)]


def _log_probabilities(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Log-probabilities of the next token after each token: (B, T, V)."""
    logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def _batch_effects(before: Tensor, after: Tensor, ids: Tensor, parts: Sequence[Part]) -> Iterator[TextEffect]:
    """Effect on each text of a batch, without the padding."""
    for texts, n_tokens in parts:
        yield from _text_effects(before[texts, :n_tokens], after[texts, :n_tokens], ids[texts, :n_tokens])


def _text_effects(before: Tensor, after: Tensor, ids: Tensor) -> Iterator[TextEffect]:
    # sum p (log p - log q). Tokens with p = 0 (log p = -inf) contribute 0.
    difference = torch.where(before.isneginf(), 0.0, before - after)
    kl = (before.exp() * difference).sum(-1).clamp_min(0.0)
    loss_before, loss_after = _loss(before, ids), _loss(after, ids)
    changed = before[:, -1].argmax(-1) != after[:, -1].argmax(-1)
    columns = (_by_text(kl), kl[:, -1].tolist(), _by_text(loss_before), _by_text(loss_after - loss_before))
    tops = _tops(after[:, -1])
    return (TextEffect(*numbers) for numbers in zip(*columns, changed.tolist(), tops, strict=True))


def _by_text(values: Tensor) -> list[Positions]:
    """Sums over the positions of each text, from values of shape (B, T)."""
    values = values.double()
    totals, squares = values.sum(1).tolist(), values.square().sum(1).tolist()
    return [Positions(values.shape[1], *sums) for sums in zip(totals, squares, strict=True)]


def _loss(log_p: Tensor, ids: Tensor) -> Tensor:
    """Negative log-likelihood of each text's next tokens: (B, T - 1)."""
    return -log_p[:, :-1].gather(-1, ids[:, 1:, None])[..., 0].double()

"""Loss, accuracy and rank of next-token predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from headway.errors import CheckpointError
from headway.models.batches import read_together

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from headway.corpora import Corpus
    from headway.models.batches import Batch


class Predictions(NamedTuple):
    """For each text of T tokens, one number for each of its last T - 1 tokens.

    With `around` there is one more: the first token again, as predicted after the last one.
    """

    loss: list[np.ndarray]  # -log p(token | tokens before it), in nats, float32
    right: list[np.ndarray]  # whether the token was the most probable one
    rank: list[np.ndarray]  # how many tokens were more probable than it


class Reads(Protocol):
    """A job that reads a corpus and repeated random tokens."""

    @property
    def corpus(self) -> Corpus: ...
    @property
    def add_bos(self) -> bool: ...
    @property
    def repeated_length(self) -> int: ...
    @property
    def repeated_texts(self) -> int: ...
    @property
    def seed(self) -> int: ...


def on_texts(job: Reads) -> tuple[Any, ...]:
    """Names the predictions on the corpus of a job, by all that decides them beside the checkpoint."""
    return "predictions", job.corpus, job.add_bos


def on_repeated(job: Reads) -> tuple[Any, ...]:
    """Names the predictions on the repeated tokens of a job, the first token after the last included."""
    return "predictions", job.repeated_length, job.repeated_texts, job.seed


class NextTokens:
    """Collects the predictions of next tokens from the logits of one batch of texts after another.

    Args:
        sequences: token ids of each text, at least 2.
        around: whether the last prediction counts, too, and is right if it is the text's first token.
    """

    def __init__(self, sequences: Sequence[np.ndarray], *, around: bool = False) -> None:
        self._sequences, self._around = sequences, around
        self._found = Predictions(*([np.empty(0)] * len(sequences) for _ in Predictions._fields))

    def add(self, batch: Batch, logits: Tensor) -> None:
        """Keep the predictions of a batch: `logits` are (texts, T, tokens)."""
        ids = torch.from_numpy(batch.ids).to(logits.device)
        targets = torch.cat([ids[:, 1:], ids[:, :1]], 1)
        if self._around:
            ends = torch.tensor([len(self._sequences[number]) - 1 for number in batch.numbers], device=ids.device)
            targets[torch.arange(len(ids), device=ids.device), ends] = ids[:, 0]  # not the padding
        values = _against(logits, targets)
        for row, number in enumerate(batch.numbers):
            n = len(self._sequences[number]) - (not self._around)  # without the padding, which comes after the text
            for of_texts, of_batch in zip(self._found, values, strict=True):
                of_texts[number] = of_batch[row, :n]

    @property
    def whole(self) -> bool:
        """Whether the batches of all texts were added."""
        return all(len(nats) for nats in self._found.loss)

    def predictions(self) -> Predictions:
        """Return the predictions of all texts.

        Raises:
            CheckpointError: a loss is not finite, as in a damaged or diverged model.
        """
        loss = self._found.loss
        wrong = [number for number, nats in enumerate(loss) if not np.isfinite(nats).all()]
        if wrong:
            raise CheckpointError(
                f"the loss of {len(wrong)} of {len(loss)} texts is not finite (first: text {wrong[0]}). The run "
                "diverged here, the weights are damaged, or they need a wider --dtype"
            )
        return self._found


def next_tokens(model: PreTrainedModel, sequences: Sequence[np.ndarray], *, around: bool = False) -> NextTokens:
    """Read all texts, and collect the predictions of each next token; see `next_token_predictions`."""
    found = NextTokens(sequences, around=around)
    with torch.inference_mode():
        for batch in read_together(model, sequences, logits=True):
            ids = torch.from_numpy(batch.ids).to(model.device)
            found.add(batch, model(input_ids=ids, use_cache=False).logits)
    return found


def next_token_predictions(
    model: PreTrainedModel, sequences: Sequence[np.ndarray], *, around: bool = False
) -> Predictions:
    """Return the loss, correctness and rank of the prediction of each next token.

    Args:
        model: a causal language model of transformers with its language-model head, in evaluation mode.
        sequences: token ids of each text, at least 2.
        around: whether the last prediction counts, too, and is right if it is the text's first token.

    Raises:
        CheckpointError: a loss is not finite, as in a damaged or diverged model.
    """
    return next_tokens(model, sequences, around=around).predictions()


def _against(logits: Tensor, targets: Tensor) -> tuple[np.ndarray, ...]:
    """Losses, correctness and ranks of the `targets` (texts, T), given logits (texts, T, tokens): arrays (texts, T).

    A CPU processes one text at a time, to avoid a second copy of all logits. A GPU processes all at once, because a launch
    costs more than a text.
    """
    at_once = len(targets) if targets.is_cuda else 1
    found = []
    for ahead, right in zip(logits.split(at_once), targets.split(at_once), strict=True):
        of_text = ahead.flatten(0, 1).float()
        loss = torch.nn.functional.cross_entropy(of_text, right.flatten(), reduction="none")
        own = of_text.gather(1, right.reshape(-1, 1))
        found.append((loss, of_text.argmax(-1) == right.flatten(), (of_text > own).sum(-1)))
    return tuple(torch.cat(column).view(targets.shape).cpu().numpy() for column in zip(*found, strict=True))

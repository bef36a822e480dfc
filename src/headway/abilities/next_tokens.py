"""What a model predicts: capability, to be seen beside mechanism."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from headway.errors import CheckpointError
from headway.models.batches import read_together

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class Predictions(NamedTuple):
    """For each text of T tokens, one number for each of the T - 1 tokens that have one before them."""

    loss: list[np.ndarray]  # -log p(token | those before it), in nats, float32
    right: list[np.ndarray]  # whether it was the most probable one


def next_token_predictions(model: PreTrainedModel, sequences: Sequence[np.ndarray]) -> Predictions:
    """How well `model` predicts each next token of each text.

    Args:
        model: a causal language model of transformers with its language-model head, in evaluation mode.
        sequences: token ids of each text, at least 2.

    Raises:
        CheckpointError: a loss is not finite, which a damaged or diverged model gives.
    """
    loss: list[np.ndarray] = [np.empty(0)] * len(sequences)
    right: list[np.ndarray] = [np.empty(0)] * len(sequences)
    with torch.inference_mode():
        for batch in read_together(model, sequences, logits=True):
            ids = torch.from_numpy(batch.ids).to(model.device)
            nats, hits = _against(model(input_ids=ids, use_cache=False).logits, ids)
            for row, number in enumerate(batch.numbers):
                n = len(sequences[number])  # padding comes after the text
                loss[number], right[number] = nats[row, : n - 1], hits[row, : n - 1]
    wrong = [number for number, nats in enumerate(loss) if not np.isfinite(nats).all()]
    if wrong:
        raise CheckpointError(
            f"the loss of {len(wrong)} of {len(loss)} texts is not finite (first: text {wrong[0]}): the run diverged "
            "here, the weights are damaged, or their numbers are too large for this dtype"
        )
    return Predictions(loss, right)


def _against(logits: Tensor, ids: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Losses and hits of the tokens of (texts, T) `ids` that have one before them: two (texts, T - 1).

    A CPU does one text at a time, so that no second copy of all logits is made; a GPU all at once, since each launch
    costs it more than a text.
    """
    at_once = len(ids) if ids.is_cuda else 1
    losses, hits = [], []
    for predicted, text in zip(logits.split(at_once), ids.split(at_once), strict=True):
        ahead, targets = predicted[:, :-1].flatten(0, 1), text[:, 1:].flatten()
        losses.append(torch.nn.functional.cross_entropy(ahead.float(), targets, reduction="none"))
        hits.append(ahead.argmax(-1) == targets)
    shape = (len(ids), ids.shape[1] - 1)
    return torch.cat(losses).view(shape).cpu().numpy(), torch.cat(hits).view(shape).cpu().numpy()

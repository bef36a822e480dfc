"""Loss and accuracy of next-token predictions."""

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
    """For each text of T tokens, one number for each of its last T - 1 tokens."""

    loss: list[np.ndarray]  # -log p(token | tokens before it), in nats, float32
    right: list[np.ndarray]  # whether the token was the most probable one


def next_token_predictions(model: PreTrainedModel, sequences: Sequence[np.ndarray]) -> Predictions:
    """Return the loss and correctness of the prediction of each next token.

    Args:
        model: a causal language model of transformers with its language-model head, in evaluation mode.
        sequences: token ids of each text, at least 2.

    Raises:
        CheckpointError: a loss is not finite, as in a damaged or diverged model.
    """
    loss: list[np.ndarray] = [np.empty(0)] * len(sequences)
    right: list[np.ndarray] = [np.empty(0)] * len(sequences)
    with torch.inference_mode():
        for batch in read_together(model, sequences, logits=True):
            ids = torch.from_numpy(batch.ids).to(model.device)
            nats, hits = _against(model(input_ids=ids, use_cache=False).logits, ids)
            for row, number in enumerate(batch.numbers):
                n = len(sequences[number])  # without the padding, which comes after the text
                loss[number], right[number] = nats[row, : n - 1], hits[row, : n - 1]
    wrong = [number for number, nats in enumerate(loss) if not np.isfinite(nats).all()]
    if wrong:
        raise CheckpointError(
            f"the loss of {len(wrong)} of {len(loss)} texts is not finite (first: text {wrong[0]}). The run diverged "
            "here, the weights are damaged, or they need a wider --dtype"
        )
    return Predictions(loss, right)


def _against(logits: Tensor, ids: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Losses and correctness of all but the first token of `ids` (texts, T): two arrays (texts, T - 1).

    A CPU processes one text at a time, to avoid a second copy of all logits. A GPU processes all at once, because a launch
    costs more than a text.
    """
    at_once = len(ids) if ids.is_cuda else 1
    losses, hits = [], []
    for predicted, text in zip(logits.split(at_once), ids.split(at_once), strict=True):
        ahead, targets = predicted[:, :-1].flatten(0, 1), text[:, 1:].flatten()
        losses.append(torch.nn.functional.cross_entropy(ahead.float(), targets, reduction="none"))
        hits.append(ahead.argmax(-1) == targets)
    shape = (len(ids), ids.shape[1] - 1)
    return torch.cat(losses).view(shape).cpu().numpy(), torch.cat(hits).view(shape).cpu().numpy()

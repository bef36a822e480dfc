"""Loss, accuracy and rank of next-token predictions."""

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
    """For each text of T tokens, one number for each of its last T - 1 tokens.

    With `around` there is one more: the first token again, as predicted after the last one.
    """

    loss: list[np.ndarray]  # -log p(token | tokens before it), in nats, float32
    right: list[np.ndarray]  # whether the token was the most probable one
    rank: list[np.ndarray]  # how many tokens were more probable than it


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
    found = Predictions(*([np.empty(0)] * len(sequences) for _ in Predictions._fields))
    with torch.inference_mode():
        for batch in read_together(model, sequences, logits=True):
            ids = torch.from_numpy(batch.ids).to(model.device)
            logits = model(input_ids=ids, use_cache=False).logits
            targets = torch.cat([ids[:, 1:], ids[:, :1]], 1)
            if around:
                ends = torch.tensor([len(sequences[number]) - 1 for number in batch.numbers], device=ids.device)
                targets[torch.arange(len(ids), device=ids.device), ends] = ids[:, 0]  # not the padding
            values = _against(logits, targets)
            for row, number in enumerate(batch.numbers):
                n = len(sequences[number]) - (not around)  # without the padding, which comes after the text
                for of_texts, of_batch in zip(found, values, strict=True):
                    of_texts[number] = of_batch[row, :n]
    wrong = [number for number, nats in enumerate(found.loss) if not np.isfinite(nats).all()]
    if wrong:
        raise CheckpointError(
            f"the loss of {len(wrong)} of {len(found.loss)} texts is not finite (first: text {wrong[0]}). The run "
            "diverged here, the weights are damaged, or they need a wider --dtype"
        )
    return found


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

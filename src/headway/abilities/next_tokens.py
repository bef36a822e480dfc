"""What a model predicts: capability, to be seen beside mechanism."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from headway.errors import CheckpointError
from headway.models.batches import BATCH_TOKENS, read_together

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

# Logits in memory at a time: 128 MiB in float32.
LOGITS = 2**25


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
    tokens = min(BATCH_TOKENS, LOGITS // model.config.get_text_config().vocab_size)
    with torch.inference_mode():
        for batch in read_together(model, sequences, tokens):
            ids = torch.from_numpy(batch.ids).to(model.device)
            logits = model(input_ids=ids, use_cache=False).logits
            for row, number in enumerate(batch.numbers):
                n = len(sequences[number])  # what pads the text comes behind it
                loss[number], right[number] = _against(logits[row, : n - 1], ids[row, 1:n])
    wrong = [number for number, nats in enumerate(loss) if not np.isfinite(nats).all()]
    if wrong:
        raise CheckpointError(
            f"the loss of {len(wrong)} of {len(loss)} texts is not finite (first: text {wrong[0]}): the run diverged "
            "here, the weights are damaged, or their numbers are too large for this dtype"
        )
    return Predictions(loss, right)


def _against(logits: Tensor, targets: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Losses and hits of a text; of one alone, so that no second copy of all logits is made."""
    nats = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    return nats.cpu().numpy(), (logits.argmax(-1) == targets).cpu().numpy()

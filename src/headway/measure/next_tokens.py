"""What a model predicts: capability, to be seen beside mechanism."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from headway.errors import CheckpointError
from headway.models.batches import batches

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
    with torch.inference_mode():
        for batch in batches(sequences, LOGITS // model.config.get_text_config().vocab_size):
            ids = torch.from_numpy(batch.ids).to(model.device)
            logits = model(input_ids=ids, use_cache=False).logits
            nats, hits = _against(logits[:, :-1], ids[:, 1:])
            for number, own_nats, own_hits in zip(batch.numbers, nats, hits, strict=True):
                loss[number], right[number] = own_nats, own_hits
    wrong = [number for number, nats in enumerate(loss) if not np.isfinite(nats).all()]
    if wrong:
        raise CheckpointError(
            f"the loss of {len(wrong)} of {len(loss)} texts is not finite (first: text {wrong[0]}): the run diverged "
            "here, the weights are damaged, or their numbers are too large for this dtype"
        )
    return Predictions(loss, right)


def _against(logits: Tensor, targets: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Losses and hits, (texts, T - 1) each, a text at a time so that no second copy of all logits is made."""
    nats, hits = [], []
    for own_logits, own_targets in zip(logits, targets, strict=True):
        nats.append(torch.nn.functional.cross_entropy(own_logits.float(), own_targets, reduction="none"))
        hits.append(own_logits.argmax(-1) == own_targets)
    return torch.stack(nats).cpu().numpy(), torch.stack(hits).cpu().numpy()

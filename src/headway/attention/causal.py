"""Causal scores: what next-token predictions lose when the output of one head is replaced by its mean, for each head.

The model reads as many copies of a text as a layer has heads, and each copy lacks another head: one pass of every layer's
copies costs about one forward pass for each head.

Shapes: B texts of T tokens, N query heads, D head_dim, C copies, V tokens in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from headway.errors import UsageError
from headway.models.anatomy import anatomy, changing, mean_outputs
from headway.models.batches import read_together
from headway.text import listed

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from headway.models.anatomy import Change
    from headway.models.batches import Part


class Lost(NamedTuple):
    """What the predictions of the tokens 1 .. T-1 lose without each head of a layer: (B, N, T - 1).

    Attributes:
        loss: the increase of the loss, in nats.
        right: 1 where the prediction was right and is wrong now, -1 the other way round, else 0.
        n_tokens: T.
    """

    loss: Tensor
    right: Tensor
    n_tokens: int

    def of(self, texts: slice, n_tokens: int) -> Lost:
        """What some of the texts lose, without their padding."""
        return Lost(self.loss[texts, :, : n_tokens - 1], self.right[texts, :, : n_tokens - 1], n_tokens)


Formula = Callable[[Lost], "Tensor"]


class _Predicted(NamedTuple):
    loss: Tensor  # (B, T - 1)
    right: Tensor


@torch.inference_mode()
def causal_scores(
    model: PreTrainedModel, texts: Sequence[np.ndarray], formulas: Mapping[str, Formula]
) -> dict[str, np.ndarray]:
    """Score every head by what its ablation costs on each text: (texts, layers, heads); NaN where a layer has none.

    Args:
        model: a causal language model of transformers with its language-model head. It is left unchanged.
        texts: token ids of each text; the mean output of a head is over all their tokens.
        formulas: of each score; `(B, N)` of what a layer's batch loses.

    Raises:
        UnsupportedModel: the output projections of the heads are unknown.
        UsageError: the model has no language-model head.
    """
    if model.get_output_embeddings() is None:
        raise UsageError(
            f"{listed(list(formulas))} need next-token predictions, and {type(model).__name__} has no unembedding: load the "
            "causal language model, such as with `headway.models.load(folder, lm_head=True)`"
        )
    body = anatomy(model)
    means = mean_outputs(model, texts, body.projections)
    dtype = np.float64 if model.dtype == torch.float64 else np.float32
    found = {name: np.full((len(texts), body.n_layers, body.n_heads), np.nan, dtype) for name in formulas}
    for batch in read_together(model, texts, logits=True):
        ids = torch.from_numpy(batch.ids).to(model.device)
        whole = _predicted(model, ids)
        for layer, mean in means.items():
            lost = _without_each(model, ids, whole, layer, mean)
            for name, formula in formulas.items():
                found[name][batch.numbers, layer] = _of_parts(formula, lost, batch.parts)
    return found


def _of_parts(formula: Formula, lost: Lost, parts: Sequence[Part]) -> np.ndarray:
    scores: np.ndarray = torch.cat([formula(lost.of(*part)) for part in parts]).cpu().numpy()
    return scores


def _without_each(model: PreTrainedModel, ids: Tensor, whole: _Predicted, layer: int, mean: Tensor) -> Lost:
    """What a batch (B, T) loses without each head of a layer, given the heads' mean outputs (N, D)."""
    losses, rights = [], []
    for heads in _together(model, ids, len(mean)):
        with changing(model, {layer: _each_without_one(heads, mean)}):
            without = _predicted(model, ids.repeat(len(heads), 1))
        losses.append(without.loss.unflatten(0, (len(heads), -1)) - whole.loss)
        rights.append(whole.right - without.right.unflatten(0, (len(heads), -1)))
    return Lost(torch.cat(losses).transpose(0, 1), torch.cat(rights).transpose(0, 1), ids.shape[1])


def _together(model: PreTrainedModel, ids: Tensor, n_heads: int) -> Iterator[range]:
    """The heads whose copies of a batch are read together: as many as fit into the batch of `read_together`."""
    copies = [ids[0].cpu().numpy()] * (n_heads * len(ids))
    most = max(len(batch.numbers) for batch in read_together(model, copies, logits=True))
    at_once = max(1, most // len(ids))
    return (range(first, min(first + at_once, n_heads)) for first in range(0, n_heads, at_once))


def _each_without_one(heads: range, mean: Tensor) -> Change:
    """Replaces the first head's output by its mean in the first copy of a batch, the second head's in the second, and so on."""

    def change(outputs: Tensor) -> Tensor:
        changed = outputs.clone()
        copies = changed.unflatten(0, (len(heads), -1))  # (C, B, T, N, D), the same memory
        for copy, head in enumerate(heads):
            copies[copy, :, :, head] = mean[head].to(outputs)
        return changed

    return change


def _predicted(model: PreTrainedModel, ids: Tensor) -> _Predicted:
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    losses, rights = [], []
    for ahead, right in zip(logits, ids[:, 1:], strict=True):  # text by text: a second copy of all logits is large
        wide = ahead.to(torch.promote_types(ahead.dtype, torch.float32))
        losses.append(torch.nn.functional.cross_entropy(wide, right, reduction="none"))
        rights.append((wide.argmax(-1) == right).to(wide.dtype))
    return _Predicted(torch.stack(losses), torch.stack(rights))

"""Direct effects of heads on logits, recorded during one forward pass that needs no logits.

A head writes to the residual stream, and the unembedding reads it there through the final norm. With the norm's scale
frozen, logits are linear in what heads write, so that the direct effect of a head is a product of its output with the
unembedding (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"). The scale is known only at the end
of the pass: effects are recorded before the division, one number for each row, and divided then. Biases belong to no
head and are left out. Logits that the model caps count as they are before.

Let w(i, j) be what a head writes at row i from the value of token j alone, and f(t) the effect of a vector on the centred
logit of token t: its logit minus the mean logit. In row i, a head's

* effect on the next token is the sum over j of A[i, j] f(x[i + 1]) w(i, j), so that of its whole output;
* effect on the attended tokens is the sum over j of A[i, j] f(x[j]) w(i, j): each token's value counts for the logit of
  that token alone.

Shapes: B texts of T tokens, N query heads, D head_dim, M hidden_size, U distinct tokens of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from headway.attention.attention import Attention, Padding
from headway.attention.kernels import widened
from headway.attention.needs import Needs
from headway.models.norms import norm_of

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from headway.models.paths import Paths


@dataclass
class Effects:
    """Direct effects of one layer's heads, in logits: one number for each text, head and row.

    Attributes:
        values: (B, N, rows) for the first rows of T: T - 1 of them for the next token, or T.
        n_tokens: T, of the longest text.
        padding: which rows of shorter texts `mean` leaves out; None if all texts are of T tokens.
    """

    values: Tensor
    n_tokens: int
    padding: Padding | None = None

    @property
    def lengths(self) -> Tensor | int:
        """Each text's number of tokens: (B, 1), or T if all are of one length."""
        return self.n_tokens if self.padding is None else self.padding.lengths

    def mean(self, values: Tensor) -> Tensor:
        """Mean of `values` (B, N, rows) over the rows of each text: (B, N)."""
        if self.padding is None:
            return values.mean(-1)
        rows = values.shape[-1]
        count = self.padding.lengths - (self.n_tokens - rows)
        outside = torch.arange(rows, device=values.device) >= count
        return values.masked_fill(outside[:, None], 0.0).sum(-1) / count

    def of(self, texts: slice, n_tokens: int) -> Effects:
        """Effects of some of the texts, cut to their first tokens."""
        return Effects(self.values[texts, :, : n_tokens - self.n_tokens + self.values.shape[-1]], n_tokens)


class Recorder:
    """Records the direct effects of all heads while a model reads batches of texts.

    Args:
        needs: which effects are recorded.
    """

    def __init__(self, paths: Paths, needs: Collection[Needs]) -> None:
        self._paths, self._needs = paths, [need for need in Needs if need in needs]
        self._found: dict[tuple[int, Needs], Tensor] = {}
        self._scales: dict[int | None, Tensor] = {}  # of the final norm (None), and of norms after attention
        self._ids = self._directions = torch.empty(0)

    @contextmanager
    def recording(self, model: PreTrainedModel) -> Iterator[None]:
        """While the block runs, keep the scales of the norms that effects go through."""
        layers = range(self._paths.geometry.n_layers)
        norms: dict[int | None, nn.Module | None] = {layer: self._paths.output_norm(layer) for layer in layers}
        norms[None] = self._paths.final_norm
        handles = [
            norm.register_forward_pre_hook(self._keep(place, norm)) for place, norm in norms.items() if norm is not None
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _keep(self, place: int | None, module: nn.Module) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        norm = norm_of(module)

        def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            self._scales[place] = norm.scale(args[0])

        return keep

    def begin(self, ids: np.ndarray) -> None:
        """Forget what was recorded, and prepare for a batch of token ids (B, T)."""
        self._found.clear()
        tokens, numbers = np.unique(ids, return_inverse=True)
        device = self._centred_unembedding_mean.device
        self._ids = torch.from_numpy(numbers.reshape(ids.shape)).to(device)
        rows = widened(self._paths.unembedding[torch.from_numpy(tokens).to(device)])
        self._directions = self._paths.readout(rows - self._centred_unembedding_mean)  # (U, M)

    @cached_property
    def _centred_unembedding_mean(self) -> Tensor:
        return widened(self._paths.unembedding).mean(0)

    def record(self, layer: int, attention: Attention) -> None:
        """Record the effects of one layer's heads, before the division by scales."""
        writes = widened(self._paths.writes(layer))
        reach = (self._directions @ writes.flatten(0, 1).T).unflatten(1, writes.shape[:2])  # (U, N, D)
        of_tokens = reach[self._ids].transpose(1, 2)  # (B, N, T, D): the effect of each dimension on each token's logit
        for need in self._needs:
            if need is Needs.NEXT_TOKEN:
                found = (widened(attention.output[:, :, :-1]) * of_tokens[:, :, 1:]).sum(-1)
            else:
                found = attention.averaged((widened(attention.values) * of_tokens).sum(-1))
            self._found[layer, need] = found

    def effects(self, layer: int, need: Needs, padding: Padding | None) -> Effects:
        """The effects of one layer's heads, after the batch was read."""
        values = self._found[layer, need]
        for place in (None, layer):
            if place in self._scales:
                values = values / self._scales[place][:, None, : values.shape[-1]]
        return Effects(values, self._ids.shape[1], padding)

"""Eigenvalues of the full circuits of heads, from weights alone, computed in the head's own dimension.

The full OV circuit of a head is W_U W_O W_V W_E, and its full QK circuit W_E' W_Q' W_K W_E (Elhage et al. 2021, "A
Mathematical Framework for Transformer Circuits"): V × V matrices of the logits that each token gives to each other one, as
output or as attention. Their nonzero eigenvalues are those of a D × D matrix, because AB and BA have the same ones. What
embedding and unembedding contribute to it, W_E W_U and W_E W_E', is M × M and the same for all heads.

Attention does not change if all keys move by one vector. So the mean key is left out of QK circuits: else a head that adds
the same to all logits, such as one that attends by position, would seem to prefer equal tokens.

Gains and centring of norms are folded into the weights. Their scales, which differ between texts, are left out, and so are
biases, positions and everything that other layers write. Rotary positions are those of a token attending to itself.

Shapes: N query heads, D head_dim, M hidden_size, V tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import torch

from headway.attention.kernels import widened
from headway.attention.needs import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from headway.models.paths import Paths

_AT_ONCE = 8192  # tokens whose embeddings are widened at a time
_ROUNDING = float(torch.finfo(torch.float32).eps)  # of stored weights


def eigenvalues(paths: Paths, needs: Collection[Needs]) -> Iterator[dict[Needs, Tensor]]:
    """Yield the eigenvalues of the circuits of each layer's heads: complex128 (N, D) on the CPU.

    The eigenvalues of a head whose circuit is no larger than the rounding of its weights are 0.

    Args:
        needs: `Needs.OV`, `Needs.QK` or both.
    """
    between: dict[Needs, Tensor] = {}
    if Needs.OV in needs:
        between[Needs.OV] = paths.readout(products(paths.embedding, paths.unembedding))
    if Needs.QK in needs:
        mean = paths.embedding.double().mean(0)
        between[Needs.QK] = products(paths.embedding, paths.embedding) - len(paths.embedding) * mean.outer(mean)
    for layer in range(paths.geometry.n_layers):
        yield {need: _of_layer(paths, layer, need, between[need]) for need in between}


def products(left: Tensor, right: Tensor) -> Tensor:
    """left' right for two matrices (V, M): (M, M) in float64.

    Float32 weights are multiplied in float32, twice as fast, and the parts are summed in float64.
    """
    parts = zip(left.split(_AT_ONCE), right.split(_AT_ONCE), strict=True)
    total = left.new_zeros(left.shape[1], right.shape[1], dtype=torch.float64)
    for one, other in parts:
        total += widened(one).T @ widened(other)
    return total


def _of_layer(paths: Paths, layer: int, need: Needs, between: Tensor) -> Tensor:
    if need is Needs.OV:
        reads, writes = paths.reads("v", layer), paths.writes(layer)
    else:
        reads, writes = paths.reads("k", layer), paths.reads("q", layer)
    reads, writes = reads.double(), writes.double()
    matrices = reads @ between @ writes.transpose(1, 2)  # (N, D, D)
    if not matrices.isfinite().all():
        return torch.full(matrices.shape[:2], torch.nan, dtype=torch.complex128)
    found: Tensor = torch.linalg.eigvals(matrices.cpu())
    # Of random directions, eigenvalues are about 1 / (M sqrt(D)) of this product of norms, far above its rounding.
    size = (reads.flatten(1).norm(dim=1) * between.norm() * writes.flatten(1).norm(dim=1)).cpu()
    return found.masked_fill((found.abs().sum(-1) <= found.shape[1] * _ROUNDING * size)[:, None], 0)

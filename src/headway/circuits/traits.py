"""Weight features of heads that do not depend on any basis: neither inside a head nor of the residual stream.

Two runs of different seeds have different bases of the residual stream, and each head has its own inside. The circuits
C = W_Q' W_K (what queries and keys match) and C = W_V' W_O (what is read and then written) keep their singular values and
eigenvalues under rotations of both, and so do the shares that they read of the token embeddings. These features compare heads of
different runs (`Traits`).

Each circuit C = A' B has rank D, so that all is computed from D × D matrices: its nonzero eigenvalues are those of B A', and
‖C X‖ = ‖(A A')^½ B X‖.

Gains and centring of norms are folded into the weights. Rotary positions are those of a token that attends to itself.
Scales of norms and biases are left out.

Shapes: N query heads, D head_dim, M hidden_size, V tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from headway.attention.circuits import products
from headway.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from headway.models.paths import Paths

_CIRCUITS = {"qk": ("q", "k"), "ov": ("v", "o")}  # A and B of C = A' B


@torch.inference_mode()
def traits(paths: Paths) -> Iterator[dict[str, Tensor]]:
    """Yield the weight features of each layer's heads: float64 (N,) for each column of
    `tables.HEAD_FEATURES`, NaN for a head without weights.

    Raises:
        UnsupportedModel: headway does not know the model's weights, or they do not say what heads read.
        UsageError: the model has no unembedding.
        CheckpointError: a weight is not finite.
    """
    embedded = _covariance(paths.embedding)
    unembedded = paths.readout(paths.readout(_covariance(paths.unembedding)).mT)  # F' Σ F of the folded norm F
    for layer in range(paths.geometry.n_layers):
        rows = {kind: paths.reads(kind, layer).double() for kind in "qkv"} | {"o": paths.writes(layer).double()}
        if not all(one.isfinite().all() for one in rows.values()):
            raise CheckpointError(f"weights of layer {layer} are not finite: the run diverged, or they are damaged")
        found: dict[str, Tensor] = {}
        for circuit, (first, second) in _CIRCUITS.items():
            ends = (embedded, unembedded if second == "o" else embedded)
            of = circuit_traits(rows[first], rows[second], *ends)
            found |= {f"{circuit}_{name}": value for name, value in of.items()}
        yield found


def _covariance(tokens: Tensor) -> Tensor:
    """The covariance of tokens' rows (V, M), up to a factor: (M, M)."""
    mean = tokens.double().mean(0)
    return products(tokens, tokens) - len(tokens) * mean.outer(mean)


def circuit_traits(first: Tensor, second: Tensor, read: Tensor, written: Tensor) -> dict[str, Tensor]:
    """The features of the circuits C = first' second, by the names of `tables.FEATURES_OF_CIRCUITS`: (N,) each.

    Args:
        first, second: float64 (N, D, M).
        read, written: covariances (M, M) of the tokens on both sides.
    """
    roots = _root(first @ first.mT), _root(second @ second.mT)
    squares = torch.linalg.svdvals(roots[0] @ roots[1]) ** 2
    total = squares.sum(-1)
    shares = squares / total[:, None]
    matrices = second @ first.mT
    values = torch.linalg.eigvals(matrices)
    return {
        "size": total.log() / 2,
        "rank": -torch.xlogy(shares, shares).sum(-1),
        "top": shares[:, 0],
        "symmetry": torch.einsum("nde,ned->n", matrices, matrices) / total,
        "sign": values.real.sum(-1) / values.abs().sum(-1),
        "first_tokens": _share(roots[1] @ first, read),
        "second_tokens": _share(roots[0] @ second, written),
    }


def _root(grams: Tensor) -> Tensor:
    """The symmetric square roots of positive semidefinite matrices (N, D, D)."""
    values, vectors = torch.linalg.eigh(grams)
    found: Tensor = (vectors * values.clamp_min(0).sqrt()[:, None]) @ vectors.mT
    return found


def _share(rows: Tensor, covariance: Tensor) -> Tensor:
    """log of ‖R Σ^½‖² / (‖R‖² tr Σ / M) for rows R (N, D, M): 0 for directions that are no different from random ones."""
    read: Tensor = torch.einsum("ndm,ndm->n", rows @ covariance, rows)
    even = rows.square().sum((1, 2)) * covariance.trace() / len(covariance)
    return read.log() - even.log()

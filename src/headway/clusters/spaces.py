"""Heads of one layer as points: their distances, and null draws of heads without structure in the same space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headway.clusters.kmeans import Floats, Ints
from headway.errors import CheckpointError, UsageError

# (generator, n) -> (n, H, H) squared distances in n draws
Draw = Callable[[np.random.Generator, int], Floats]
N_BLOCKS = 64


class Units(Protocol):
    """Heads of norm 1 in random directions. It is hashable, so that spaces of the same shape share draws.

    Attributes:
        n_heads: number of heads.
        exchangeable: whether any n heads have the same distribution as any other n.
    """

    @property
    def n_heads(self) -> int: ...
    @property
    def exchangeable(self) -> bool: ...
    def __hash__(self) -> int: ...
    def draw(self, random: np.random.Generator, n: int) -> Floats:
        """(n, H, H) squared distances."""


@dataclass(frozen=True)
class UnitHeads:
    """Unit vectors in the directions of independent normal weights."""

    n_columns: int
    n_heads: int
    exchangeable: bool = True

    def draw(self, random: np.random.Generator, n: int) -> Floats:
        return random_heads(random, n, self.n_columns, self.n_heads, np.ones(self.n_heads))


@dataclass(frozen=True)
class HeadSpace:
    """H heads and their distances under one feature.

    Attributes:
        squared_distances: (H, H).
        gram: (H, H) inner products of the heads as points.
        norms: (H,) Frobenius norms of the heads' matrices.
        n_columns: dimensions of the space, such as the weights of a head or its singular values.
        resolution: heads with a squared distance of at most this are equal up to rounding.
        directions: draws heads of the same norms in random directions.
        initial: draws heads of independent normal weights of one variance, as in an untrained model.
        units: draws heads of norm 1 in random directions.
        blocks: (n_blocks, H, H) inner products within each block of columns, for permutations. None if the columns depend
            on each other, because a permutation would then be meaningless.
    """

    squared_distances: Floats
    gram: Floats
    norms: Floats
    n_columns: int
    resolution: float
    directions: Draw
    initial: Draw
    units: Units
    blocks: Floats | None = None

    @property
    def n_heads(self) -> int:
        return len(self.norms)

    @property
    def alike(self) -> bool:
        """Whether `directions` and `initial` are the same draws, because heads have no norms."""
        return self.initial is self.directions

    @property
    def n_distinct(self) -> int:
        """Number of distinct heads. Heads that are equal up to rounding count once."""
        return self.n_distinct_among(np.arange(self.n_heads))

    def n_distinct_among(self, heads: Ints) -> int:
        """`n_distinct` of some of the heads, which are given by their indices."""
        equal = self.squared_distances[heads[:, None], heads] <= self.resolution
        return int((~np.tril(equal, -1).any(axis=1)).sum())

    @property
    def all_equal(self) -> bool:
        """Whether there are several heads and all are copies of one."""
        return self.n_heads > 1 and self.n_distinct == 1


def raw_space(weights: NDArray[np.floating], where: str = "the weights") -> HeadSpace:
    """Space of flattened head matrices, as in "Pythia clustering dynamics".

    Args:
        weights: (H, ..., columns), any shape per head. Blocks are made along the last axis, which for Q, K, V and O is the
            residual stream.
        where: names the weights in errors.

    Raises:
        UsageError: there are no heads, or heads without weights.
        CheckpointError: weights are NaN or infinite.
    """
    if weights.ndim < 2 or not weights.size:
        raise UsageError(f"{where} have shape {weights.shape}, but clustering needs heads with weights")
    n_heads, n_columns = len(weights), weights[0].size
    blocks = _block_products(weights.reshape(n_heads, -1, weights.shape[-1]))
    gram = blocks.sum(axis=0)
    if not np.isfinite(gram).all():
        raise CheckpointError(f"{where} hold NaN or infinite values. The checkpoint is damaged, or training diverged")
    norms = np.sqrt(np.diag(gram))
    return HeadSpace(
        squared_distances=distances_of(gram),
        gram=gram,
        norms=norms,
        n_columns=n_columns,
        resolution=resolution_of(norms),
        directions=lambda random, n: random_heads(random, n, n_columns, n_heads, norms),
        initial=lambda random, n: random_heads(random, n, n_columns, n_heads),
        units=UnitHeads(n_columns, n_heads),
        blocks=blocks,
    )


def resolution_of(norms: Floats) -> float:
    """Rounding error of the squared distance of two equal heads in double precision, with a margin for long sums."""
    return 1e-12 * float(np.max(norms)) ** 2


def _block_products(weights: NDArray[np.floating]) -> Floats:
    """(n_blocks, H, H) inner products of heads (H, rows, columns) over each block of columns."""
    n_heads, _, n_columns = weights.shape
    edges = np.linspace(0, n_columns, min(N_BLOCKS, n_columns) + 1).astype(int)
    products = []
    for start, stop in pairwise(edges):
        block = weights[:, :, start:stop].astype(np.float64, order="C").reshape(n_heads, -1)
        products.append(block @ block.T)
    return np.stack(products)


def distances_of(gram: Floats) -> Floats:
    """(..., H, H) squared distances from inner products: G_ii + G_jj - 2 G_ij."""
    square = np.diagonal(gram, axis1=-2, axis2=-1)
    distances = square[..., :, None] + square[..., None, :] - 2 * gram
    np.maximum(distances, 0, out=distances)
    heads = np.arange(gram.shape[-1])
    distances[..., heads, heads] = 0
    return distances


def unit_distances(gram: Floats) -> Floats:
    """(..., H, H) squared distances between the heads' directions, 2 - 2 cos, from inner products."""
    norms = np.sqrt(np.diagonal(gram, axis1=-2, axis2=-1))
    return distances_of(gram / (norms[..., :, None] * norms[..., None, :]))


def random_heads(
    random: np.random.Generator, n: int, n_columns: int, n_heads: int, norms: Floats | None = None
) -> Floats:
    """(n, H, H) squared distances of heads of independent normal weights, scaled to `norms` if given.

    The distribution is exact, although no weights are drawn. The inner products of H normal vectors of D columns are
    Wishart, and so is A A' for a lower triangular A of standard normals with chi(D - i) on its diagonal (Bartlett 1933).
    With fewer columns than heads the weights themselves are drawn.
    """
    if n_columns < n_heads:
        rows = random.standard_normal((n, n_heads, n_columns))
    else:
        rows = bartlett(random, n, n_columns, n_heads)
    if norms is not None:
        rows *= (norms / np.linalg.norm(rows, axis=-1))[..., None]
    return distances_of(rows @ rows.transpose(0, 2, 1))


def bartlett(random: np.random.Generator, n: int, n_columns: int, n_rows: int) -> Floats:
    """(n, n_rows, n_rows) lower triangular A. A A' has the distribution of W W' for a normal W (n_rows, n_columns)."""
    triangle = np.tril(random.standard_normal((n, n_rows, n_rows)), -1)
    rows = np.arange(n_rows)
    triangle[:, rows, rows] = np.sqrt(random.chisquare(n_columns - rows, size=(n, n_rows)))
    return triangle


def permuted(blocks: Floats, random: np.random.Generator, n: int) -> Floats:
    """(n, H, H) inner products after permuting the heads independently within each block of columns.

    This destroys what a head's blocks have in common, and keeps the values of each column.
    """
    n_heads = blocks.shape[-1]
    gram = np.zeros((n, n_heads, n_heads))
    heads = np.tile(np.arange(n_heads), (n, 1))
    for block in blocks:
        order = random.permuted(heads, axis=1)
        # Positions in the flat block. Indices of both axes would take three times as long.
        gram += block.take(order[:, :, None] * n_heads + order[:, None, :])
    return gram


def rotated(gram: Floats, random: np.random.Generator, n: int, labels: Ints | None = None) -> Floats:
    """(n, H, H) inner products after mixing the heads by a random rotation that keeps their mean.

    With `labels` (H,) it keeps the mean of every cluster. Heads from one Gaussian, of any covariance, are as likely as any
    such mixture of them (Langsrud 2005). The draws keep the observed spectrum exactly, so no covariance is estimated from
    few heads. With labels the same holds for clusters that differ only in their means.
    """
    n_heads = len(gram)
    design = np.ones((n_heads, 1)) if labels is None else (labels[:, None] == np.unique(labels)).astype(np.float64)
    basis, _ = np.linalg.qr(design, mode="complete")
    kept, free = basis[:, : design.shape[1]], basis[:, design.shape[1] :]
    mixed, triangle = np.linalg.qr(random.standard_normal((n, free.shape[1], free.shape[1])))
    # Without these signs the rotation is not uniformly distributed (Mezzadri 2007).
    mixed *= np.sign(np.diagonal(triangle, axis1=-2, axis2=-1))[:, None, :]
    rotation = kept @ kept.T + free @ mixed @ free.T
    return rotation @ gram @ rotation.transpose(0, 2, 1)


@dataclass(frozen=True)
class Principal:
    """Principal coordinates: the heads in the at most H - 1 dimensions that they span.

    Attributes:
        coordinates: (H, r), centred, in descending order of variance. Each column's largest entry is positive.
        explained: (r,) shares of the variance.
    """

    coordinates: Floats
    explained: Floats


def principal_coordinates(squared_distances: Floats) -> Principal:
    """Coordinates that have these distances (Torgerson 1952). For raw weights they are PCA scores."""
    n_heads = len(squared_distances)
    centre = np.eye(n_heads) - 1 / n_heads
    values, vectors = np.linalg.eigh(-0.5 * centre @ squared_distances @ centre)
    values, vectors = values[:0:-1].clip(min=0), vectors[:, :0:-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(n_heads - 1)])
    total = values.sum()
    return Principal(vectors * signs * np.sqrt(values), values / total if total > 0 else values)

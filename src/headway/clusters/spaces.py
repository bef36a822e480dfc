"""The heads of one layer as points: their distances, and how heads without structure would lie in the same space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headway.clusters.kmeans import Floats, Ints
from headway.errors import CheckpointError, UsageError

# (generator, n) -> (n, H, H) squared distances of n draws
Draw = Callable[[np.random.Generator, int], Floats]
N_BLOCKS = 64


class Units(Protocol):
    """Heads of norm 1 in random directions. Hashable: spaces of one shape share their draws.

    Attributes:
        n_heads: how many.
        exchangeable: any n of them are distributed as any other n.
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
    """The unit vectors of independent normal weights."""

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
        n_columns: dimensions of the space the heads were described in: weights of a head, singular values, ...
        resolution: squared distances up to this one are rounding: such heads are equal.
        directions: draws heads of the same norms in random directions.
        initial: draws heads of independent normal weights of one variance, as a fresh model has.
        units: draws heads of norm 1 in random directions.
        blocks: (n_blocks, H, H) inner products within each block of columns, for permutations; None where the columns
            depend on each other, so that a permutation would mean nothing.
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
        """Whether both nulls are the same draws: where heads have no norms."""
        return self.initial is self.directions

    @property
    def n_distinct(self) -> int:
        """How many heads are left when copies of a head count once; what rounding makes of equal heads is equal."""
        earlier = np.tril(self.squared_distances <= self.resolution, -1)
        return int((~earlier.any(axis=1)).sum())

    @property
    def all_equal(self) -> bool:
        """Whether there are several heads, all of them copies of one."""
        return self.n_heads > 1 and self.n_distinct == 1


def raw_space(weights: NDArray[np.floating], where: str = "the weights") -> HeadSpace:
    """Heads as their flattened matrices, as the published study took them.

    Args:
        weights: (H, ..., columns), any shape per head. Blocks are made along the last axis, which for Q, K, V and O
            are the dimensions of the residual stream.
        where: names them in errors.

    Raises:
        UsageError: no heads, or heads without weights.
        CheckpointError: NaN or infinite weights.
    """
    if weights.ndim < 2 or not weights.size:
        raise UsageError(f"{where} have shape {weights.shape}: clusters need heads, each with weights")
    n_heads, n_columns = len(weights), weights[0].size
    blocks = _block_products(weights.reshape(n_heads, -1, weights.shape[-1]))
    gram = blocks.sum(axis=0)
    if not np.isfinite(gram).all():
        raise CheckpointError(f"{where} hold NaN or infinite values: the checkpoint is damaged, or training diverged")
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
    """What double precision leaves of the squared distance of two equal heads, with room for long sums."""
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

    Exact, without drawing the weights: the inner products of H normal vectors of D columns are Wishart, and A A' is
    Wishart for a lower triangular A of standard normals with chi(D - i) on its diagonal (Bartlett 1933). With fewer
    columns than heads the weights themselves are drawn.
    """
    if n_columns < n_heads:
        rows = random.standard_normal((n, n_heads, n_columns))
    else:
        rows = bartlett(random, n, n_columns, n_heads)
    if norms is not None:
        rows *= (norms / np.linalg.norm(rows, axis=-1))[..., None]
    return distances_of(rows @ rows.transpose(0, 2, 1))


def bartlett(random: np.random.Generator, n: int, n_columns: int, n_rows: int) -> Floats:
    """(n, n_rows, n_rows) lower triangular A with A A' distributed as W W' of a normal W (n_rows, n_columns)."""
    triangle = np.tril(random.standard_normal((n, n_rows, n_rows)), -1)
    rows = np.arange(n_rows)
    triangle[:, rows, rows] = np.sqrt(random.chisquare(n_columns - rows, size=(n, n_rows)))
    return triangle


def permuted(blocks: Floats, random: np.random.Generator, n: int) -> Floats:
    """(n, H, H) inner products after the heads are permuted within each block of columns, independently.

    What heads share across blocks is destroyed, what each column holds is kept.
    """
    n_heads = blocks.shape[-1]
    gram = np.zeros((n, n_heads, n_heads))
    heads = np.tile(np.arange(n_heads), (n, 1))
    for block in blocks:
        order = random.permuted(heads, axis=1)
        gram += block[order[:, :, None], order[:, None, :]]
    return gram


def rotated(gram: Floats, random: np.random.Generator, n: int, labels: Ints | None = None) -> Floats:
    """(n, H, H) inner products after the heads are mixed by a random rotation that keeps their mean, or with `labels` (H,)
    the mean of every cluster.

    Heads drawn from one Gaussian, of whatever covariance, are as likely to be any such mixture of themselves (Langsrud
    2005): the draws keep the observed spectrum exactly, so that nothing has to be estimated from few heads. With labels
    the same holds of clusters that differ in their means alone.
    """
    n_heads = len(gram)
    design = np.ones((n_heads, 1)) if labels is None else (labels[:, None] == np.unique(labels)).astype(np.float64)
    basis, _ = np.linalg.qr(design, mode="complete")
    kept, free = basis[:, : design.shape[1]], basis[:, design.shape[1] :]
    mixed, triangle = np.linalg.qr(random.standard_normal((n, free.shape[1], free.shape[1])))
    # Without these signs the factor is not uniform (Mezzadri 2007).
    mixed *= np.sign(np.diagonal(triangle, axis1=-2, axis2=-1))[:, None, :]
    rotation = kept @ kept.T + free @ mixed @ free.T
    return rotation @ gram @ rotation.transpose(0, 2, 1)


@dataclass(frozen=True)
class Principal:
    """Principal coordinates: the heads in the at most H - 1 dimensions that they span.

    Attributes:
        coordinates: (H, r), centred, of falling variance; each column's largest entry is positive.
        explained: (r,) shares of the variance.
    """

    coordinates: Floats
    explained: Floats


def principal_coordinates(squared_distances: Floats) -> Principal:
    """Coordinates with these distances (Torgerson 1952); for raw weights, the scores of a PCA."""
    n_heads = len(squared_distances)
    centre = np.eye(n_heads) - 1 / n_heads
    values, vectors = np.linalg.eigh(-0.5 * centre @ squared_distances @ centre)
    values, vectors = values[:0:-1].clip(min=0), vectors[:, :0:-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(n_heads - 1)])
    total = values.sum()
    return Principal(vectors * signs * np.sqrt(values), values / total if total > 0 else values)

"""Circuits of heads: the quantities that do not depend on the basis inside a head.

Queries and keys of a head interact only in Q'K, and values and output only in O'V. These matrices (hidden × hidden, rank
head_dim) do not change under any change of basis inside the head that the architecture allows. Two features of a circuit
are used: its singular values, and the subspaces that it reads from and writes to. For QK these are the subspaces that the
query side and the key side read from.

Rotary positions rotate queries and keys between Q and K: at a distance of m tokens the circuit is Q' R_m K. The features
are computed for m = 0, a token attending to itself. The subspaces are the same for every m; the singular values are not.
Biases, the gains of the layer norm before the head, and norms of queries and keys are not included.

Legend: H heads, d head_dim, N hidden_size, G key-value heads, each shared by H / G heads.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headway.clusters.kmeans import Floats, Ints
from headway.clusters.spaces import HeadSpace, bartlett, distances_of, resolution_of

_RANK_TOLERANCE = 1e-10  # for eigenvalues of W W', so 1e-5 for singular values: the precision of float32 weights
_SAFE_PIVOT = 1e-3  # smallest pivot of a Cholesky factor over its largest, above which the rank is certainly full
_N_SPECTRA = 600  # size of the pool of random circuits from which null draws are combined
_N_FRAMES = 40


class Side(NamedTuple):
    """One of the two matrices of each head's circuit, written as W = root' F, where F has orthonormal rows.

    F is as large as all the heads' weights and twice as wide in double precision, so it is made a head at a time.

    Attributes:
        root: (H, d, d) with root' root = W W'.
        whitening: (H, d, d) with F = whitening W. Rows beyond the rank are zero.
        weights: (G, d, N) the matrices W as they were given.
        of: (H,) which of the matrices is each head's.
        norms: (H,) Frobenius norms.
    """

    root: Floats
    whitening: Floats
    weights: NDArray[np.floating]
    of: Ints
    norms: Floats

    @property
    def shape(self) -> tuple[int, int, int]:
        """H, d, N."""
        return (len(self.of), *self.weights.shape[1:])

    def without_weights(self) -> Side:
        """The same side, whose spectra are known but whose frames are not."""
        return self._replace(weights=np.empty((0, *self.weights.shape[1:]), self.weights.dtype))

    def frame(self, head: int) -> Floats:
        """(d, N) orthonormal rows that span the rows of a head's W."""
        return np.asarray(self.whitening[head] @ self.weights[self.of[head]].astype(np.float64), dtype=np.float64)


def side_of(weights: NDArray[np.floating]) -> Side:
    """Decompose the heads' matrices (H, d, N) into one side of a circuit."""
    in_double = (head.astype(np.float64) for head in weights)
    gram = np.stack([head @ head.T for head in in_double])
    norms = np.sqrt(np.trace(gram, axis1=1, axis2=2))
    root, whitening = _factors(gram)
    return Side(root, whitening, weights, np.arange(len(weights)), norms)


def _factors(gram: Floats) -> tuple[Floats, Floats]:
    """`root` and `whitening` of matrices with these inner products (H, d, d)."""
    with suppress(np.linalg.LinAlgError):
        lower = np.asarray(np.linalg.cholesky(gram), dtype=np.float64)
        pivots = np.diagonal(lower, axis1=1, axis2=2)
        if (pivots.min(axis=1) > _SAFE_PIVOT * pivots.max(axis=1)).all():
            return lower.transpose(0, 2, 1), np.asarray(np.linalg.inv(lower), dtype=np.float64)
    return _factors_by_rank(gram)


def _factors_by_rank(gram: Floats) -> tuple[Floats, Floats]:
    """The same for matrices that may lack full rank, by eigenvalues. This is slower than Cholesky factors."""
    values, vectors = np.linalg.eigh(gram)
    values = values.clip(min=0)
    kept = values > _RANK_TOLERANCE * values.max(axis=1, keepdims=True)
    inverse = np.zeros_like(values)
    np.divide(1, np.sqrt(values), out=inverse, where=kept)
    root, whitening = ((vectors * scale[:, None, :]).transpose(0, 2, 1) for scale in (np.sqrt(values), inverse))
    return root, whitening


def shared(side: Side, n_heads: int) -> Side:
    """A side of G key-value heads for the H heads that share them."""
    times = n_heads // len(side.norms)
    if times == 1:
        return side
    return Side(
        np.repeat(side.root, times, axis=0),
        np.repeat(side.whitening, times, axis=0),
        side.weights,
        np.repeat(side.of, times),
        np.repeat(side.norms, times),
    )


def spectra(left: Side, right: Side) -> Floats:
    """(H, min(d, N)) singular values of each head's circuit left' right, in descending order.

    Since W = U' root' up to a rotation, they equal the singular values of root_left root_right'.
    """
    rank = min(left.shape[1:])
    return _singular_values(left.root @ right.root.transpose(0, 2, 1))[:, :rank]


def _singular_values(matrices: Floats) -> Floats:
    return np.asarray(np.linalg.svd(matrices, compute_uv=False), dtype=np.float64)


def overlaps(side: Side) -> Floats:
    """(H, H) sums of squared cosines of the principal angles between heads' subspaces: |F_i F_j'|²."""
    matrices, first = np.unique(side.of, return_index=True)  # heads that share a matrix have the same frame
    place = np.searchsorted(matrices, side.of)
    return _overlaps(_rows((side.frame(int(head)) for head in first), len(first), side.shape))[np.ix_(place, place)]


def _rows(frames: Iterable[Floats], n_heads: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Frames (d, N) of heads, one after the other, as (n_heads, d, N) in float32."""
    rows = np.empty((n_heads, *shape[-2:]), dtype=np.float32)
    for row, frame in zip(rows, frames, strict=True):
        row[:] = frame
    return rows


def _overlaps(rows: NDArray[np.float32]) -> Floats:
    """`overlaps` of frames (H, d, N).

    Computed in float32 for speed, because this product dominates for many heads. Distances are accurate to about 1e-6.
    All products at once would be as large as the weights themselves, so they are made for one head after the other.
    """
    n_heads, d, n = rows.shape
    found = np.empty((n_heads, n_heads))
    for head in range(n_heads):
        cosines = rows[head] @ rows[head:].reshape(-1, n).T
        np.square(cosines, out=cosines)
        found[head, head:] = cosines.reshape(d, -1, d).sum(axis=2, dtype=np.float64).sum(axis=0)
        found[head:, head] = found[head, head:]
    return found


def spectrum_space(left: Side, right: Side, n_kv_heads: int) -> HeadSpace:
    """Space in which a head is described by the singular values of its circuit."""
    values = spectra(left, right)
    norms = np.linalg.norm(values, axis=1)
    n_heads, d, n = left.shape
    shape = _Shape(n_heads, n_kv_heads, d, n)
    return HeadSpace(
        squared_distances=distances_between(values),
        gram=values @ values.T,
        norms=norms,
        n_columns=values.shape[1],
        resolution=resolution_of(norms),
        directions=partial(_random_spectra, shape, norms=left.norms * right.norms),
        initial=partial(_initial_spectra, shape),
        units=UnitSpectra(shape),
    )


def subspace_space(left: Side, right: Side, n_kv_heads: int) -> HeadSpace:
    """Space in which a head is described by the two subspaces of its circuit.

    Subspaces have no norms, so the nulls `directions` and `initial` are the same.
    """
    n_heads, d, n = left.shape
    shape = _Shape(n_heads, n_kv_heads, d, n)
    draw = partial(_random_subspaces, shape)
    shared_parts = (overlaps(left) + overlaps(right)) / (4 * d)
    return HeadSpace(
        squared_distances=distances_of(shared_parts),
        gram=shared_parts,
        norms=np.linalg.norm(spectra(left, right), axis=1),
        n_columns=1,
        resolution=1e-5,  # `overlaps` is computed in float32
        directions=draw,
        initial=draw,
        units=UnitSubspaces(shape),
    )


def distances_between(points: Floats) -> Floats:
    """(H, H) squared distances of points (H, columns), by differences, which are exact for nearly equal points."""
    return ((points[:, None] - points[None]) ** 2).sum(axis=-1)


class _Shape(NamedTuple):
    n_heads: int
    n_kv_heads: int
    d: int
    n: int


@dataclass(frozen=True)
class _Units:
    """What the two kinds of units know of their shape."""

    shape: _Shape

    @property
    def n_heads(self) -> int:
        return self.shape.n_heads

    @property
    def exchangeable(self) -> bool:
        return self.shape.n_kv_heads == self.shape.n_heads


class UnitSpectra(_Units):
    """Spectra of circuits of matrices in random directions, each scaled to norm 1."""

    def draw(self, random: np.random.Generator, n: int) -> Floats:
        values = _pooled_spectra(self.shape, random, n)
        values /= np.linalg.norm(values, axis=-1, keepdims=True)
        return distances_of(values @ values.transpose(0, 2, 1))


class UnitSubspaces(_Units):
    """Pairs of random subspaces, which all have the same norm."""

    def draw(self, random: np.random.Generator, n: int) -> Floats:
        return _random_subspaces(self.shape, random, n)


def _random_spectra(shape: _Shape, random: np.random.Generator, n: int, norms: Floats) -> Floats:
    """Distances of circuits of matrices in random directions, scaled to norms (H,) or (n, H)."""
    values = _pooled_spectra(shape, random, n) * norms[..., None]
    return distances_of(values @ values.transpose(0, 2, 1))


def _pooled_spectra(shape: _Shape, random: np.random.Generator, n: int) -> Floats:
    """(n, H, d) spectra, drawn from the pool without replacement."""
    pool = _spectrum_pool(shape)
    order = random.random((n, len(pool))).argsort(axis=1)[:, : shape.n_kv_heads]
    return pool[order].reshape(n, shape.n_heads, -1)


def _initial_spectra(shape: _Shape, random: np.random.Generator, n: int) -> Floats:
    """Distances of circuits of independent normal weights. Their norms are chi-distributed, independent of directions."""
    own, common = (random.chisquare(shape.d * shape.n, (n, heads)) for heads in (shape.n_heads, shape.n_kv_heads))
    norms = np.sqrt(own * np.repeat(common, shape.n_heads // shape.n_kv_heads, axis=1))
    return _random_spectra(shape, random, n, norms)


@lru_cache(maxsize=8)
def _spectrum_pool(shape: _Shape) -> Floats:
    """(n, H / G, d) spectra of groups of heads that share one matrix. Each matrix has norm 1.

    The singular values of W'V, for normal W and V (d, N), have the distribution of those of A'B, where A and B are their
    Bartlett triangles.
    """
    random = np.random.default_rng(0)
    times = shape.n_heads // shape.n_kv_heads
    n = max(_N_SPECTRA // times, 4 * shape.n_kv_heads)
    own = _unit_roots(random, n * times, shape).reshape(n, times, shape.d, -1)
    common = _unit_roots(random, n, shape)[:, None]
    return _singular_values(own.transpose(0, 1, 3, 2) @ common)


def _unit_roots(random: np.random.Generator, n: int, shape: _Shape) -> Floats:
    """(n, d, columns) matrices whose singular values are distributed as those of random directions of (d, N)."""
    if shape.n < shape.d:
        roots = random.standard_normal((n, shape.d, shape.n))
    else:
        roots = bartlett(random, n, shape.n, shape.d)
    return roots / np.linalg.norm(roots, axis=(1, 2), keepdims=True)


def _random_subspaces(shape: _Shape, random: np.random.Generator, n: int) -> Floats:
    """Distances of pairs of uniformly random subspaces, combined from pools, with heads in random order."""
    own, common = _subspace_pool(shape, shape.n_heads), _subspace_pool(shape, shape.n_kv_heads)
    times = shape.n_heads // shape.n_kv_heads
    grouped = np.repeat(np.repeat(_shuffled(common, random, n), times, axis=1), times, axis=2)
    return (_shuffled(own, random, n) + grouped) / 2


def _shuffled(pool: Floats, random: np.random.Generator, n: int) -> Floats:
    n_heads = pool.shape[-1]
    order = random.permuted(np.tile(np.arange(n_heads), (n, 1)), axis=1)
    which = random.integers(len(pool), size=n)
    return pool[which[:, None, None], order[:, :, None], order[:, None, :]]


@lru_cache(maxsize=8)
def _subspace_pool(shape: _Shape, n_heads: int) -> Floats:
    """(n, heads, heads) squared distances of uniformly random subspaces."""
    random = np.random.default_rng(0)

    def frame() -> Floats:
        return side_of(random.standard_normal((1, shape.d, shape.n))).frame(0)

    pool = []
    for _ in range(_N_FRAMES):
        rows = _rows((frame() for _ in range(n_heads)), n_heads, (shape.d, shape.n))
        # |P_i - P_j|² / 2d between projectors: the mean squared sines of the principal angles, 0 (equal) to 1 (orthogonal).
        pool.append(distances_of(_overlaps(rows)) / (2 * shape.d))
    return np.stack(pool)

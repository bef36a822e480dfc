"""Classical (metric) multidimensional scaling: Torgerson 1952, Psychometrika 17; Gower 1966, Biometrika 53."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from headway.errors import StatisticsError


class Scaling(NamedTuple):
    """Points (n, k) whose distances approximate the given ones.

    `eigenvalues` (n,) are those of the doubly centred matrix, largest first. `fit` is R's GOF: the share of the k axes in the
    sum of absolute eigenvalues, and in the sum of positive eigenvalues. The sign of an axis is arbitrary. Here the coordinate
    of largest absolute value on each axis is positive.
    """

    points: np.ndarray
    eigenvalues: np.ndarray
    fit: tuple[float, float]


def classical_mds(distances: Any, k: int = 2) -> Scaling:
    """Place n objects in k dimensions by the distances between them.

    Args:
        distances: (n, n), symmetric, 0 on the diagonal.
        k: number of dimensions.

    Raises:
        StatisticsError: the matrix is not a distance matrix, or has fewer than k positive eigenvalues.
    """
    d = _distances(distances)
    n = len(d)
    if not 1 <= k < n:
        raise StatisticsError(f"{n} things can be placed in 1 to {n - 1} dimensions, not in {k}")
    squared = d**2
    centred = -0.5 * (squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean())
    values, vectors = np.linalg.eigh((centred + centred.T) / 2)
    values, vectors = values[::-1], vectors[:, ::-1]
    n_positive = int(np.sum(values > n * np.finfo(float).eps * max(abs(values[0]), abs(values[-1]))))
    if n_positive < k:
        raise StatisticsError(f"these distances span {n_positive} dimensions only, fewer than the {k} asked for")
    axes = vectors[:, :k]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(k)])
    held = float(values[:k].sum())
    fit = (held / float(np.abs(values).sum()), held / float(values[values > 0].sum()))
    return Scaling(axes * np.sqrt(values[:k]), values, fit)


def _distances(distances: Any) -> np.ndarray:
    d = np.asarray(distances, dtype=np.float64)
    if d.ndim != 2 or d.shape[0] != d.shape[1]:
        raise StatisticsError(f"distances have the shape {d.shape}: a square matrix (n, n) is needed")
    if not np.isfinite(d).all():
        raise StatisticsError("distances hold missing or infinite values: leave out the things they belong to")
    scale = max(float(np.abs(d).max()), np.finfo(float).tiny)
    if np.abs(d - d.T).max() > 1e-8 * scale:
        raise StatisticsError("distances are not symmetric: d[i, j] and d[j, i] differ")
    if d.min() < -1e-8 * scale or np.abs(np.diag(d)).max() > 1e-8 * scale:
        raise StatisticsError("distances must be 0 on the diagonal and nowhere negative")
    return d

"""t-SNE of many small maps at once (van der Maaten & Hinton 2008), as in scikit-learn's exact method.

A map of twelve heads is so small that scikit-learn spends most of its time in calls. There are thousands of maps, one for
every layer and step, so this code moves all of them together. Legend: B maps, H heads, r coordinates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_FEWEST_HEADS = 4
_EXAGGERATION = 12
_ITERATIONS = ((250, 0.5, _EXAGGERATION), (250, 0.8, 1))  # how many, momentum, factor of the probabilities
_LEARNING_RATE = 1.0  # scikit-learn's least, 50, throws a dozen points about and ends in worse maps
_BISECTIONS = 60
_TINY = np.finfo(np.float64).eps


def tsne_maps(coordinates: Floats) -> Floats:
    """Return (B, H, 2) maps of (B, H, r) principal coordinates. They start at the first two, so they are reproducible.

    The perplexity is a third of the other heads, at most 5. Neighbours on a map have a meaning, distances have little. A
    map is NaN if there are fewer than four heads or two coordinates.
    """
    n_maps, n_heads, n_coordinates = coordinates.shape
    if n_heads < _FEWEST_HEADS or n_coordinates < 2:
        return np.full((n_maps, n_heads, 2), np.nan)
    scale = coordinates[:, :, 0].std(axis=1)[:, None, None]
    scaled = coordinates / np.where(scale > 0, scale, 1)
    p = joint_probabilities(scaled, min(5.0, (n_heads - 1) / 3))
    y = scaled[:, :, :2] * 1e-4
    for n_iterations, momentum, factor in _ITERATIONS:
        y = _descended(y, factor * p, n_iterations, momentum)
    return y


def joint_probabilities(points: Floats, perplexity: float) -> Floats:
    """(B, H, H) symmetric probabilities of neighbours: Gaussians about each head, as wide as the perplexity says."""
    n_heads = points.shape[1]
    d = ((points[:, :, None] - points[:, None]) ** 2).sum(axis=-1)
    others = ~np.eye(n_heads, dtype=bool)
    nearest = np.where(others, d, np.inf).min(axis=2, keepdims=True)
    d = np.maximum(d - nearest, 0)  # the nearest has weight 1, so that no row vanishes
    low, high = (np.full((*d.shape[:2], 1), bound) for bound in (-60.0, 60.0))  # log2 of the precision
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        weight = np.exp(-d * 2**middle) * others
        conditional = weight / weight.sum(axis=2, keepdims=True)
        entropy = -(conditional * np.log(conditional, where=conditional > 0, out=np.zeros_like(d))).sum(
            axis=2, keepdims=True
        )
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    joint = conditional + conditional.transpose(0, 2, 1)
    return np.maximum(joint / joint.sum(axis=(1, 2), keepdims=True), _TINY) * others


def _descended(y: Floats, p: Floats, n_iterations: int, momentum: float) -> Floats:
    """Gradient descent with momentum and a gain for each coordinate."""
    update, gains = np.zeros_like(y), np.ones_like(y)
    heads = np.arange(y.shape[1])
    for _ in range(n_iterations):
        square = (y**2).sum(axis=2)
        near = 1 / (1 + square[:, :, None] + square[:, None] - 2 * y @ y.transpose(0, 2, 1))
        near[:, heads, heads] = 0
        q = np.maximum(near / near.sum(axis=(1, 2), keepdims=True), _TINY)
        pull = (p - q) * near
        gradient = 4 * (pull.sum(axis=2, keepdims=True) * y - pull @ y)
        gains = np.maximum(np.where(update * gradient < 0, gains + 0.2, gains * 0.8), 0.01)
        update = momentum * update - _LEARNING_RATE * gains * gradient
        y = y + update
    return y

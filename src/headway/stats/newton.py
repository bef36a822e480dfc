"""Newton's method that escapes saddles: it uses |H| instead of H, and steps along negative curvature at zero slope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np


class Point(Protocol):
    theta: np.ndarray

    @property
    def deviance(self) -> float: ...
    @property
    def gradient(self) -> np.ndarray: ...
    @property
    def hessian(self) -> np.ndarray: ...


P = TypeVar("P", bound=Point)

# Stop if the next step promises a smaller decrease of the deviance. R's optimum is accurate to about 1e-6 in θ. This limit
# gives better than 1e-7, and one more step follows.
_ENOUGH = 1e-9
_MOST_STEPS = 200


def minimise(at: Callable[[np.ndarray], P], start: np.ndarray) -> tuple[P, bool, int]:
    """Minimise `at(θ).deviance`. Return the minimum, whether it converged, and the number of steps."""
    point, radius = at(start), 2.0
    for n_steps in range(_MOST_STEPS):
        step, promise = _step(point.gradient, point.hessian, radius)
        if promise < _ENOUGH:
            last = at(point.theta + step)
            rounding = 1e-12 * (1 + abs(point.deviance))
            return (last if last.deviance <= point.deviance + rounding else point), True, n_steps
        while True:
            new = at(point.theta + step)
            if new.deviance < point.deviance:
                break
            radius = float(np.linalg.norm(step)) / 4
            if radius < 1e-10:
                return point, promise < 1e-6, n_steps
            step, promise = _step(point.gradient, point.hessian, radius)
        if point.deviance - new.deviance > 0.5 * promise:
            radius = max(radius, 3 * float(np.linalg.norm(step)))
        point = new
    return point, False, _MOST_STEPS


def _step(gradient: np.ndarray, hessian: np.ndarray, radius: float) -> tuple[np.ndarray, float]:
    """A step of at most length `radius`, and the decrease that the quadratic model predicts for it."""
    curvature, axes = np.linalg.eigh(hessian)
    slope = axes.T @ gradient
    flat = 1e-10 * max(1.0, float(np.abs(curvature).max()))
    move = np.where(np.abs(curvature) > flat, -slope / np.maximum(np.abs(curvature), flat), 0.0)
    downhill = (curvature < -1e-6 * max(1.0, float(np.abs(curvature).max()))) & (np.abs(move) < 0.1 * radius)
    move[downhill] = np.where(slope[downhill] > 0, -0.5, 0.5) * radius
    length = float(np.linalg.norm(move))
    if length > radius:
        move *= radius / length
    return axes @ move, -float(slope @ move + 0.5 * move @ (curvature * move))

"""Second derivatives from exact gradients, by central differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Floats = np.ndarray


def hessian_of(gradient: Callable[[Floats], Floats], at: Floats, steps: Floats | None = None) -> Floats:
    """The Hessian (k, k) of a function with this gradient. `steps` (k,) are 1e-4 of `at`, or of 1."""
    steps = 1e-4 * np.maximum(np.abs(at), 1.0) if steps is None else steps
    rows = np.array([(gradient(at + h) - gradient(at - h)) / (2 * h.max()) for h in np.diag(steps)])
    return (rows + rows.T) / 2

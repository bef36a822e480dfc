"""How many cores the products of small matrices take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_core() -> Iterator[None]:
    """Multiply matrices on one core. Those of fits are so small that threads wait for each other longer than they multiply."""
    import numpy  # noqa: F401 (limits reach the libraries that are loaded)
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield

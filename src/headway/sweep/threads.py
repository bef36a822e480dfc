"""Which of a sweep's threads may use many cores.

libgomp keeps a team of workers for each thread that ever ran a parallel loop. Once teams have more members than there are
cores, all of them sleep at every barrier instead of waiting, and models of many small operations run at two thirds of their
speed. So one thread computes, with all cores, and those that read have one core each.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def on_one_core() -> Iterator[None]:
    """Parallel loops that this thread starts run on one core while the block lasts; those of other threads as they did."""
    from threadpoolctl import threadpool_limits

    if "torch" in sys.modules:
        sys.modules["torch"].get_num_threads()  # at a thread's first question torch sets its number of cores
    with threadpool_limits(1, user_api="openmp"):
        yield

"""How a sweep's threads share the cores.

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
    """Run the parallel loops that this thread starts on one core; other threads are not affected."""
    from threadpoolctl import threadpool_limits

    if "torch" in sys.modules:
        sys.modules["torch"].get_num_threads()  # torch sets a thread's number of cores when it is first asked
    with threadpool_limits(1, user_api="openmp"):
        yield

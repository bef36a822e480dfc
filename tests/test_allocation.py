"""Freed memory is kept, so that the system need not clear its pages again; a process that ends does not search it."""

import ctypes
import os
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from headway.allocation import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
held = []
for _ in range(3):  # glibc adapts its thresholds to the first arrays that are freed
    held.append(np.ones(2**19)), held.append(np.ones(2**19)), held.clear()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    held += [np.ones(2**19) for _ in range(8)]  # 32 MiB: 8,192 pages
    held.clear()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*arguments, **environment):
    # Huge pages would hide what is counted here, and NumPy asks for them.
    environment = os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"} | environment
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_arrays_come_from_memory_that_was_freed():
    # Once through the 8,192 pages, and some: a second round of arrays finds them. Without it, each round takes them anew.
    assert page_faults("keep") < 2 * 8192
    assert page_faults() > 10 * 8192


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_a_user_who_has_set_it_is_not_overruled():
    assert page_faults("keep", MALLOC_TRIM_THRESHOLD_="131072") > 10 * 8192


ENDING = """
import atexit, gc, sys
from headway.allocation import end_quickly
if "quickly" in sys.argv:
    end_quickly()
atexit.register(print, "done at exit")
gc.disable()  # so that the cycle is there until the end

class Watched:
    def __del__(self):
        print("searched for cycles")

watched = Watched()
watched.itself = watched
"""


def test_a_process_that_ends_quickly_does_not_search_for_cycles():
    def says(*arguments):
        command = [sys.executable, "-c", ENDING + "del watched\n", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    assert says() == ["done at exit", "searched for cycles"]
    assert says("quickly") == ["done at exit"]

"""How memory is handed out, and given back."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in malloc.h


@cache
def end_quickly() -> None:
    """Let this process end without a search of all modules for reference cycles: the system takes its memory back anyway.

    With torch and transformers imported, the search took 1.7 seconds. Whatever is to be done at exit is still done.
    """
    atexit.register(gc.freeze)


@cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next array, once for this process. Other C libraries are left as they are.

    By default glibc gives each freed array of over 128 KiB back to the system, which clears every page when the next
    array asks for it. In small models this took three quarters of the time. The process keeps its largest size instead.
    """
    if any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")):
        return  # the user has decided
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    mallopt(_MMAP_THRESHOLD, 2**30) or mallopt(_MMAP_THRESHOLD, 2**25)  # older versions take 32 MiB at most
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)

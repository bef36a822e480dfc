"""How the C library hands out memory."""

from __future__ import annotations

import ctypes
import os
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in malloc.h


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

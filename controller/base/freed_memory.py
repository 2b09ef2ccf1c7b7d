"""What the C library's allocator does with memory that is freed: gives large blocks back to the system.

By default glibc raises the size from which it does so with each large block that is freed, and gives each thread a heap
of its own. A process that reads a large cluster would then keep what reading took for good.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_LARGE = 1 << 17  # bytes: glibc's own defaults, which stay what they are once they are set


def give_back_freed_memory() -> None:
    """Call this before the first thread. Without effect where the C library has no mallopt(3)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for option, value in ((_M_TRIM_THRESHOLD, _LARGE), (_M_MMAP_THRESHOLD, _LARGE), (_M_ARENA_MAX, 1)):
        mallopt(option, value)

"""Keeping freed memory for the next batch instead of handing it to the system and asking for it again.

Each forward pass allocates and frees tens of megabytes. By default glibc maps blocks of that size anew each
time, and the kernel clears every page again: half of a training run's processor time went there.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_BYTES = 1 << 30  # larger blocks are mapped, and go back when they are freed
_KEPT_BYTES = 256 << 20  # freed memory at the end of the heap that is kept


def keep_freed_memory() -> bool:
    """Set this process's allocator; whether it could be set. Call it once, before the work begins.

    Does nothing where the C library has no `mallopt`, as musl.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_THRESHOLD, _MMAP_BYTES), (_M_TRIM_THRESHOLD, _KEPT_BYTES))
    return all(mallopt(name, value) == 1 for name, value in settings)

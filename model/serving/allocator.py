"""Keeping freed memory for the next batch instead of handing it to the system and asking for it again.

Each batch allocates and frees tens of megabytes. By default glibc maps such blocks anew each time, and
the kernel clears every page again: up to half of the processor's time. And it keeps what threads free in a
heap a thread, where the others do not find it: decoding in eight threads held three times what it needed.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MMAP_BYTES = (1 << 30, 32 << 20)  # larger blocks are mapped; the second is all that an older glibc takes
_KEPT_BYTES = 128 << 20  # freed memory at the end of the heap that is kept


def keep_freed_memory() -> bool:
    """Set this process's allocator: one heap, and what is freed stays in it; whether it could be set.

    Call it once, before threads are started. Does nothing where the C library has no `mallopt`, as musl.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_ARENA_MAX, 1), (_M_TRIM_THRESHOLD, _KEPT_BYTES))
    done = [mallopt(name, value) == 1 for name, value in settings]
    return all(done) and any(mallopt(_M_MMAP_THRESHOLD, most) == 1 for most in _MMAP_BYTES)

"""Giving freed memory back to the system, and sparing the garbage collector what never becomes garbage.

A worker's threads allocate and free texts, pictures and tensors of every size for weeks. glibc keeps most of
what is freed in its heaps, a little more every hour, and the process seems to leak although nothing does.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERVAL_S = 30.0


@contextmanager
def settled_heap() -> Iterator[None]:
    """Take everything that is loaded by now for permanent.

    Half a million objects of the libraries' own would be walked again and again by each full collection: most
    of what a batch's searches cost.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class HeapTrimmer:
    """Trims the heap now and then. The main thread only; a trim takes some milliseconds.

    Does nothing where the C library has no `malloc_trim`.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due_s = clock() + INTERVAL_S
        self._trim = _malloc_trim()

    def __call__(self) -> None:
        """Trim if it is due."""
        if self._trim is not None and self._clock() >= self._due_s:
            self._trim(0)
            self._due_s = self._clock() + INTERVAL_S


def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library, such as musl
        return None

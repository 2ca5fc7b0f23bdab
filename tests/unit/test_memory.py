"""Freed memory goes back to the system, now and then."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from worker.flow.memory import INTERVAL_S, HeapTrimmer

_BLOCK, _BLOCKS = 60_000, 3000  # under what malloc would map on its own


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc's malloc_trim")
def test_holes_in_the_heap_are_given_back_when_it_is_due() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    now = [0.0]
    trim = HeapTrimmer(lambda: now[0])
    blocks = [libc.malloc(_BLOCK) for _ in range(_BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, _BLOCK)
    for block in blocks[:-1]:  # the last one keeps the heap from shrinking by itself
        libc.free(block)
    before = resident_bytes()
    trim()
    assert resident_bytes() > before - _BLOCK * _BLOCKS // 2, "it was not due yet"
    now[0] = INTERVAL_S
    trim()
    assert resident_bytes() < before - _BLOCK * _BLOCKS // 2
    libc.free(blocks[-1])

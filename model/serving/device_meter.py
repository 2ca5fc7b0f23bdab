"""How long a device computes, and a CUDA stream of its own for each thread that has it compute."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SPANS = 64  # more calls than overlap


class DeviceMeter:
    """Meters what runs inside `stream`. Thread-safe.

    On a GPU the time between two events of the stream counts, so work that was only queued is seen; the
    block must end in something that waits for the stream, such as a copy to the host. On the processor it is
    the time that the block took. What overlaps counts once, so the rate never exceeds 1.

    Args:
        device: the one that is metered.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._spans: deque[tuple[float, float]] = deque(maxlen=_SPANS)  # counted, apart, their ends rising
        self._own = threading.local()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Run the block on this thread's own stream, and count its time."""
        if self._device.type != "cuda":
            begun = time.perf_counter()
            yield
            self._add(time.perf_counter() - begun)
            return
        with torch.cuda.stream(self._stream()):
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            first.record()
            yield
            last.record()
            last.synchronize()
        self._add(first.elapsed_time(last) / 1000)

    def seconds(self) -> float:
        """All that was metered so far."""
        with self._lock:
            return self._seconds

    def _stream(self) -> torch.cuda.Stream:
        if not hasattr(self._own, "stream"):
            self._own.stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream: torch.cuda.Stream = self._own.stream
        return stream

    def _add(self, seconds: float) -> None:
        with self._lock:
            now = time.perf_counter()
            begun = now - seconds
            self._seconds += seconds
            while self._spans and self._spans[-1][1] > begun:
                start, end = self._spans.pop()
                self._seconds -= end - max(start, begun)
                begun = min(begun, start)
            self._spans.append((begun, now))

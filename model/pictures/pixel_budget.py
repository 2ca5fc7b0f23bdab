"""How many pixels may be decoded at the same time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class _Waiting:
    pixels: int
    admitted: threading.Event = field(default_factory=threading.Event)


class PixelBudget:
    """A weighted semaphore, first come first served, so that small pictures do not starve a large one.

    Any number of threads may share it. A picture larger than the whole budget takes all of it: it is decoded
    alone.

    Args:
        limit: pixels of all together.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a budget of {limit} pixels admits nothing")
        self.limit = limit
        self._lock = threading.Lock()
        self._used = 0
        self._queue: deque[_Waiting] = deque()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Hold so many pixels; blocks until those before have theirs and there is room."""
        pixels = min(pixels, self.limit)
        self._enter(pixels)
        try:
            yield
        finally:
            self._leave(pixels)

    def _enter(self, pixels: int) -> None:
        with self._lock:
            if not self._queue and self._used + pixels <= self.limit:
                self._used += pixels
                return
            mine = _Waiting(pixels)
            self._queue.append(mine)
        try:
            mine.admitted.wait()
        except BaseException:  # interrupted: whoever stands behind must not wait for one that has left
            self._withdraw(mine)
            raise

    def _leave(self, pixels: int) -> None:
        with self._lock:
            self._used -= pixels
            self._admit()

    def _withdraw(self, waiting: _Waiting) -> None:
        with self._lock:
            if waiting.admitted.is_set():
                self._used -= waiting.pixels
            else:
                self._queue.remove(waiting)
            self._admit()

    def _admit(self) -> None:
        while self._queue and self._used + self._queue[0].pixels <= self.limit:
            first = self._queue.popleft()
            self._used += first.pixels
            first.admitted.set()

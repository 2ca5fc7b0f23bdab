"""How busy a stage is: the share of its threads, or of its places for what waits, that had work."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

WINDOW_S: Final = 15.0
_GRAIN_S = 0.5  # between two marks: a look back is exact to this


class BusyMeter:
    """Adds up the time in which places were taken, calls that go on included. Thread-safe; never blocks long.

    Args:
        places: items that can be worked on at once; what is above that counts no more.
        clock: monotonic seconds.
    """

    def __init__(self, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.places = places
        self._clock = clock
        self._lock = threading.Lock()
        self._taken = 0
        self._at_s = clock()
        self._sum_s = 0.0  # of all places, up to `_at_s`
        self._marks = deque([(self._at_s, 0.0)])

    def enter(self) -> None:
        """A place is taken from now on."""
        with self._lock:
            self._advance()
            self._taken += 1

    def leave(self) -> None:
        """A place is free from now on."""
        with self._lock:
            self._advance()
            self._taken -= 1

    @property
    def is_idle(self) -> bool:
        """Whether no place is taken."""
        return self._taken <= 0

    def seconds(self) -> float:
        """Seconds worked so far, on average over the places."""
        with self._lock:
            self._advance()
            return self._sum_s / self.places

    def ratio(self) -> float:
        """Share of the places that were taken over the last 15 seconds, or since there is a meter."""
        with self._lock:
            self._advance()
            from_s = max(self._marks[0][0], self._at_s - WINDOW_S)
            passed_s = self._at_s - from_s
            return (self._sum_s - self._sum_at(from_s)) / (passed_s * self.places) if passed_s > 0 else 0.0

    def _sum_at(self, at_s: float) -> float:
        """Between two marks that lie far apart nothing was taken or freed, so a straight line is exact."""
        (first_s, first), (second_s, second) = self._marks[0], self._marks[min(1, len(self._marks) - 1)]
        if second_s <= first_s:
            return first
        return first + (second - first) * (at_s - first_s) / (second_s - first_s)

    def _advance(self) -> None:
        now_s = self._clock()
        self._sum_s += (now_s - self._at_s) * min(self._taken, self.places)
        self._at_s = now_s
        if now_s - self._marks[-1][0] >= _GRAIN_S:
            self._marks.append((now_s, self._sum_s))
        while len(self._marks) > 1 and self._marks[1][0] <= now_s - WINDOW_S:
            self._marks.popleft()

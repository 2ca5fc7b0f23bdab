"""Downloads kept for a short while, for addresses that come again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable


class ByteCache:
    """Least recently used goes first. One thread only.

    Args:
        capacity_bytes: of all that is kept; 0 keeps nothing.
        life_s: after which an entry counts as missing.
        now: a monotonic clock, seconds.
    """

    def __init__(self, capacity_bytes: int, life_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._capacity_bytes = capacity_bytes
        self._life_s = life_s
        self._now = now
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self.used_bytes = 0

    def get(self, key: str) -> bytes | None:
        """What was kept under this key, unless it is too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        data, expires = entry
        if self._now() >= expires:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep it; what is larger than the whole cache is not kept."""
        self._drop(key)
        if len(data) > self._capacity_bytes:
            return
        self._entries[key] = (data, self._now() + self._life_s)
        self.used_bytes += len(data)
        while self.used_bytes > self._capacity_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.used_bytes -= len(entry[0])

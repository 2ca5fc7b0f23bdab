"""A cache of what was used last, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """Not thread-safe.

    Args:
        most_bytes: of all entries together; an entry that is larger alone is not kept.
        size: bytes of one entry.
    """

    def __init__(self, most_bytes: int, size: Callable[[K, V], int]) -> None:
        self._most_bytes, self._size = most_bytes, size
        self._entries: OrderedDict[K, V] = OrderedDict()
        self.held_bytes = 0

    def find(self, keys: Iterable[K]) -> dict[K, V]:
        """Those of these that are kept."""
        found = {key: self._entries[key] for key in keys if key in self._entries}
        for key in found:
            self._entries.move_to_end(key)
        return found

    def add(self, entries: Mapping[K, V]) -> None:
        """Keep these; what was used longest ago goes beyond the bound."""
        for key, value in entries.items():
            if key in self._entries:
                self.held_bytes -= self._size(key, self._entries.pop(key))
            size = self._size(key, value)
            if size <= self._most_bytes:
                self.held_bytes += size
                self._entries[key] = value
        while self.held_bytes > self._most_bytes:
            self.held_bytes -= self._size(*self._entries.popitem(last=False))

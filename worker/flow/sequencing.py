"""Records of one post run one after the other; those of other posts overtake."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class KeySequencer(Generic[T]):
    """Lets one item of a key run at a time, in the order they came. One thread only.

    What waits here was admitted to the budget, which bounds it.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[T]] = {}

    def admit(self, key: str, item: T) -> bool:
        """Whether the item may run now; otherwise it is kept until `release` hands it out."""
        queue = self._waiting.get(key)
        if queue is None:
            self._waiting[key] = deque()
            return True
        queue.append(item)
        return False

    def release(self, key: str) -> T | None:
        """The running item of this key is done; the next one, which runs from now on, if any waits.

        Raises:
            KeyError: nothing of that key was running.
        """
        queue = self._waiting[key]
        if queue:
            return queue.popleft()
        del self._waiting[key]
        return None

    def __len__(self) -> int:
        """How many items wait."""
        return sum(map(len, self._waiting.values()))

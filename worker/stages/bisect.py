"""Working on a batch so that one bad item fails alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
E = TypeVar("E", bound=Exception)


def bisected(
    items: Sequence[T],
    work: Callable[[Sequence[T]], list[R]],
    errors: type[E] | tuple[type[E], ...],
    fail: Callable[[T, E], R],
) -> list[R]:
    """Work on all items at once; where that raises, on each half, down to the item at fault.

    Args:
        work: gives one result an item, in order. It is called again with parts of what it failed on.
        errors: those that an item may be to blame for; others pass through.
        fail: the result of an item that fails alone.
    """
    if not items:
        return []
    try:
        return work(items)
    except errors as error:
        if len(items) == 1:
            return [fail(items[0], error)]
    middle = len(items) // 2
    halves = items[:middle], items[middle:]
    return [result for half in halves for result in bisected(half, work, errors, fail)]

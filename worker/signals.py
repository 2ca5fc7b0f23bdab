"""Ctrl-C and SIGTERM: the first one finishes what is in flight, the second one abandons it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stoppable(Protocol):
    """What a signal can stop."""

    def stop(self) -> None:
        """Ask to stop; called again, stop at once. Must neither block nor take a lock."""


@contextmanager
def stop_on_signal(pipeline: Stoppable) -> Iterator[list[int]]:
    """Call `stop` on SIGINT and SIGTERM for as long as the context is open. Main thread only.

    Yields:
        The signals that came, in their order.

    Raises:
        ValueError: entered on another thread.
    """

    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        pipeline.stop()

    previous = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

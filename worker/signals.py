"""Ctrl-C and SIGTERM: the first one finishes what is in flight, the second one abandons it.

Before there is anything in flight they end the process in order; afterwards they change nothing, since
closing takes a few seconds at most and must not be cut short.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from worker.errors import ExitCode

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stoppable(Protocol):
    """What a signal can stop."""

    def stop(self) -> None:
        """Ask to stop; called again, stop at once. Must neither block nor take a lock."""


class Signals:
    """The signals that came, and what they do.

    Attributes:
        received: their numbers, in order.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._pipeline: Stoppable | None = None

    def stop(self, pipeline: Stoppable) -> None:
        """From now on they stop this."""
        self._pipeline = pipeline

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        self.received.append(number)
        if self._pipeline is not None:
            self._pipeline.stop()
        elif number == signal.SIGTERM:
            sys.exit(ExitCode.DONE)  # whoever is loading something closes it again
        else:
            raise KeyboardInterrupt


@contextmanager
def handling_signals() -> Iterator[Signals]:
    """Handle SIGINT and SIGTERM for as long as the context is open. Main thread only.

    Until `Signals.stop` they raise SystemExit or KeyboardInterrupt, wherever the main thread is.

    Raises:
        ValueError: entered on another thread.
    """
    signals = Signals()
    previous = {number: signal.signal(number, signals.handle) for number in _SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def stop_on_signal(pipeline: Stoppable) -> Iterator[list[int]]:
    """Call `stop` on SIGINT and SIGTERM for as long as the context is open. Main thread only.

    Yields:
        The signals that came, in their order.
    """
    with handling_signals() as signals:
        signals.stop(pipeline)
        yield signals.received

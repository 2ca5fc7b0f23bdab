"""Leaves a server alone for a while after it failed, so that a dead one costs a timeout now and then only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

_FIRST_S = 0.5
_LONGEST_S = 5.0
_QUIET_S = 60.0  # between two log lines about calls that the server refuses

log = structlog.stdlib.get_logger("worker.coordination")


class Breaker:
    """Says whether a call is worth trying. Thread-safe; never blocks; one for all uses of one server.

    While the server is away, one call in every 0.5 s, then 1, 2, 4 and at last 5 s is let through to find
    out; the others are skipped. The first success lets everything through again. Each change of state is
    logged once.

    Args:
        server: its name, for the log.
        clock: seconds, monotonic.
    """

    def __init__(self, server: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._clock = clock
        self._lock = threading.Lock()
        self._pause_s = 0.0  # 0: the server is well
        self._until = 0.0
        self._is_probing = False
        self._complained_at: float | None = None

    def wait_s(self) -> float:
        """Seconds until the next call may be tried; 0 admits this one."""
        with self._lock:
            if not self._pause_s:
                return 0.0
            now = self._clock()
            if now < self._until:
                return self._until - now
            self._is_probing = True  # this call finds out; the others wait for what it says
            self._until = now + self._pause_s  # should it be cancelled, another one is let through then
            return 0.0

    def succeeded(self) -> None:
        """The server did what was asked."""
        with self._lock:
            was_away, self._pause_s = self._pause_s > 0, 0.0
            self._is_probing = False
        if was_away:
            log.warning("back again", server=self._server)

    def failed(self, error: str) -> None:
        """The server did not answer."""
        with self._lock:
            was_away = self._pause_s > 0
            if not was_away or self._is_probing:  # calls that were under way together count once
                self._pause_s = min(_LONGEST_S, 2 * self._pause_s) if was_away else _FIRST_S
                self._until = self._clock() + self._pause_s
                self._is_probing = False
        if not was_away:
            log.warning("away; work goes on without it", server=self._server, error=error)

    def refused(self, error: str) -> None:
        """The server is there but would not do what was asked (out of memory, read-only …)."""
        self.succeeded()
        with self._lock:
            now = self._clock()
            quiet = self._complained_at is not None and now - self._complained_at < _QUIET_S
            if not quiet:
                self._complained_at = now
        if not quiet:
            log.warning("refuses calls; work goes on without", server=self._server, error=error)

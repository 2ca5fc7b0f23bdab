"""Hosts that do not answer: asked again only after a pause, so that a dead one cannot hold up the stream."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_FAILURES = 5
_PAUSE_S = 30.0
_HOSTS = 1024


@dataclass(slots=True)
class _Record:
    failures: int = 0
    until: float = 0.0


class AwayHosts:
    """Counts slow failures in a row. One thread only; remembers the last 1024 hosts that had any.

    Args:
        now: a monotonic clock, seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def is_away(self, host: str) -> bool:
        """Whether it should be left alone for now."""
        record = self._records.get(host)
        return record is not None and self._now() < record.until

    def failed(self, host: str) -> None:
        """A request got no answer, and it took long to know; after five of them the host is away for 30 s."""
        record = self._records.setdefault(host, _Record())
        self._records.move_to_end(host)
        record.failures += 1
        if record.failures >= _FAILURES:
            record.until = self._now() + _PAUSE_S  # after it one more failure is enough
        if len(self._records) > _HOSTS:
            self._records.popitem(last=False)

    def answered(self, host: str) -> None:
        """It is there."""
        self._records.pop(host, None)

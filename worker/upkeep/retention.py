"""Retention: points, and pictures, that are older than a number of days are deleted.

A thread of its own looks once an hour. Several workers of one store may all do so; deleting what is gone is
harmless.
"""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Protocol, Self

import structlog

from worker.errors import FatalError, TransientError
from worker.index import Where
from worker.media import MediaStore
from worker.observe.metrics import Metrics

_INTERVAL_S = 3600.0
_RETRY_S = 60.0
_JITTER = 0.1  # so that workers which were started together do not stay together
_LEAVE_S = 1.0

log = structlog.stdlib.get_logger("worker.upkeep.retention")


class AgingPoints(Protocol):
    """What retention needs of `worker.index.VectorIndex`."""

    def count(self, kind: str | None = None, *, where: Where | None = None) -> int:
        """How many points match."""

    def delete(self, where: Where) -> None:
        """Delete the points that match."""


class Retention:
    """Deletes what is too old, at once and then every hour, for as long as the context is open.

    A point's age is that of its post (`published_at`), or without one the time since it was stored
    (`indexed_at`); a point that knows neither is kept. A picture's age is the time since it was last put.

    Args:
        index: open for writing; used from this thread beside others.
        days: age at which they go.
        media: where pictures are kept, if anywhere.
        interval_s: between two looks.
    """

    def __init__(
        self,
        index: AgingPoints,
        days: float,
        metrics: Metrics,
        media: MediaStore | None = None,
        *,
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._index = index
        self._age = timedelta(days=days)
        self._metrics = metrics
        self._media = media
        self._interval_s = interval_s
        self._leave = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; waits a second for a deletion that is under way and then leaves it to the store."""
        self._leave.set()
        self._thread.join(_LEAVE_S)

    def check(self) -> None:
        """Any thread; does not block.

        Raises:
            FatalError: the thread has died, so that nothing would ever be deleted again.
        """
        if self._failure is not None:
            raise FatalError(f"retention: {self._failure}") from self._failure

    def sweep(self, now: datetime | None = None) -> int:
        """Delete once what is too old; blocks for as long as the store and the disk take.

        Returns:
            How many points.

        Raises:
            TransientError: the store or the disk is away; some may be deleted.
            FatalError: the store refuses.
        """
        oldest = (now or datetime.now(UTC)) - self._age
        points = self._delete(Where(published_to=oldest))
        points += self._delete(Where(undated=True, indexed_to=oldest))
        pictures = 0 if self._media is None else self._media.prune(oldest)
        if points:
            self._metrics.retained.inc()
        log.info("retention", points=points, pictures=pictures, older_than=oldest.isoformat())
        return points

    def _delete(self, where: Where) -> int:
        points = self._index.count(where=where)
        if points:
            self._index.delete(where)
        return points

    def _run(self) -> None:
        pause_s = 0.0
        while not self._leave.wait(pause_s):
            try:
                self.sweep()
                pause_s = self._interval_s * random.uniform(1 - _JITTER, 1 + _JITTER)
            except TransientError as error:
                pause_s = min(_RETRY_S, self._interval_s)
                log.warning("retention is put off", error=str(error), retry_in_s=pause_s)
            except BaseException as error:  # the thread's root
                if not self._leave.is_set():  # otherwise the store was closed under it
                    self._failure = error
                return

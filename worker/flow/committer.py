"""When the finished prefix is committed: every so often while a run goes on, and at its end."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
import tenacity

from worker.errors import TransientError
from worker.flow.commits import CommitTracker
from worker.observe.metrics import Metrics
from worker.transport.base import Source

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0

log = structlog.stdlib.get_logger("worker.flow.pipeline")


class Committer:
    """Commits what the tracker says is finished. The main thread only; blocks as long as the source does.

    Args:
        interval_s: least time between two commits.
    """

    def __init__(self, source: Source, tracker: CommitTracker, metrics: Metrics, interval_s: float) -> None:
        self._source, self._tracker, self._metrics = source, tracker, metrics
        self._interval_s = interval_s
        self._at_s = 0.0

    def commit_if_due(self) -> bool:
        """Whether it was time; the source may have been away, then it is tried again later."""
        now_s = time.monotonic()
        if now_s < self._at_s:
            return False
        self._at_s = now_s + self._interval_s
        try:
            self._commit()
        except TransientError as error:
            self._at_s = now_s + _LONGEST_PAUSE_S
            log.warning("not committed", error=str(error), retry_in_s=_LONGEST_PAUSE_S)
        return True

    def commit_rest(self, until_s: float, given_up: Callable[[], bool]) -> None:
        """As often as it takes, up to this monotonic time or until it is given up; at least once.

        Raises:
            TransientError: not recorded.
        """
        tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            wait=tenacity.wait_exponential(multiplier=_FIRST_PAUSE_S, max=1.0)
            + tenacity.wait_random(0, _FIRST_PAUSE_S),
            stop=lambda state: given_up() or time.monotonic() >= until_s,
            reraise=True,
        )(self._commit)

    def _commit(self) -> None:
        for partition, epoch in self._tracker.epochs().items():
            if self._source.epoch(partition) != epoch:
                self._tracker.revoked(partition)
        offsets = self._tracker.committable()
        if offsets:
            self._source.commit(offsets)
            self._tracker.committed(offsets)
            self._metrics.commits.inc()

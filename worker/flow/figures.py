"""What a run counts: outcomes for its summary, and how loaded it is for the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from worker.errors import Reason
from worker.flow.budget import Budget
from worker.flow.commits import CommitTracker
from worker.observe.metrics import Metrics
from worker.transport.base import Partition
from worker.types import DeadLettered, Matched, Outcome, Unmatched

log = structlog.stdlib.get_logger("worker.flow.pipeline")


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    Args:
        posts: that reached an outcome.
        matches: written by this run.
        busy_s: seconds that each stage worked, on average over its threads or, for gather, its places.
        stopped: whether it ended before the source did.
    """

    posts: int
    matched: int
    unmatched: int
    dead_lettered: Mapping[Reason, int]
    matches: int
    seconds: float
    busy_s: Mapping[str, float]
    stopped: bool


class Figures:
    """The figures of one run. The main thread only."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[Reason] = Counter()
        self._lagging: set[Partition] = set()

    def count(self, outcome: Outcome) -> None:
        """An outcome was acknowledged."""
        self._metrics.count(outcome)
        record = outcome.record
        where = log.bind(partition=record.partition.number, offset=record.offset)
        match outcome:
            case Matched(post_id=post_id, matches=matches):
                self._counts["matched"] += 1
                self._counts["matches"] += len(matches)
                where.debug("matched", post_id=post_id, matches=len(matches))
            case Unmatched(post_id=post_id):
                self._counts["unmatched"] += 1
                where.debug("unmatched", post_id=post_id)
            case DeadLettered(reason=reason, stage=stage):
                self._reasons[reason] += 1
                where.info("dead letter", reason=reason.value, stage=stage)

    def note_load(self, budget: Budget, tracker: CommitTracker, *, paused: bool) -> None:
        """How much is in flight, and since when."""
        self._metrics.in_flight_posts.set(budget.used_posts)
        self._metrics.in_flight_bytes.set(budget.used_bytes)
        self._metrics.paused.set(paused)
        self._metrics.oldest_uncommitted.set(tracker.oldest_uncommitted_s())

    def note_lag(self, lags: Mapping[Partition, int]) -> None:
        """How far behind the source's end each partition is."""
        for partition in self._lagging - set(lags):
            self._metrics.lag.remove(partition.topic, str(partition.number))  # somebody else tells it now
        self._lagging = set(lags)
        for partition, lag in lags.items():
            self._metrics.lag.labels(partition.topic, str(partition.number)).set(lag)

    def summary(self, seconds: float, busy_s: Mapping[str, float], *, stopped: bool) -> Summary:
        """The run as a whole."""
        counts = self._counts
        return Summary(
            posts=counts["matched"] + counts["unmatched"] + self._reasons.total(),
            matched=counts["matched"],
            unmatched=counts["unmatched"],
            dead_lettered=dict(self._reasons),
            matches=counts["matches"],
            seconds=seconds,
            busy_s=busy_s,
            stopped=stopped,
        )

"""The pipeline: records in, exactly one outcome each, and commits of what is finished.

The main thread owns the source. It polls, decodes and admits; six stages on threads of their own do
the work (`stages.chain`); what comes back is counted, and the contiguous finished prefix is committed.

    poll ─► intake ─► gather ─► prepare ─► encode ─► index ─► match ─► emit ─► outcome ─► commit
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from worker.coordination.attempts import Attempts, NoAttempts
from worker.errors import Crash, TransientError, WorkerError
from worker.flow.budget import Budget
from worker.flow.commits import CommitTracker
from worker.flow.committer import Committer
from worker.flow.figures import Figures, Summary
from worker.flow.intake import Intake
from worker.flow.limits import DeadLetterGuard
from worker.flow.quarantine import Quarantine
from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.posts import PostLimits
from worker.sections import DeadLetterLimits, HealthConfig
from worker.stages.chain import Chain, Steps
from worker.stages.stage import Batching
from worker.transport.base import Record, Source, still_ours
from worker.types import Dropped, Outcome

__all__ = ["Pipeline", "Settings", "Summary"]

_TICK_S = 0.05  # how soon the main thread notices a signal, a failure, an outcome
_LEAVE_S = 0.5  # how long threads that were told to leave are waited for
_LONGEST_PAUSE_S = 5.0

log = structlog.stdlib.get_logger("worker.flow.pipeline")


@dataclass(frozen=True, slots=True)
class Settings:
    """How much runs at once, and when it ends.

    Args:
        in_flight_bytes, in_flight_posts: between delivery and outcome.
        uncommitted_posts: between the oldest unfinished record and the newest delivered one.
        image_bytes: of one image as the encoder takes it.
        gather_places: posts that the LLM or the pictures' hosts are asked for at once, at most.
        attempts: how often a post that was alone in flight may kill the process.
        drain_deadline_s: how long a stop waits for what is in flight.
        commit_interval_s: least time between two commits.
    """

    in_flight_bytes: int = 256 << 20
    in_flight_posts: int = 256
    uncommitted_posts: int = 10_000
    image_bytes: int = 0
    gather_places: int = 32
    prepare_threads: int = 2
    encode: Batching = field(default_factory=lambda: Batching(size=32, linger_s=0.02))
    posts: PostLimits = field(default_factory=PostLimits)
    attempts: int = 2
    drain_deadline_s: float = 1.5
    commit_interval_s: float = 0.5


class Pipeline:
    """One run over one source. Owns its threads only; whoever built it closes the rest.

    Attributes:
        steps, settings: what it was built with.

    Args:
        attempts: where charges of suspects are kept; by default in the source's notes alone.
        trial: tries a record that was charged too often, before it is given up; see `worker.flow.trial`.
        guard: ends the run where too much is refused; by default nothing does.
        checks: called at every turn, and quick; raise FatalError where something beside the stages died.
        on_outcome: told of each acknowledged outcome, on the thread that called `run`; must be quick.
    """

    def __init__(
        self,
        source: Source,
        steps: Steps,
        *,
        settings: Settings | None = None,
        metrics: Metrics | None = None,
        health: Health | None = None,
        attempts: Attempts | None = None,
        guard: DeadLetterGuard | None = None,
        checks: Sequence[Callable[[], None]] = (),
        trial: Callable[[Record], str] | None = None,
        on_outcome: Callable[[Outcome], None] | None = None,
    ) -> None:
        settings = settings or Settings()
        self._source = source
        self.steps, self.settings = steps, settings
        self._metrics = metrics or Metrics()
        self._health = health or Health(HealthConfig())
        self._guard = guard or DeadLetterGuard(DeadLetterLimits(ignore=True))
        self._checks = checks
        self._on_outcome = on_outcome
        self._is_ours = still_ours(source)
        self._budget = Budget(settings.in_flight_bytes, settings.in_flight_posts)
        quarantine = Quarantine(source, attempts or NoAttempts(), settings.attempts, self._metrics, trial)
        self._intake = Intake(
            self._budget,
            settings.image_bytes,
            settings.posts,
            self._is_ours,
            quarantine,
            dropped=self._metrics.dropped.inc,
        )
        self._tracker = CommitTracker()
        self._committer = Committer(source, self._tracker, self._metrics, settings.commit_interval_s)
        self._chain = Chain(
            steps,
            capacity=settings.in_flight_posts,
            gather_places=settings.gather_places,
            prepare_threads=settings.prepare_threads,
            encode=settings.encode,
            metrics=self._metrics,
            health=self._health,
            is_ours=self._is_ours,
        )
        self._in_chain = 0
        self._stops = 0
        self._drain_until_s: float | None = None
        self._paused = False
        self._poll_at_s = 0.0
        self._poll_pause_s = 0.0
        self._source_away: int | None = None  # the health token of the wait for it
        self._figures = Figures(self._metrics)

    def stop(self) -> None:
        """Poll no more and finish what is in flight; called again, abandon it. Any thread, any signal."""
        self._stops += 1  # no lock: a signal handler may interrupt whoever holds one
        self._health.draining()

    def run(self) -> Summary:
        """Run until the source is exhausted or `stop`; blocks. Call it once.

        Raises:
            FatalError: a stage failed (it is named) or the source cannot go on; nothing more was committed.
            Crash: it was stopped while a stage hung (`Health.alive`); what was finished is committed.
            TransientError: the last commit was not recorded.
        """
        begun_s = time.monotonic()
        self._chain.start()
        self._health.warm()
        log.info("ready")
        try:
            while not self._is_done():
                self._turn()
            self._chain.check()
            is_alive, reasons = self._health.alive()
            deadline_s = time.monotonic() + self.settings.drain_deadline_s
            self._committer.commit_rest(self._drain_until_s or deadline_s, lambda: self._stops > 1)
            if not is_alive:  # what it hangs at may hang every process that takes it up beside others
                raise Crash(f"stopped while it hung: {'; '.join(reasons)}")
            self._intake.forgive()
        except WorkerError as error:
            if not isinstance(error, Crash):
                self._intake.forgive()
            raise
        finally:
            if not self._chain.abandon(_LEAVE_S):
                log.warning("a stage is still inside a call; it is left behind")
        stopped = self._drain_until_s is not None or self._stops > 0
        return self._figures.summary(time.monotonic() - begun_s, self._chain.busy_s(), stopped=stopped)

    def _is_done(self) -> bool:
        if self._stops > 1:
            return True
        if self._drain_until_s is not None:
            return self._in_chain == 0 or time.monotonic() >= self._drain_until_s
        return not self._intake.in_flight and not self._intake.has_backlog and self._source.exhausted()

    def _turn(self) -> None:
        self._health.tick()
        self._chain.check()
        for check in self._checks:
            check()
        if self._stops and self._drain_until_s is None:
            self._drain()
        for outcome in self._chain.outcomes(0.0 if self._may_poll() else _TICK_S):
            self._finish(outcome)
        if not self._guard.holds_commits() and self._committer.commit_if_due():
            self._figures.note_lag(self._source.lag())
        if self._drain_until_s is None:
            self._start()
            self._balance()
        self._poll()  # also while draining: the others of a consumer group would wait for us to the end
        self._figures.note_load(self._budget, self._tracker, paused=self._paused)

    def _drain(self) -> None:
        """Start nothing more; what is in flight has until the deadline."""
        log.info("stopping", in_flight=self._in_chain)
        self._drain_until_s = time.monotonic() + self.settings.drain_deadline_s
        self._in_chain -= self._chain.take_back()
        self._source.pause()
        self._paused = True
        self._source_is_back()  # nobody waits for it any more
        if self._poll_pause_s:
            self._poll_at_s = math.inf  # a source that is away may hold us up for longer than there is time

    # -- in -----------------------------------------------------------------------------------

    def _may_poll(self) -> bool:
        if self._stops or self._paused or self._source.exhausted():
            return False
        return time.monotonic() >= self._poll_at_s

    def _poll(self) -> None:
        if self._source.exhausted() or time.monotonic() < self._poll_at_s:
            return
        try:
            # Paused, it is polled all the same: that keeps the membership of a consumer group.
            records = self._source.poll(0.0 if self._paused else _TICK_S)
        except TransientError as error:
            self._poll_pause_s = min(_LONGEST_PAUSE_S, max(_TICK_S, self._poll_pause_s * 2))
            is_draining = self._drain_until_s is not None
            self._poll_at_s = math.inf if is_draining else time.monotonic() + self._poll_pause_s
            log.warning("source away", error=str(error), retry_in_s=self._poll_pause_s)
            if not is_draining:
                self._note_source_away(str(error))
            return
        self._poll_pause_s = 0.0
        if reason := self._source.away():
            self._note_source_away(reason)
        else:
            self._source_is_back()
        for record in records:
            self._tracker.delivered(record)
        self._metrics.posts.inc(len(records))
        self._intake.offer(records)
        if self._drain_until_s is None:
            self._start()

    def _note_source_away(self, reason: str) -> None:
        if self._source_away is None:
            self._source_away = self._health.begin("poll")
            self._metrics.source_away.set(1)
        self._health.waiting(self._source_away, reason, self._poll_pause_s)

    def _source_is_back(self) -> None:
        if self._source_away is not None:
            self._health.end(self._source_away)
            self._source_away = None
            self._metrics.source_away.set(0)

    def _start(self) -> None:
        for work in self._intake.start():
            self._chain.put(work)
            self._in_chain += 1

    def _balance(self) -> None:
        """Pause the source while what it delivered waits; resume it when that is gone."""
        full = self._intake.has_backlog or self._tracker.span >= self.settings.uncommitted_posts
        if full and not self._paused:
            self._source.pause()
        elif self._paused and not full:
            self._source.resume()
        self._paused = full

    # -- out ----------------------------------------------------------------------------------

    def _finish(self, outcome: Outcome | Dropped) -> None:
        self._in_chain -= 1
        self._chain.forget(outcome.record)
        following = self._intake.finished(outcome.record)
        if following is not None and self._drain_until_s is None:
            self._chain.put(following)
            self._in_chain += 1
        if isinstance(outcome, Dropped):
            self._metrics.dropped.inc()
            return
        self._guard.note(outcome)
        self._tracker.finished(outcome.record)
        self._figures.count(outcome)
        if self._on_outcome is not None:
            self._on_outcome(outcome)

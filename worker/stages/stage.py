"""A stage: a bounded queue, its threads, and the work they do on what they take from it.

    put ─► queue ─► batch ─► step ─► hand_on, each item with its result

An exception ends the thread and is reported once; a TransientError does not, it repeats the step.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog
import tenacity

from worker.errors import TransientError
from worker.observe.busy import BusyMeter
from worker.observe.health import Health
from worker.observe.metrics import Metrics

In = TypeVar("In")
Out = TypeVar("Out")

_POLL_S = 0.1  # how soon an idle thread notices that the pipeline was abandoned
_LINGER_STEP_S = 0.002  # how soon a batch that waits for more notices that no more comes
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 15.0

log = structlog.stdlib.get_logger("worker.stage")


@dataclass(frozen=True, slots=True)
class Batching:
    """How many items a step takes at once.

    Args:
        size: at most.
        linger_s: how long a batch that is not full waits for more, counted from its first item. It does not
            wait while nothing is on its way.
        threads: that work side by side.
    """

    size: int = 1
    linger_s: float = 0.0
    threads: int = 1


class Abandoned(Exception):
    """The pipeline was abandoned while a step waited."""


class Running(Protocol):
    """A stage, whatever passes through it."""

    name: str
    busy: BusyMeter

    def start(self) -> None:
        """Start the threads."""

    def is_alive(self) -> bool:
        """Whether every thread still runs."""

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads to leave; False where one has not."""


class Stage(Generic[In, Out]):
    """One stage.

    Args:
        name: label of its metrics and of its failure.
        step: the work; gives one result an item, in order. May raise TransientError, after which it
            is called again with the same batch, so it must be idempotent.
        hand_on: takes each result, on the stage's thread; must not block.
        failed: told of the exception that ended a thread; must not raise.
        capacity: items the queue holds. The pipeline admits no more than this, so `put` never blocks.
        abandon: set when the threads are to leave at once, with whatever they have.
        done: told of each item and the seconds its batch took, before it is handed on.
        more_to_come: whether items are on their way; where none are, a batch does not linger. Any thread.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[Sequence[In]], Sequence[Out]],
        *,
        hand_on: Callable[[Out], None],
        failed: Callable[[str, BaseException], None],
        capacity: int,
        metrics: Metrics,
        health: Health,
        abandon: threading.Event,
        batching: Batching,
        done: Callable[[In, float], None],
        more_to_come: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = name
        self.busy = BusyMeter(batching.threads)
        self._step = step
        self._hand_on = hand_on
        self._failed = failed
        self._metrics = metrics
        self._health = health
        self._abandon = abandon
        self._batching = batching
        self._done = done
        self._more_to_come = more_to_come
        self._items: queue.Queue[In] = queue.Queue(capacity)
        metrics.queue_depth.labels(name).set_function(self._items.qsize)
        metrics.busy_ratio.labels(name).set_function(self.busy.ratio)
        metrics.batch_limit.labels(name).set(batching.size)
        self._call = threading.local()  # the health token of the call that this thread is in
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            wait=_pause_s,
            sleep=tenacity.sleep_using_event(abandon),
            stop=tenacity.stop_when_event_set(abandon),
            before_sleep=self._note_retry,
            retry_error_cls=_GaveUp,
        )
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(batching.threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def put(self, item: In) -> None:
        """Queue an item. Any thread; does not block.

        Raises:
            queue.Full: more was admitted than the queue holds, which is a defect of the caller.
        """
        self._items.put_nowait(item)

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do. Any thread; what was put a moment ago may not count yet."""
        return self.busy.is_idle and self._items.empty()

    def take_back(self) -> list[In]:
        """Remove and return what no thread has begun. Any thread; does not block."""
        taken: list[In] = []
        while True:
            try:
                taken.append(self._items.get_nowait())
            except queue.Empty:
                return taken

    def is_alive(self) -> bool:
        """Whether every thread still runs."""
        return all(thread.is_alive() for thread in self._threads)

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads to leave after `abandon`; False where one is still inside its step."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        try:
            while not self._abandon.is_set():
                batch = self._collect()
                if batch:
                    self._work(batch)
        except Abandoned:
            return
        except BaseException as error:
            self._failed(self.name, error)

    def _collect(self) -> list[In]:
        try:
            batch = [self._items.get(timeout=_POLL_S)]
        except queue.Empty:
            return []
        until_s = time.monotonic() + self._batching.linger_s
        while len(batch) < self._batching.size:
            try:
                batch.append(self._items.get(timeout=self._linger_s(until_s)))
            except queue.Empty:
                if self._linger_s(until_s) == 0:
                    break
        return batch

    def _linger_s(self, until_s: float) -> float:
        """How long to wait for another item now; 0 for not at all."""
        if not self._more_to_come():
            return 0.0
        return min(_LINGER_STEP_S, max(0.0, until_s - time.monotonic()))

    def _work(self, batch: list[In]) -> None:
        begun = time.perf_counter()
        self.busy.enter()
        self._call.token = token = self._health.begin(self.name)
        try:
            results = self._retrying(self._step, batch)
        except _GaveUp as error:
            raise Abandoned from error
        finally:
            self._health.end(token)
            self.busy.leave()
            seconds = time.perf_counter() - begun
            self._note_time(seconds, len(batch))
        for item, result in zip(batch, results, strict=True):
            self._done(item, seconds)
            self._hand_on(result)

    def _note_time(self, seconds: float, size: int) -> None:
        self._metrics.stage_seconds.labels(self.name).observe(seconds)
        self._metrics.stage_busy.labels(self.name).inc(seconds / self._batching.threads)
        self._metrics.batch_size.labels(self.name).observe(size)

    def _note_retry(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause_s = round(state.upcoming_sleep, 1)
        self._metrics.retries.labels(self.name).inc()
        self._health.waiting(self._call.token, str(error), state.upcoming_sleep)
        log.warning("dependency away", stage=self.name, error=str(error), retry_in_s=pause_s)


class _GaveUp(tenacity.RetryError):
    """tenacity stopped repeating because the pipeline was abandoned."""


_BACKOFF = tenacity.wait_exponential(multiplier=_FIRST_PAUSE_S, max=_LONGEST_PAUSE_S) + tenacity.wait_random(
    0, _FIRST_PAUSE_S
)


def _pause_s(state: tenacity.RetryCallState) -> float:
    """Exponential backoff with jitter, or what the dependency asked for if that is longer."""
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, TransientError) else None
    return max(_BACKOFF(state), asked_s or 0.0)

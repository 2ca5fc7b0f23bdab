"""The six stages in a row, and who hands what to whom.

Decoded ─► gather ─► prepare ─► encode ─► index ─► match ─► emit ─► outcomes
TakeDown ──────────────────────────────────► index ───────────► emit
DeadLettered, from anywhere ──────────────────────────────────► emit
Dropped, wherever it is noticed ───────────────────────────────────► outcomes
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TypeVar

from worker.errors import ConfigError, Crash, FatalError
from worker.flow.intake import Decoded, Work
from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.stages.async_stage import AsyncStage, AsyncStep
from worker.stages.stage import Batching, Running, Stage
from worker.stages.times import Staged, StageTimes
from worker.transport.base import Record
from worker.types import DeadLettered, Dropped, Encoded, Gathered, Outcome, Prepared, TakeDown, Unmatched

STAGES = ("gather", "prepare", "encode", "index", "match", "emit")
In = TypeVar("In", bound=Staged)
Out = TypeVar("Out")
_STORE_POSTS = 64  # what one request to the store should carry


@dataclass(frozen=True, slots=True)
class Steps:
    """The work of each stage: one result an item, in order; each may raise TransientError.

    Args:
        gather: opened on its event loop; its step takes one post, and waits.
        times: what the stages note and `emit` tells.
    """

    gather: Callable[[], AbstractAsyncContextManager[AsyncStep[Decoded, Gathered | DeadLettered]]]
    prepare: Callable[[Sequence[Gathered]], Sequence[Prepared | DeadLettered]]
    encode: Callable[[Sequence[Prepared]], Sequence[Encoded | DeadLettered]]
    index: Callable[[Sequence[Encoded | TakeDown]], Sequence[Encoded | Unmatched | DeadLettered | Dropped]]
    match: Callable[[Sequence[Encoded]], Sequence[Outcome]]
    emit: Callable[[Sequence[Outcome]], Sequence[Outcome]]
    times: StageTimes = field(default_factory=StageTimes)


def stage_batching(prepare_threads: int, encode: Batching) -> dict[str, Batching]:
    """How each stage with threads takes its posts, by its name."""
    store = Batching(_STORE_POSTS)
    return {
        "prepare": Batching(threads=prepare_threads),
        "encode": encode,
        "index": store,
        "match": store,
        "emit": store,
    }


class Chain:
    """Runs the steps on threads of their own. Its methods are called by the main thread.

    Args:
        capacity: posts inside, at most; every queue holds that many.
        gather_places: posts that the LLM or the pictures' hosts are asked for at once, at most.
        prepare_threads: how many posts are prepared side by side.
        encode: how the encoder's batches form.
        is_ours: whether a record's partition is still assigned as it was when it was delivered. Any thread.
    """

    def __init__(
        self,
        steps: Steps,
        *,
        capacity: int,
        gather_places: int,
        prepare_threads: int,
        encode: Batching,
        metrics: Metrics,
        health: Health,
        is_ours: Callable[[Record], bool],
    ) -> None:
        self._capacity = capacity
        self._metrics = metrics
        self._health = health
        self._is_ours = is_ours
        self._times = steps.times
        self._abandon = threading.Event()
        self._failures: queue.SimpleQueue[tuple[str, BaseException]] = queue.SimpleQueue()
        self._outcomes: queue.Queue[Outcome | Dropped] = queue.Queue(capacity)
        self._batching = stage_batching(prepare_threads, encode)
        self._emit = self._stage("emit", steps.emit, self._outcomes.put_nowait)
        self._match = self._stage("match", steps.match, self._emit.put)
        self._index = self._stage("index", steps.index, self._after_index)
        self._encode = self._stage(
            "encode", steps.encode, self._after_encode, lambda: not self._prepare.is_idle
        )
        self._prepare = self._stage("prepare", steps.prepare, self._after_prepare)
        self._gather = AsyncStage(
            "gather",
            steps.gather,
            hand_on=self._after_gather,
            failed=self._failed,
            metrics=metrics,
            health=health,
            abandon=self._abandon,
            done=self._times.noting("gather"),
            places=gather_places,
        )
        self._stages: tuple[Running, ...] = (
            self._gather,
            self._prepare,
            self._encode,
            self._index,
            self._match,
            self._emit,
        )

    def start(self) -> None:
        """Start every thread."""
        for stage in self._stages:
            stage.start()

    def put(self, work: Work) -> None:
        """Begin; does not block."""
        if isinstance(work, Decoded):
            self._gather.put(work)
        elif isinstance(work, TakeDown):
            self._index.put(work)
        else:
            self._emit.put(work)

    def outcomes(self, timeout_s: float) -> list[Outcome | Dropped]:
        """What reached its end; waits for the first one at most this long."""
        ready: list[Outcome | Dropped] = []
        try:
            ready.append(self._outcomes.get(timeout=timeout_s))
            while True:
                ready.append(self._outcomes.get_nowait())
        except queue.Empty:
            return ready

    def take_back(self) -> int:
        """Drop what no thread of the first queue has begun; says how many."""
        taken = self._prepare.take_back()
        for item in taken:
            item.release()
        return len(taken)

    def forget(self, record: Record) -> None:
        """The record has its outcome."""
        self._times.forget(record)

    def check(self) -> None:
        """Look after the threads.

        Raises:
            ConfigError: what a stage works with cannot be opened as configured.
            FatalError: one of them failed; names the stage and what happened. A `Crash` where it was no error
                of the worker's own.
        """
        try:
            name, error = self._failures.get_nowait()
        except queue.Empty:
            dead = [stage.name for stage in self._stages if not stage.is_alive()]
            if dead and self._failures.empty():
                raise FatalError(f"the {dead[0]} stage died without saying why") from None
            return
        while isinstance(error, BaseExceptionGroup):  # of a task group: it says nothing itself
            error = error.exceptions[0]
        if isinstance(error, ConfigError):
            raise error
        lines = str(error).splitlines() or [type(error).__name__]
        if isinstance(error, FatalError):
            raise FatalError(f"the {name} stage failed: {lines[0]}") from error
        raise Crash(f"the {name} stage failed: {type(error).__name__}: {lines[0]}") from error

    def abandon(self, timeout_s: float) -> bool:
        """Have every thread leave and wait for it; False where one is still inside its step."""
        self._abandon.set()
        deadline = time.monotonic() + timeout_s
        left = [stage.join(max(0.0, deadline - time.monotonic())) for stage in self._stages]
        return all(left)

    def busy_s(self) -> Mapping[str, float]:
        """Seconds that each stage worked, on average over its threads or places."""
        return {stage.name: stage.busy.seconds() for stage in self._stages}

    def _stage(
        self,
        name: str,
        step: Callable[[Sequence[In]], Sequence[Out]],
        hand_on: Callable[[Out], None],
        more_to_come: Callable[[], bool] = lambda: True,
    ) -> Stage[In, Out]:
        return Stage(
            name,
            step,
            hand_on=hand_on,
            failed=self._failed,
            capacity=self._capacity,
            metrics=self._metrics,
            health=self._health,
            abandon=self._abandon,
            batching=self._batching[name],
            done=self._times.noting(name),
            more_to_come=more_to_come,
        )

    def _after_gather(self, item: Gathered | DeadLettered) -> None:
        if isinstance(item, DeadLettered):
            self._emit.put(item)
        elif self._is_ours(item.record):
            self._prepare.put(item)
        else:
            item.release()
            self._outcomes.put_nowait(Dropped(item.record))

    def _after_prepare(self, item: Prepared | DeadLettered) -> None:
        if isinstance(item, Prepared):
            self._encode.put(item)
        else:
            self._emit.put(item)

    def _after_encode(self, item: Encoded | DeadLettered) -> None:
        if isinstance(item, Encoded):
            self._index.put(item)
        else:
            self._emit.put(item)

    def _after_index(self, item: Encoded | Unmatched | DeadLettered | Dropped) -> None:
        if isinstance(item, Encoded):
            self._match.put(item)
        elif isinstance(item, Dropped):
            self._outcomes.put_nowait(item)
        else:
            self._emit.put(item)

    def _failed(self, stage: str, error: BaseException) -> None:
        self._failures.put((stage, error))

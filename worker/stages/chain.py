"""The five stages in a row, and who hands what to whom.

Decoded ─► prepare ─► encode ─► index ─► match ─► emit ─► outcomes
TakeDown ───────────────────────► index ───────────► emit
DeadLettered, from anywhere ───────────────────────► emit
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from worker.errors import FatalError
from worker.intake import Decoded, Work
from worker.metrics import Metrics
from worker.stages.stage import Batching, Running, Stage
from worker.types import DeadLettered, Encoded, Outcome, Prepared, TakeDown, Unmatched

STAGES = ("prepare", "encode", "index", "match", "emit")
In = TypeVar("In")
Out = TypeVar("Out")
_STORE_POSTS = 64  # what one request to the store should carry


@dataclass(frozen=True, slots=True)
class Steps:
    """The work of each stage: one result an item, in order; each may raise TransientError."""

    prepare: Callable[[Sequence[Decoded]], Sequence[Prepared | DeadLettered]]
    encode: Callable[[Sequence[Prepared]], Sequence[Encoded | DeadLettered]]
    index: Callable[[Sequence[Encoded | TakeDown]], Sequence[Encoded | Unmatched | DeadLettered]]
    match: Callable[[Sequence[Encoded]], Sequence[Outcome]]
    emit: Callable[[Sequence[Outcome]], Sequence[Outcome]]


class Chain:
    """Runs the steps on threads of their own. Its methods are called by the main thread.

    Args:
        capacity: posts inside, at most; every queue holds that many.
        prepare_threads: how many posts are prepared side by side.
        encode: how the encoder's batches form.
    """

    def __init__(
        self, steps: Steps, *, capacity: int, prepare_threads: int, encode: Batching, metrics: Metrics
    ) -> None:
        self._capacity = capacity
        self._metrics = metrics
        self._abandon = threading.Event()
        self._failures: queue.SimpleQueue[tuple[str, BaseException]] = queue.SimpleQueue()
        self._outcomes: queue.Queue[Outcome] = queue.Queue(capacity)
        store = Batching(_STORE_POSTS)
        self._emit = self._stage("emit", steps.emit, self._outcomes.put_nowait, store)
        self._match = self._stage("match", steps.match, self._emit.put, store)
        self._index = self._stage("index", steps.index, self._after_index, store)
        self._encode = self._stage("encode", steps.encode, self._after_encode, encode)
        one_each = Batching(threads=prepare_threads)
        self._prepare = self._stage("prepare", steps.prepare, self._after_prepare, one_each)
        self._stages: tuple[Running, ...] = (
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
            self._prepare.put(work)
        elif isinstance(work, TakeDown):
            self._index.put(work)
        else:
            self._emit.put(work)

    def outcomes(self, timeout_s: float) -> list[Outcome]:
        """What reached its end; waits for the first one at most this long."""
        ready: list[Outcome] = []
        try:
            ready.append(self._outcomes.get(timeout=timeout_s))
            while True:
                ready.append(self._outcomes.get_nowait())
        except queue.Empty:
            return ready

    def take_back(self) -> int:
        """Drop what no thread has begun; says how many."""
        return len(self._prepare.take_back())

    def check(self) -> None:
        """Look after the threads.

        Raises:
            FatalError: one of them failed; names the stage and what happened.
        """
        try:
            name, error = self._failures.get_nowait()
        except queue.Empty:
            dead = [stage.name for stage in self._stages if not stage.is_alive()]
            if dead and self._failures.empty():
                raise FatalError(f"the {dead[0]} stage died without saying why") from None
            return
        lines = str(error).splitlines() or [type(error).__name__]
        kind = "" if isinstance(error, FatalError) else f"{type(error).__name__}: "
        raise FatalError(f"the {name} stage failed: {kind}{lines[0]}") from error

    def abandon(self, timeout_s: float) -> bool:
        """Have every thread leave and wait for it; False where one is still inside its step."""
        self._abandon.set()
        deadline = time.monotonic() + timeout_s
        left = [stage.join(max(0.0, deadline - time.monotonic())) for stage in self._stages]
        return all(left)

    def busy_s(self) -> Mapping[str, float]:
        """Seconds that each stage's threads worked."""
        return {stage.name: stage.busy_s for stage in self._stages}

    def _stage(
        self,
        name: str,
        step: Callable[[Sequence[In]], Sequence[Out]],
        hand_on: Callable[[Out], None],
        batching: Batching,
    ) -> Stage[In, Out]:
        return Stage(
            name,
            step,
            hand_on=hand_on,
            failed=self._failed,
            capacity=self._capacity,
            metrics=self._metrics,
            abandon=self._abandon,
            batching=batching,
        )

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

    def _after_index(self, item: Encoded | Unmatched | DeadLettered) -> None:
        if isinstance(item, Encoded):
            self._match.put(item)
        else:
            self._emit.put(item)

    def _failed(self, stage: str, error: BaseException) -> None:
        self._failures.put((stage, error))

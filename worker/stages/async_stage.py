"""A stage whose work is waiting for others: one event loop on one thread, a task an item.

    put ─► task ─► step ─► hand_on, as each one finishes

An exception ends the stage and is reported once.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from worker.observe.busy import BusyMeter
from worker.observe.health import Health
from worker.observe.metrics import Metrics

In = TypeVar("In")
Out = TypeVar("Out")
AsyncStep = Callable[[In], Awaitable[Out]]

_TICK_S = 0.1


class AsyncStage(Generic[In, Out]):
    """One stage.

    Args:
        name: label of its metrics and of its failure.
        open_step: opens, on the loop's thread, what the step works with, and gives the step; it handles one
            item and may wait. How many wait at once is bounded by what the pipeline admits.
        hand_on: takes each result, on the loop's thread; must not block.
        failed: told of the exception that ended the stage; must not raise.
        abandon: set when the thread is to leave at once, with whatever it has.
        done: told of each item and the seconds it took, before it is handed on.
        places: how many items it is busy with at most; more of them wait for a place.
    """

    def __init__(
        self,
        name: str,
        open_step: Callable[[], AbstractAsyncContextManager[AsyncStep[In, Out]]],
        *,
        hand_on: Callable[[Out], None],
        failed: Callable[[str, BaseException], None],
        metrics: Metrics,
        health: Health,
        abandon: threading.Event,
        done: Callable[[In, float], None],
        places: int,
    ) -> None:
        self.name = name
        self.busy = BusyMeter(places)
        self._open_step = open_step
        self._hand_on = hand_on
        self._failed = failed
        self._metrics = metrics
        self._health = health
        self._abandon = abandon
        self._done = done
        self._loop: asyncio.AbstractEventLoop  # made by `start`: a stage that never runs holds nothing open
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.queue_depth.labels(name).set_function(lambda: len(self._tasks))
        metrics.busy_ratio.labels(name).set_function(self.busy.ratio)
        metrics.batch_limit.labels(name).set(1)
        self._step: AsyncStep[In, Out] | None = None
        self._opened = threading.Event()
        self._error: BaseException | None = None
        self._is_leaving = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread and wait until the step is open."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        self._opened.wait()

    def put(self, item: In) -> None:
        """Begin an item. Any thread; does not block. After the end of the stage nothing begins."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and `failed` was told why
            self._loop.call_soon_threadsafe(self._begin, item)

    def take_back(self) -> list[In]:
        """Nothing: every item is begun at once."""
        return []

    def is_alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to leave after `abandon`; False where it has not."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                self._run_in(runner)  # its end waits for threads of the loop that may hang
        finally:
            self._opened.set()

    def _run_in(self, runner: asyncio.Runner) -> None:
        try:
            runner.run(self._serve())
        except BaseException as error:
            self._failed(self.name, error)
            self._opened.set()

    async def _serve(self) -> None:
        async with self._open_step() as step:
            self._step = step
            self._opened.set()
            counted_s = 0.0
            while self._error is None and not self._abandon.is_set():
                # A loop that something blocks does not come back here: that is what health sees.
                token = self._health.begin(self.name)
                await asyncio.sleep(_TICK_S)
                self._health.end(token)
                busy_s = self.busy.seconds()
                self._metrics.stage_busy.labels(self.name).inc(busy_s - counted_s)
                counted_s = busy_s
            self._is_leaving = True
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._error is not None:
            raise self._error

    def _begin(self, item: In) -> None:
        task = self._loop.create_task(self._work(item))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, item: In) -> None:
        assert self._step is not None
        begun = time.perf_counter()
        self.busy.enter()
        try:
            result = await self._step(item)
            seconds = time.perf_counter() - begun
            self._metrics.stage_seconds.labels(self.name).observe(seconds)
            self._metrics.batch_size.labels(self.name).observe(1)
            self._done(item, seconds)
            self._hand_on(result)
        except asyncio.CancelledError as error:
            if not self._is_leaving:  # not by us: without a word the item would never have an outcome
                self._error = self._error or error
            raise
        except Exception as error:
            self._error = self._error or error
        finally:
            self.busy.leave()

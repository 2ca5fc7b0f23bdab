"""A stage that waits: many at once, each handed on as it finishes, and a failure that is told."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.sections import HealthConfig
from worker.stages.async_stage import AsyncStage, AsyncStep


class Bench:
    """A stage over a step of the test's own, and what came out of it."""

    def __init__(self, step: AsyncStep[int, int], *, health: Health | None = None) -> None:
        self.results: queue.Queue[int] = queue.Queue()
        self.failures: queue.Queue[tuple[str, BaseException]] = queue.Queue()
        self.done: list[int] = []
        self.closed = threading.Event()
        self.abandon = threading.Event()
        self.metrics = Metrics(("wait",))

        @asynccontextmanager
        async def open_step() -> AsyncIterator[AsyncStep[int, int]]:
            try:
                yield step
            finally:
                self.closed.set()

        self.stage = AsyncStage[int, int](
            "wait",
            open_step,
            hand_on=self.results.put,
            failed=lambda name, error: self.failures.put((name, error)),
            metrics=self.metrics,
            health=health or Health(HealthConfig()),
            abandon=self.abandon,
            done=lambda item, seconds: self.done.append(item),
            places=2,
        )

    def start(self) -> Bench:
        self.stage.start()
        return self


@pytest.fixture
def benches() -> Iterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        bench.abandon.set()
        assert bench.stage.join(10)


def test_items_wait_side_by_side_and_a_slow_one_holds_nothing_up(benches: list[Bench]) -> None:
    gate = asyncio.Event()

    async def step(item: int) -> int:
        if item == 0:
            await gate.wait()
        elif item == 50:
            gate.set()
        return item

    bench = Bench(step).start()
    benches.append(bench)
    for item in range(51):
        bench.stage.put(item)
    assert [bench.results.get(timeout=10) for _ in range(51)] == [*range(1, 51), 0]
    assert bench.done[-1] == 0
    assert bench.metrics.registry.get_sample_value("entityclip_stage_seconds_count", {"stage": "wait"}) == 51


def test_an_exception_ends_the_stage_and_is_told_once(benches: list[Bench]) -> None:
    async def step(item: int) -> int:
        raise ValueError(f"bad {item}")

    bench = Bench(step).start()
    benches.append(bench)
    bench.stage.put(1)
    name, error = bench.failures.get(timeout=10)
    assert (name, str(error)) == ("wait", "bad 1")
    assert bench.stage.join(10)
    assert bench.closed.is_set()


def test_abandoned_items_are_cancelled_and_what_was_opened_is_closed() -> None:
    cancelled = threading.Event()

    async def step(item: int) -> int:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return item

    bench = Bench(step).start()
    bench.stage.put(1)
    bench.abandon.set()
    assert bench.stage.join(10)
    assert bench.closed.is_set()
    assert bench.results.empty()
    assert bench.failures.empty()


def test_a_loop_that_is_blocked_is_a_stall(benches: list[Bench]) -> None:
    now = [0.0]
    health = Health(HealthConfig(stalled_s=5.0), clock=lambda: now[0])
    health.warm()
    inside, leave = threading.Event(), threading.Event()

    async def step(item: int) -> int:
        inside.set()
        leave.wait(10)  # what no step should do
        return item

    bench = Bench(step, health=health).start()
    benches.append(bench)
    bench.stage.put(1)
    assert inside.wait(10)
    health.tick()
    now[0] = 6.0
    health.tick()
    ready, reasons = health.ready()
    leave.set()
    assert not ready
    assert "wait" in reasons[0]


def test_an_item_after_the_end_is_left_to_whoever_hears_of_the_failure() -> None:
    async def step(item: int) -> int:
        raise ValueError("bad")

    bench = Bench(step).start()
    bench.stage.put(1)
    assert bench.stage.join(10)
    bench.stage.put(2)  # the main thread may not have heard of it yet
    assert str(bench.failures.get(timeout=10)[1]) == "bad"


def test_a_step_that_is_cancelled_by_itself_is_a_failure_not_a_lost_item(benches: list[Bench]) -> None:
    async def step(item: int) -> int:
        raise asyncio.CancelledError

    bench = Bench(step).start()
    benches.append(bench)
    bench.stage.put(1)
    name, error = bench.failures.get(timeout=10)
    assert (name, type(error)) == ("wait", asyncio.CancelledError)


def test_a_failure_is_told_while_a_thread_of_the_loop_still_hangs(benches: list[Bench]) -> None:
    leave = threading.Event()

    async def step(item: int) -> int:
        if item == 0:
            await asyncio.to_thread(leave.wait, 60)
        raise ValueError("bad")

    bench = Bench(step).start()
    benches.append(bench)
    bench.stage.put(0)
    bench.stage.put(1)
    try:
        assert str(bench.failures.get(timeout=5)[1]) == "bad"
    finally:
        leave.set()


def test_nothing_waits_once_everything_was_handed_on(benches: list[Bench]) -> None:
    async def step(item: int) -> int:
        return item

    bench = Bench(step).start()
    benches.append(bench)
    bench.stage.put(1)
    assert bench.results.get(timeout=10) == 1
    deadline = time.monotonic() + 5
    while bench.metrics.registry.get_sample_value("entityclip_stage_queue_posts", {"stage": "wait"}):
        assert time.monotonic() < deadline, "the gauge stays up"
        time.sleep(0.01)


def test_it_is_busy_by_the_places_that_are_taken(benches: list[Bench]) -> None:
    gate = asyncio.Event()

    async def step(item: int) -> int:
        if item < 2:
            await gate.wait()
        else:
            gate.set()
        return item

    bench = Bench(step).start()
    benches.append(bench)
    assert bench.stage.busy.is_idle
    bench.stage.put(0)
    bench.stage.put(1)
    deadline = time.monotonic() + 5
    while not bench.stage.busy.seconds():
        assert time.monotonic() < deadline, "nothing counts as busy"
        time.sleep(0.01)
    assert bench.metrics.registry.get_sample_value("entityclip_stage_busy_ratio", {"stage": "wait"})
    bench.stage.put(2)
    assert {bench.results.get(timeout=10) for _ in range(3)} == {0, 1, 2}
    while not bench.stage.busy.is_idle:
        assert time.monotonic() < deadline, "it stays busy"
        time.sleep(0.01)

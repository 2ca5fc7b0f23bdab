"""A stage with threads: how its batches form."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.sections import HealthConfig
from worker.stages.stage import Batching, Stage

_LONG_S = 60.0  # longer than any test waits


class Bench:
    """A stage that hands on what it takes, and the batches that it took."""

    def __init__(
        self,
        batching: Batching,
        more_to_come: Callable[[], bool] = lambda: True,
        step: Callable[[Sequence[int]], Sequence[int]] = lambda items: items,
    ) -> None:
        self.batches: queue.Queue[list[int]] = queue.Queue()
        self.abandon = threading.Event()
        self.metrics = Metrics(("work",))
        self._step = step
        self.stage = Stage[int, int](
            "work",
            self._work,
            hand_on=lambda item: None,
            failed=lambda name, error: None,
            capacity=100,
            metrics=self.metrics,
            health=Health(HealthConfig()),
            abandon=self.abandon,
            batching=batching,
            done=lambda item, seconds: None,
            more_to_come=more_to_come,
        )

    def _work(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.put(list(items))
        return self._step(items)

    def value(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"entityclip_{name}", {"stage": "work"})


@pytest.fixture
def benches() -> Iterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        bench.abandon.set()
        assert bench.stage.join(10)


def test_what_waits_is_taken_at_once_up_to_the_size(benches: list[Bench]) -> None:
    bench = Bench(Batching(4, _LONG_S), more_to_come=lambda: False)
    benches.append(bench)
    for item in range(6):
        bench.stage.put(item)
    bench.stage.start()
    assert [bench.batches.get(timeout=10) for _ in range(2)] == [[0, 1, 2, 3], [4, 5]]


def test_a_batch_does_not_linger_while_nothing_is_on_its_way(benches: list[Bench]) -> None:
    bench = Bench(Batching(4, _LONG_S), more_to_come=lambda: False)
    benches.append(bench)
    bench.stage.start()
    bench.stage.put(1)
    assert bench.batches.get(timeout=10) == [1]


def test_a_batch_lingers_for_what_is_on_its_way(benches: list[Bench]) -> None:
    bench = Bench(Batching(3, _LONG_S), more_to_come=lambda: True)
    benches.append(bench)
    bench.stage.start()
    for item in range(3):
        bench.stage.put(item)
    assert bench.batches.get(timeout=10) == [0, 1, 2]


def test_a_batch_that_lingers_goes_once_nothing_is_on_its_way_any_more(benches: list[Bench]) -> None:
    coming = threading.Event()
    coming.set()
    bench = Bench(Batching(3, _LONG_S), more_to_come=coming.is_set)
    benches.append(bench)
    bench.stage.start()
    bench.stage.put(1)
    coming.clear()
    assert bench.batches.get(timeout=10) == [1]


def test_a_batch_goes_when_its_time_is_over(benches: list[Bench]) -> None:
    bench = Bench(Batching(3, 0.01), more_to_come=lambda: True)
    benches.append(bench)
    bench.stage.start()
    bench.stage.put(1)
    assert bench.batches.get(timeout=10) == [1]


def test_threads_of_one_stage_work_side_by_side(benches: list[Bench]) -> None:
    both = threading.Barrier(2)

    def step(items: Sequence[int]) -> Sequence[int]:
        both.wait(10)
        return items

    bench = Bench(Batching(threads=2), step=step)
    benches.append(bench)
    bench.stage.put(1)
    bench.stage.put(2)
    bench.stage.start()
    assert {bench.batches.get(timeout=10)[0] for _ in range(2)} == {1, 2}
    assert bench.stage.is_alive()


def test_a_stage_inside_its_step_is_busy_and_not_idle(benches: list[Bench]) -> None:
    inside, leave = threading.Event(), threading.Event()

    def step(items: Sequence[int]) -> Sequence[int]:
        inside.set()
        leave.wait(10)
        return items

    bench = Bench(Batching(8), step=step)
    benches.append(bench)
    assert bench.stage.is_idle
    assert bench.value("stage_busy_ratio") == 0
    bench.stage.start()
    bench.stage.put(1)
    assert inside.wait(10)
    busy, idle = bench.value("stage_busy_ratio"), bench.stage.is_idle
    leave.set()
    assert busy
    assert not idle
    assert bench.value("stage_batch_limit_posts") == 8

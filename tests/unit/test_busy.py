"""How busy a stage is said to be."""

from __future__ import annotations

import pytest

from worker.observe.busy import WINDOW_S, BusyMeter


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def worked(meter: BusyMeter, clock: Clock, seconds: float) -> None:
    meter.enter()
    clock.now_s += seconds
    meter.leave()


def test_share_is_of_all_places() -> None:
    clock = Clock()
    meter = BusyMeter(4, clock)
    meter.enter()
    meter.enter()
    clock.now_s += 10
    meter.leave()
    clock.now_s += 5
    assert meter.ratio() == pytest.approx(25 / 60)
    assert meter.seconds() == pytest.approx(25 / 4)


def test_a_call_that_goes_on_counts_before_it_ends() -> None:
    clock = Clock()
    meter = BusyMeter(1, clock)
    meter.enter()
    clock.now_s += 60
    assert meter.ratio() == pytest.approx(1.0)


def test_what_waits_for_a_place_does_not_count() -> None:
    clock = Clock()
    meter = BusyMeter(2, clock)
    for _ in range(10):
        meter.enter()
    clock.now_s += 3
    assert meter.ratio() == pytest.approx(1.0)


def test_only_the_last_seconds_count() -> None:
    clock = Clock()
    meter = BusyMeter(1, clock)
    for _ in range(60):
        worked(meter, clock, 1.0)
    for _ in range(60):
        worked(meter, clock, 0.25)
        clock.now_s += 0.75
    assert meter.ratio() == pytest.approx(0.25, abs=0.04)
    assert meter.seconds() == pytest.approx(75)


def test_a_stage_without_work_for_longer_than_the_window_is_not_busy() -> None:
    clock = Clock()
    meter = BusyMeter(1, clock)
    worked(meter, clock, 30.0)
    clock.now_s += 4 * WINDOW_S
    assert meter.ratio() == pytest.approx(0.0)


def test_the_end_of_a_long_call_shows_at_once() -> None:
    clock = Clock()
    meter = BusyMeter(1, clock)
    worked(meter, clock, 60.0)
    clock.now_s += 5
    assert meter.ratio() == pytest.approx(10 / WINDOW_S)


def test_idle_means_that_no_place_is_taken() -> None:
    meter = BusyMeter(2)
    meter.enter()
    assert not meter.is_idle
    meter.leave()
    assert meter.is_idle

"""A dead server costs one call now and then; all others are skipped."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from worker.coordination.breaker import Breaker


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("Redis", clock)


def test_a_server_that_is_well_is_called_every_time(breaker: Breaker) -> None:
    for _ in range(3):
        assert breaker.wait_s() == 0
        breaker.succeeded()


def test_after_a_failure_calls_are_skipped_for_half_a_second(breaker: Breaker, clock: Clock) -> None:
    breaker.failed("refused")
    assert breaker.wait_s() == 0.5
    clock.now += 0.3
    assert breaker.wait_s() == pytest.approx(0.2)


def test_then_a_single_call_is_let_through(breaker: Breaker, clock: Clock) -> None:
    breaker.failed("refused")
    clock.now += 0.5
    assert breaker.wait_s() == 0
    assert breaker.wait_s() > 0


def test_a_call_that_never_reports_is_followed_by_another_one(breaker: Breaker, clock: Clock) -> None:
    breaker.failed("refused")
    clock.now += 0.5
    assert breaker.wait_s() == 0  # and is cancelled
    clock.now += 0.5
    assert breaker.wait_s() == 0


def test_the_wait_grows_to_five_seconds(breaker: Breaker, clock: Clock) -> None:
    waits = []
    breaker.failed("refused")
    for _ in range(6):
        waits.append(breaker.wait_s())
        clock.now += waits[-1]
        assert breaker.wait_s() == 0
        breaker.failed("refused")
    assert waits == [0.5, 1, 2, 4, 5, 5]


def test_calls_that_fail_together_count_once(breaker: Breaker) -> None:
    for _ in range(10):
        breaker.failed("timeout")
    assert breaker.wait_s() == 0.5


def test_a_success_lets_everything_through_again(breaker: Breaker, clock: Clock) -> None:
    breaker.failed("refused")
    clock.now += 0.5
    assert breaker.wait_s() == 0
    breaker.succeeded()
    assert breaker.wait_s() == 0
    breaker.failed("refused")
    assert breaker.wait_s() == 0.5  # and the next failure begins anew


def test_each_change_is_logged_once(breaker: Breaker) -> None:
    with capture_logs() as lines:
        breaker.failed("refused")
        breaker.failed("refused")
        breaker.succeeded()
        breaker.succeeded()
    assert [line["event"] for line in lines] == ["away; work goes on without it", "back again"]


def test_a_refusal_does_not_stop_other_calls(breaker: Breaker) -> None:
    breaker.refused("OOM")
    assert breaker.wait_s() == 0


def test_refusals_are_logged_once_a_minute(breaker: Breaker, clock: Clock) -> None:
    with capture_logs() as lines:
        breaker.refused("OOM")
        clock.now += 59
        breaker.refused("OOM")
        assert len(lines) == 1
        clock.now += 2
        breaker.refused("OOM")
    assert len(lines) == 2

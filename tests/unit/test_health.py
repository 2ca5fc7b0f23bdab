"""Health: ready is progress, and waiting for a dependency is no reason to be killed."""

from __future__ import annotations

import pytest

from worker.observe.health import Health
from worker.sections import HealthConfig

STALLED_S, DEAD_S = 60.0, 600.0


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    """A worker that is warm and turning."""
    health = Health(HealthConfig(stalled_s=STALLED_S, dead_s=DEAD_S), clock)
    health.warm()
    return health


def test_a_worker_that_loads_is_alive_and_not_ready(clock: Clock) -> None:
    loading = Health(HealthConfig(stalled_s=STALLED_S, dead_s=DEAD_S), clock)
    clock.pass_s(10 * DEAD_S)
    assert loading.ready() == (False, ["loading"])
    assert loading.alive() == (True, [])


def test_a_warm_worker_is_ready(health: Health) -> None:
    assert health.ready() == (True, [])


def test_a_worker_that_drains_is_alive_and_not_ready(health: Health) -> None:
    health.draining()
    ready, reasons = health.ready()
    assert not ready
    assert "draining" in reasons[0]
    assert health.alive()[0]


def test_a_main_loop_that_stands_still_first_stops_being_ready_and_then_being_alive(
    health: Health, clock: Clock
) -> None:
    clock.pass_s(STALLED_S + 1)
    assert health.ready() == (False, ["the main loop has not turned for 61 s"])
    assert health.alive()[0]
    clock.pass_s(DEAD_S)
    assert health.alive() == (False, ["the main loop has not turned for 661 s"])


def test_a_tick_makes_ready_again(health: Health, clock: Clock) -> None:
    clock.pass_s(DEAD_S + 1)
    health.tick()
    assert health.ready()[0]
    assert health.alive()[0]


def test_a_call_that_hangs_is_named(health: Health, clock: Clock) -> None:
    health.begin("encode")
    clock.pass_s(STALLED_S + 1)
    health.tick()
    assert health.ready() == (False, ["encode has been inside one call for 61 s"])
    assert health.alive()[0]


def test_a_call_that_hangs_for_long_kills(health: Health, clock: Clock) -> None:
    health.begin("encode")
    clock.pass_s(DEAD_S + 1)
    health.tick()
    assert health.alive() == (False, ["encode has been inside one call for 601 s"])


def test_a_call_that_ended_is_forgotten(health: Health, clock: Clock) -> None:
    health.end(health.begin("encode"))
    clock.pass_s(DEAD_S + 1)
    health.tick()
    assert health.ready()[0]


def test_one_thread_of_a_stage_that_hangs_is_seen_beside_one_that_works(health: Health, clock: Clock) -> None:
    health.begin("prepare")
    clock.pass_s(STALLED_S + 1)
    health.end(health.begin("prepare"))
    health.tick()
    assert not health.ready()[0]


def test_waiting_for_a_dependency_is_tolerated_at_first(health: Health, clock: Clock) -> None:
    token = health.begin("index")
    clock.pass_s(STALLED_S - 1)
    health.waiting(token, "the store is away")
    clock.pass_s(STALLED_S - 1)
    health.tick()
    assert health.ready()[0]


def test_waiting_for_long_is_not_ready_and_names_the_dependency_but_never_kills(
    health: Health, clock: Clock
) -> None:
    token = health.begin("index")
    while clock.now_s < 1000 + 2 * DEAD_S:
        health.waiting(token, "the store is away", pause_s=15)
        clock.pass_s(20)
        health.tick()
    assert health.ready() == (False, ["index has waited for 1200 s: the store is away"])
    assert health.alive() == (True, [])


def test_a_long_pause_that_the_dependency_asked_for_does_not_kill(health: Health, clock: Clock) -> None:
    health.waiting(health.begin("index"), "the store is busy", pause_s=2 * DEAD_S)
    clock.pass_s(DEAD_S + STALLED_S + 1)
    health.tick()
    assert health.alive()[0]


def test_a_repeated_call_that_hangs_kills_though_it_has_waited_before(health: Health, clock: Clock) -> None:
    health.waiting(health.begin("index"), "the store is away")
    clock.pass_s(DEAD_S + 1)
    health.tick()
    assert not health.alive()[0]


def test_a_dependency_that_came_back_makes_ready_again(health: Health, clock: Clock) -> None:
    token = health.begin("index")
    health.waiting(token, "the store is away")
    clock.pass_s(STALLED_S + 1)
    health.end(token)
    health.tick()
    assert health.ready()[0]


def test_a_reason_stays_on_one_line(health: Health, clock: Clock) -> None:
    health.waiting(health.begin("index"), "away:\r\nSet-Cookie: x\x1b[31m", pause_s=STALLED_S)
    clock.pass_s(STALLED_S + 1)
    health.tick()
    assert health.ready()[1] == ["index has waited for 61 s: away: Set-Cookie: x [31m"]


def test_every_reason_is_named_at_once(health: Health, clock: Clock) -> None:
    health.begin("encode")
    health.draining()
    clock.pass_s(STALLED_S + 1)
    assert len(health.ready()[1]) == 3

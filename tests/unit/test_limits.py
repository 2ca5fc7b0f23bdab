"""Too many refusals stop the worker before they are committed; a single one does not."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import record
from worker.errors import FatalError, Reason
from worker.flow.limits import DeadLetterGuard
from worker.sections import DeadLetterLimits
from worker.types import DeadLettered, Outcome, Unmatched

LIMITS = DeadLetterLimits(max_run=5, max_ratio=0.5, window=10)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def bad(reason: Reason = Reason.INVALID_JSON) -> Outcome:
    return DeadLettered(record(0), reason, "why", "decode")


def good() -> Outcome:
    return Unmatched(record(0), "post0", 1)


def note(guard: DeadLetterGuard, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        guard.note(outcome)


def stopped_at(limits: DeadLetterLimits, refusals: Iterable[bool]) -> int | None:
    """How many outcomes the guard took before it raised; None where it took all."""
    guard = DeadLetterGuard(limits)
    for place, refused in enumerate(refusals):
        try:
            guard.note(bad() if refused else good())
        except FatalError:
            return place
    return None


def naive(limits: DeadLetterLimits, refusals: list[bool]) -> int | None:
    for place in range(len(refusals)):
        until_here = refusals[: place + 1]
        run = len(until_here) - max(
            (number + 1 for number, bad in enumerate(until_here) if not bad), default=0
        )
        window = until_here[-limits.window :]
        is_over = len(window) == limits.window and sum(window) / limits.window > limits.max_ratio
        if run > limits.max_run or is_over:
            return place
    return None


def test_a_run_up_to_the_limit_is_taken_and_one_more_is_fatal() -> None:
    guard = DeadLetterGuard(LIMITS)
    note(guard, *[bad()] * 5)
    with pytest.raises(
        FatalError, match=r"6 posts in a row were refused.*max_run \(5\), 6 of them invalid_json:"
    ):
        guard.note(bad())


def test_a_good_post_ends_a_run() -> None:
    guard = DeadLetterGuard(DeadLetterLimits(max_run=5, max_ratio=1.0, window=10))
    for _ in range(10):
        note(guard, *[bad()] * 5, good())


def test_a_ratio_over_the_limit_is_fatal_once_the_window_is_full() -> None:
    guard = DeadLetterGuard(LIMITS)
    note(guard, bad(), bad(), good(), bad(), bad(), good(), bad(), bad(), good())
    with pytest.raises(FatalError, match=r"6 of the last 10 posts were refused.*max_ratio \(0\.5\)"):
        guard.note(good())


def test_the_commonest_reason_and_the_remedy_are_named_on_one_line() -> None:
    guard = DeadLetterGuard(LIMITS)
    note(guard, bad(), *[bad(Reason.IMAGE_UNAVAILABLE)] * 3, bad())
    with pytest.raises(FatalError) as caught:
        guard.note(bad(Reason.IMAGE_UNAVAILABLE))
    message = str(caught.value)
    assert "4 of them image_unavailable" in message
    assert "dead_letter_limits.ignore" in message
    assert len(message.splitlines()) == 1


@given(
    st.lists(st.booleans(), max_size=60),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    st.integers(10, 20),
)
def test_it_stops_where_counting_anew_each_time_would(
    refusals: list[bool], run: int, ratio: float, window: int
) -> None:
    limits = DeadLetterLimits(max_run=run, max_ratio=ratio, window=window)
    assert stopped_at(limits, refusals) == naive(limits, refusals)


@given(st.lists(st.booleans(), max_size=100))
def test_told_to_ignore_it_never_stops_or_holds(refusals: list[bool]) -> None:
    guard = DeadLetterGuard(DeadLetterLimits(max_run=1, max_ratio=0.0, window=10, ignore=True))
    for refused in refusals:
        guard.note(bad() if refused else good())
        assert not guard.holds_commits()


def test_a_fresh_refusal_holds_commits() -> None:
    guard = DeadLetterGuard(LIMITS)
    assert not guard.holds_commits()
    guard.note(bad())
    assert guard.holds_commits()


def test_a_good_post_lets_commits_go_on() -> None:
    guard = DeadLetterGuard(LIMITS)
    note(guard, bad(), good())
    assert not guard.holds_commits()


def test_a_quiet_streams_last_refusal_is_committed_after_five_seconds() -> None:
    clock = Clock()
    guard = DeadLetterGuard(LIMITS, clock)
    guard.note(bad())
    clock.now += 4.9
    assert guard.holds_commits()
    clock.now += 0.2
    assert not guard.holds_commits()


def test_another_refusal_holds_commits_anew() -> None:
    clock = Clock()
    guard = DeadLetterGuard(LIMITS, clock)
    guard.note(bad())
    clock.now += 10
    guard.note(bad())
    assert guard.holds_commits()

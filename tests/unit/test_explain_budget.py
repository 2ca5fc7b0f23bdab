"""The budget in one process's memory, and how long an endpoint asks to be left alone."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from worker.explain.budget import RateBudget
from worker.explain.pauses import asked_pause_s, parse_wait_s
from worker.sections import LlmConfig


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("200ms", 0.2),
        ("1h2m3.5s", 3723.5),
        ("1d", 86_400.0),
        ("7.5", 7.5),
        ("0", 0.0),
        ("-3", 0.0),
        ("12m", 720.0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1s2m", None),
        ("9" * 50 + "s", None),
    ],
)
def test_wait_is_read_in_every_notation(text: str, seconds: float | None) -> None:
    assert parse_wait_s(text) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "tomorrow"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2s"}, 2.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "6m0s"}, None),
        ({"retry-after": "1", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "9s"}, 9.0),
    ],
)
def test_pause_is_the_longest_that_the_headers_ask_for(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert asked_pause_s(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    at = datetime.now(UTC) + timedelta(seconds=100)
    assert asked_pause_s({"retry-after": format_datetime(at, usegmt=True)}) == pytest.approx(100, abs=5)


def _taken(budget: RateBudget, times: int, tokens: int, within_s: float) -> int:
    """How many of so many requests are granted within that time."""

    async def take_all() -> list[bool]:
        deadline = asyncio.get_running_loop().time() + within_s
        return await asyncio.gather(*(budget.take(tokens, deadline) for _ in range(times)))

    return sum(asyncio.run(take_all()))


def test_without_limits_everything_is_granted() -> None:
    assert _taken(RateBudget(LlmConfig(), None), 100, 10**9, 0.5) == 100


def test_requests_a_minute_are_kept() -> None:
    budget = RateBudget(LlmConfig(requests_per_minute=100), None)
    assert _taken(budget, 50, 1, 0.3) == 10  # the burst of 6 s; the next one is due after 0.6 s


def test_tokens_a_minute_are_kept() -> None:
    budget = RateBudget(LlmConfig(tokens_per_minute=10_000), None)
    assert _taken(budget, 50, 100, 0.3) == 10


def test_request_above_the_burst_goes_alone() -> None:
    budget = RateBudget(LlmConfig(tokens_per_minute=600), None)
    assert _taken(budget, 3, 5000, 0.3) == 1


def test_tokens_that_were_not_used_come_back() -> None:
    budget = RateBudget(LlmConfig(tokens_per_minute=600), None)
    assert _taken(budget, 2, 60, 0.05) == 1
    asyncio.run(budget.give_back(60))
    assert _taken(budget, 2, 60, 0.05) == 1


def test_nothing_is_granted_in_a_pause_that_outlasts_the_deadline() -> None:
    budget = RateBudget(LlmConfig(), None)
    asyncio.run(budget.pause(30))
    assert _taken(budget, 3, 1, 1.0) == 0


def test_take_returns_after_the_pause() -> None:
    budget = RateBudget(LlmConfig(), None)
    asyncio.run(budget.pause(0.2))
    begun = time.monotonic()
    assert _taken(budget, 1, 1, 10) == 1
    assert time.monotonic() - begun >= 0.15  # a least wait: a slow machine only makes it longer


def test_later_shorter_pause_does_not_shorten_the_first() -> None:
    budget = RateBudget(LlmConfig(), None)
    asyncio.run(budget.pause(30))
    asyncio.run(budget.pause(0.01))
    assert _taken(budget, 1, 1, 1.0) == 0

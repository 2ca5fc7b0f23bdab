"""Explainers of several workers over one real Redis: each text is asked about once, within one budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import cycle
from typing import Any, TypeVar

import pytest

from tests.llm_server import LlmServer
from tests.redis_server import RedisServer, need_redis_server
from worker.coordination.breaker import Breaker
from worker.explain.explainer import Explainer, open_explainer
from worker.observe.metrics import Metrics
from worker.sections import LlmConfig, RedisConfig
from worker.types import ExplanationStatus, Post

T = TypeVar("T")
POST = Post("1", text="Angela Merkel met Emmanuel Macron in Paris on Monday.")
GENERATED, FAILED, UNKNOWN = (
    ExplanationStatus.GENERATED,
    ExplanationStatus.FAILED,
    ExplanationStatus.UNKNOWN,
)


@pytest.fixture
def llm() -> Iterator[LlmServer]:
    with LlmServer() as server:
        yield server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    need_redis_server()
    with RedisServer() as server:
        yield server


class Workers:
    """Two explainers that share nothing but Redis and the endpoint."""

    def __init__(self, llm: LlmServer, redis: RedisServer, **changes: Any) -> None:
        settings: dict[str, Any] = {"base_url": llm.url, "deadline_s": 10, "call_timeout_s": 5, **changes}
        self.config = LlmConfig(**settings)
        self.redis = RedisConfig(url=redis.url)
        self.metrics = (Metrics(), Metrics())

    def run(self, work: Callable[[Explainer, Explainer], Awaitable[T]]) -> T:
        async def all_of_it() -> T:
            async with AsyncExitStack() as stack:
                first, second = [
                    await stack.enter_async_context(
                        open_explainer(self.config, self.redis, metrics, Breaker("Redis"))
                    )
                    for metrics in self.metrics
                ]
                return await work(first, second)

        return asyncio.run(all_of_it())

    def value(self, worker: int, name: str, **labels: str) -> float:
        return self.metrics[worker].registry.get_sample_value(f"entityclip_{name}_total", labels) or 0


async def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def _leases(redis: RedisServer) -> list[bytes]:
    with redis.client() as client:
        return [key for key in client.keys("*") if key.endswith(b":lease")]


def test_two_workers_ask_once_for_a_text_at_the_same_moment(llm: LlmServer, redis: RedisServer) -> None:
    llm.behave("slow", seconds=0.3)
    workers = Workers(llm, redis)

    async def work(first: Explainer, second: Explainer) -> list[str]:
        found = await asyncio.gather(*(w.explain(POST) for w in (first, second) for _ in range(5)))
        return [explanation.text for explanation in found]

    texts = workers.run(work)
    assert len(set(texts)) == 1
    assert texts[0]
    assert llm.count == 1
    waited = [workers.value(worker, "explanation_cache", result="waited") for worker in (0, 1)]
    misses = [workers.value(worker, "explanation_cache", result="miss") for worker in (0, 1)]
    assert (sum(waited), sum(misses)) == (9, 1)


def test_what_one_worker_paid_for_the_next_one_finds(llm: LlmServer, redis: RedisServer) -> None:
    async def work(first: Explainer, second: Explainer) -> ExplanationStatus:
        return (await first.explain(POST)).status

    assert Workers(llm, redis).run(work) is GENERATED
    later = Workers(llm, redis)
    assert later.run(work) is GENERATED
    assert llm.count == 1
    assert later.value(0, "explanation_cache", result="hit") == 1


def test_other_parameters_are_another_question(llm: LlmServer, redis: RedisServer) -> None:
    async def work(first: Explainer, second: Explainer) -> None:
        await first.explain(POST)

    for changes in ({}, {"model": "b"}, {"temperature": 1.0}, {"max_tokens": 20}, {"extra_body": {"n": 1}}):
        Workers(llm, redis, **changes).run(work)
    assert llm.count == 5


@pytest.mark.parametrize(("mode", "days"), [("ok", 30.0), ("unknown", 1.0)])
def test_answers_live_as_long_as_is_configured_more_or_less(
    llm: LlmServer, redis: RedisServer, mode: str, days: float
) -> None:
    llm.behave(mode)

    async def work(first: Explainer, second: Explainer) -> None:
        await first.explain(POST)

    Workers(llm, redis).run(work)
    with redis.client() as client:
        (key,) = [key for key in client.keys("*") if b":explanation:" in key]
        assert client.ttl(key) == pytest.approx(days * 86_400, rel=0.11)


def test_not_knowing_is_shared_too(llm: LlmServer, redis: RedisServer) -> None:
    llm.behave("unknown")

    async def work(first: Explainer, second: Explainer) -> list[ExplanationStatus]:
        return [(await worker.explain(POST)).status for worker in (first, second)]

    workers = Workers(llm, redis)
    assert workers.run(work) == [UNKNOWN, UNKNOWN]
    assert llm.count == 1


def test_worker_whose_call_fails_lets_the_next_one_ask(llm: LlmServer, redis: RedisServer) -> None:
    llm.behave("slow", seconds=0.5)
    workers = Workers(llm, redis, calls=1)

    async def work(first: Explainer, second: Explainer) -> list[ExplanationStatus]:
        asking = asyncio.create_task(first.explain(POST))
        await _until(lambda: llm.count == 1)
        waiting = asyncio.create_task(second.explain(POST))
        await asyncio.sleep(0.1)
        llm.behave("ok")  # cuts off the first call
        return [(await task).status for task in (asking, waiting)]

    assert workers.run(work) == [FAILED, GENERATED]


def test_cancelled_post_leaves_no_lease_behind(llm: LlmServer, redis: RedisServer) -> None:
    llm.behave("hang", times=1)
    workers = Workers(llm, redis)

    async def work(first: Explainer, second: Explainer) -> ExplanationStatus:
        task = asyncio.create_task(first.explain(POST))
        await _until(lambda: llm.count == 1)
        assert _leases(redis)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await _until(lambda: not _leases(redis))
        return (await second.explain(POST)).status

    assert workers.run(work) is GENERATED


def test_deadline_leaves_no_lease_behind(llm: LlmServer, redis: RedisServer) -> None:
    llm.behave("drip")
    workers = Workers(llm, redis, deadline_s=0.5)

    async def work(first: Explainer, second: Explainer) -> ExplanationStatus:
        return (await first.explain(POST)).status

    assert workers.run(work) is FAILED
    assert not _leases(redis)


def test_lease_of_a_worker_that_died_runs_out(llm: LlmServer, redis: RedisServer) -> None:
    workers = Workers(llm, redis, deadline_s=4)

    async def work(first: Explainer, second: Explainer) -> ExplanationStatus:
        await first.explain(POST)
        with redis.client() as client:
            await _until(lambda: bool(client.keys("*:explanation:*")) and not _leases(redis))
            (key,) = client.keys("*:explanation:*")
            client.delete(key)
            client.set(key + b":lease", b"of the dead", px=500)
        return (await second.explain(POST)).status

    assert workers.run(work) is GENERATED
    assert llm.count == 2


def test_retry_after_holds_for_every_worker(llm: LlmServer, redis: RedisServer) -> None:
    llm.behave("status", status=429, retry_after="1", times=1)
    workers = Workers(llm, redis)

    async def work(first: Explainer, second: Explainer) -> None:
        asking = asyncio.create_task(first.explain(POST))
        await _until(lambda: workers.value(0, "llm_calls", result="rate_limited") == 1)
        with redis.client() as client:
            await _until(lambda: any(b"pause" in key for key in client.keys("*")))
        await asyncio.gather(asking, second.explain(Post("2", text="Another text.")))

    workers.run(work)
    first, *others = [seen.at_s for seen in llm.requests]
    assert len(others) == 2
    assert min(others) - first >= 0.95


def test_budget_is_one_for_all_workers(llm: LlmServer, redis: RedisServer) -> None:
    workers = Workers(llm, redis, requests_per_minute=20, deadline_s=2)  # two at once, the next after 3 s

    async def work(first: Explainer, second: Explainer) -> list[ExplanationStatus]:
        posts = [Post(str(number), text=f"Text {number}.") for number in range(8)]
        asking = [worker.explain(post) for worker, post in zip(cycle((first, second)), posts, strict=False)]
        return [explanation.status for explanation in await asyncio.gather(*asking)]

    statuses = workers.run(work)
    assert llm.count == 2
    assert (statuses.count(GENERATED), statuses.count(FAILED)) == (2, 6)


def test_tokens_are_counted_over_all_workers(llm: LlmServer, redis: RedisServer) -> None:
    workers = Workers(llm, redis, tokens_per_minute=600, deadline_s=2)

    async def work(first: Explainer, second: Explainer) -> list[ExplanationStatus]:
        return [
            (await worker.explain(Post("1", text=text))).status
            for worker, text in ((first, "One text."), (second, "Another text."))
        ]

    assert workers.run(work) == [GENERATED, FAILED]  # the first one's tokens overdraw the bucket


def test_redis_that_dies_in_between_is_done_without(llm: LlmServer, redis: RedisServer) -> None:
    workers = Workers(llm, redis)

    async def work(first: Explainer, second: Explainer) -> list[ExplanationStatus]:
        statuses = []
        for number in range(10):
            if number == 5:
                redis.kill()
            statuses.append((await first.explain(Post(str(number), text=f"Text {number}."))).status)
        statuses.append((await first.explain(Post("again", text="Text 9."))).status)
        return statuses

    assert workers.run(work) == [GENERATED] * 11
    assert llm.count == 10  # the last one comes from memory of the worker's own
    assert workers.value(0, "redis_failures", use="explanations") >= 5
    assert workers.value(0, "redis_failures", use="budget") >= 5


def test_redis_that_hangs_costs_little_and_is_used_again(llm: LlmServer, redis: RedisServer) -> None:
    workers = Workers(llm, redis)

    async def work(first: Explainer, second: Explainer) -> list[ExplanationStatus]:
        statuses = [(await first.explain(POST)).status]
        redis.suspend()
        posts = [Post(str(number), text=f"Text {number}.") for number in range(20)]
        statuses += [explanation.status for explanation in await asyncio.gather(*map(first.explain, posts))]
        redis.resume()
        with redis.client() as client:
            stored = len(client.keys("*:explanation:*"))
            number = 100
            while len(client.keys("*:explanation:*")) == stored:
                number += 1
                await first.explain(Post(str(number), text=f"Text {number}."))
                await asyncio.sleep(0.1)
                assert number < 300
        return statuses

    assert workers.run(work) == [GENERATED] * 21


def test_cached_value_that_is_no_answer_is_replaced(llm: LlmServer, redis: RedisServer) -> None:
    workers = Workers(llm, redis)

    async def work(first: Explainer, second: Explainer) -> ExplanationStatus:
        await first.explain(POST)
        with redis.client() as client:
            await _until(lambda: bool(client.keys("*:explanation:*")) and not _leases(redis))
            (key,) = client.keys("*:explanation:*")
            client.set(key, b"\xff{")
            status = (await second.explain(POST)).status
            await _until(lambda: client.get(key) != b"\xff{")
        return status

    assert workers.run(work) is GENERATED
    assert llm.count == 2

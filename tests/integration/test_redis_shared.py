"""The shared clients against a real Redis that is restarted, frozen, killed and protected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
from redis.asyncio import Redis

from tests.redis_server import RedisServer, need_redis_server
from worker.coordination.breaker import Breaker
from worker.coordination.redis import AsyncSharedRedis, SharedRedis, check, open_async_redis, open_redis
from worker.errors import ConfigError, TransientError
from worker.observe.metrics import Metrics
from worker.sections import RedisConfig

TIMEOUT_S = 0.2
DEADLINE_S = 15.0


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def shared(redis_server: RedisServer, metrics: Metrics) -> Iterator[SharedRedis]:
    shared = open_redis(config(redis_server), metrics, Breaker("Redis"))
    assert shared is not None
    yield shared
    shared.close()


def config(server: RedisServer) -> RedisConfig:
    return RedisConfig(url=server.url, prefix="test", timeout_s=TIMEOUT_S)


def open_async(server: RedisServer, metrics: Metrics | None = None) -> AsyncSharedRedis:
    shared = open_async_redis(config(server), metrics or Metrics(), Breaker("Redis"))
    assert shared is not None
    return shared


def failures(metrics: Metrics, use: str) -> float:
    value = metrics.registry.get_sample_value("entityclip_redis_failures_total", {"use": use})
    assert value is not None
    return value


def put(shared: SharedRedis, value: bytes) -> None:
    shared.call("emitted", lambda redis: redis.set(shared.key("a"), value))


def get(shared: SharedRedis) -> object:
    return shared.call("emitted", lambda redis: redis.get(shared.key("a")))


def echo(text: str) -> Callable[[Redis], Awaitable[object]]:
    return lambda redis: redis.echo(text)


def until_back(shared: SharedRedis) -> None:
    """Call until it answers again."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            get(shared)
            return
        except TransientError:
            assert time.monotonic() < deadline, "Redis did not come back"
            time.sleep(0.05)


def test_replies_are_bytes_below_the_prefix(shared: SharedRedis, redis_server: RedisServer) -> None:
    put(shared, b"\xff")
    assert get(shared) == b"\xff"
    with redis_server.client() as client:
        assert client.keys() == [b"test:a"]


def test_a_closed_connection_is_replaced_unnoticed(shared: SharedRedis, redis_server: RedisServer) -> None:
    put(shared, b"x")
    redis_server.restart()
    assert get(shared) is None


def test_each_call_that_fails_or_is_skipped_is_counted(
    shared: SharedRedis, redis_server: RedisServer, metrics: Metrics
) -> None:
    redis_server.kill()
    for _ in range(10):
        with pytest.raises(TransientError, match="Redis is away"):
            get(shared)
    assert failures(metrics, "emitted") == 10
    assert failures(metrics, "attempts") == 0


def test_a_frozen_server_is_tried_once_and_then_skipped(
    shared: SharedRedis, redis_server: RedisServer
) -> None:
    put(shared, b"x")
    redis_server.suspend()
    tried = 0
    for _ in range(50):
        with pytest.raises(TransientError) as caught:
            get(shared)
        tried += caught.value.retry_after_s is None
    assert 1 <= tried <= 2  # a busy machine may let the breaker's half second pass


def test_a_server_that_comes_back_is_used_again(shared: SharedRedis, redis_server: RedisServer) -> None:
    redis_server.kill()
    with pytest.raises(TransientError):
        get(shared)
    redis_server.start()
    until_back(shared)
    put(shared, b"y")
    assert get(shared) == b"y"


def test_a_late_reply_is_not_taken_for_the_next_one(shared: SharedRedis, redis_server: RedisServer) -> None:
    put(shared, b"first")
    redis_server.suspend()
    with pytest.raises(TransientError):
        shared.call("emitted", lambda redis: redis.echo("late"))
    redis_server.resume()
    until_back(shared)
    assert get(shared) == b"first"


def test_a_refused_call_does_not_stop_the_others(shared: SharedRedis, metrics: Metrics) -> None:
    put(shared, b"text")
    with pytest.raises(TransientError, match="WRONGTYPE"):
        shared.call("attempts", lambda redis: redis.hgetall(shared.key("a")))
    assert get(shared) == b"text"
    assert failures(metrics, "attempts") == 1


def test_without_a_url_there_is_no_client(metrics: Metrics) -> None:
    assert open_redis(RedisConfig(), metrics, Breaker("Redis")) is None
    assert open_async_redis(RedisConfig(), metrics, Breaker("Redis")) is None


@pytest.mark.parametrize("url", ["http://x", "redis://:pass/word@h", "redis://h?unknown=1", "localhost:6379"])
def test_a_bad_url_is_one_line_that_does_not_quote_it(url: str, metrics: Metrics) -> None:
    for open_it in (open_redis, open_async_redis):
        with pytest.raises(ConfigError) as caught:
            open_it(RedisConfig(url=url), metrics, Breaker("Redis"))
        assert len(str(caught.value).splitlines()) == 1
        assert "pass" not in str(caught.value)


def test_async_calls_beyond_the_connections_wait_for_one(redis_server: RedisServer) -> None:
    async def ask() -> set[object]:
        shared = open_async(redis_server)
        try:
            calls = [shared.call("budget", echo(str(number))) for number in range(300)]
            return set(await asyncio.gather(*calls))
        finally:
            await shared.aclose()

    assert asyncio.run(ask()) == {str(number).encode() for number in range(300)}


def test_async_calls_to_a_frozen_server_all_fail_open(redis_server: RedisServer) -> None:
    metrics = Metrics()

    async def ask() -> list[object]:
        shared = open_async(redis_server, metrics)
        try:
            return list(
                await asyncio.gather(
                    *(shared.call("budget", lambda redis: redis.get("a")) for _ in range(200)),
                    return_exceptions=True,
                )
            )
        finally:
            await shared.aclose()

    redis_server.suspend()
    assert {type(result) for result in asyncio.run(ask())} == {TransientError}
    assert failures(metrics, "budget") == 200


def test_an_abandoned_async_call_leaves_no_reply_for_the_next_one(redis_server: RedisServer) -> None:
    async def ask() -> object:
        shared = open_async(redis_server)
        try:
            await shared.call("budget", lambda redis: redis.set("a", b"right"))
            redis_server.suspend()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(TIMEOUT_S / 4):
                    await shared.call("budget", lambda redis: redis.echo("late"))
            redis_server.resume()
            return await shared.call("budget", lambda redis: redis.get("a"))
        finally:
            await shared.aclose()

    assert asyncio.run(ask()) == b"right"


def test_both_clients_leave_a_dead_server_alone_together(redis_server: RedisServer) -> None:
    breaker = Breaker("Redis")
    threads = open_redis(config(redis_server), Metrics(), breaker)
    loop = open_async_redis(config(redis_server), Metrics(), breaker)
    assert threads is not None
    assert loop is not None
    redis_server.kill()
    with pytest.raises(TransientError, match="refused"):
        get(threads)
    with pytest.raises(TransientError) as caught:
        asyncio.run(loop.call("budget", lambda redis: redis.get("a")))
    assert caught.value.retry_after_s is not None  # it was not even tried
    threads.close()


def test_check_says_which_server_answers(redis_server: RedisServer) -> None:
    assert check(config(redis_server)).startswith("Redis ")


def test_check_says_that_it_is_away(redis_server: RedisServer) -> None:
    redis_server.kill()
    with pytest.raises(TransientError, match=r"Redis is away: .*refused"):
        check(config(redis_server))


@pytest.mark.parametrize("login", ["", ":hunter2@"])
def test_check_says_that_the_login_is_refused(login: str) -> None:
    need_redis_server()
    with RedisServer("secret") as server:
        assert check(config(server)).startswith("Redis ")
        url = f"redis://{login}127.0.0.1:{server.port}"
        with pytest.raises(ConfigError, match="login") as caught:
            check(RedisConfig(url=url, timeout_s=TIMEOUT_S))
        assert "hunter2" not in str(caught.value)

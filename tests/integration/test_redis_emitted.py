"""Emitted pairs and attempts, shared by workers through a real Redis, and kept when it goes away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.fakes import MemorySink
from tests.redis_server import RedisServer
from worker.coordination.attempts import NoAttempts, RedisAttempts
from worker.coordination.breaker import Breaker
from worker.coordination.emitted import EmittedPairs
from worker.coordination.redis import SharedRedis, open_redis
from worker.errors import TransientError
from worker.observe.metrics import Metrics
from worker.sections import RedisConfig
from worker.transport.base import Message, Partition
from worker.transport.once import OnceSink

A, B, C = b"a", b"b", b"c"
POSTS = Partition("posts", 3)
WEEK_S = 7 * 86_400
DEADLINE_S = 15.0

Connect = Callable[[], SharedRedis]


@pytest.fixture
def connect(redis_server: RedisServer) -> Iterator[Connect]:
    """Makes a client as each worker has one."""
    made: list[SharedRedis] = []

    def connect() -> SharedRedis:
        shared = open_redis(RedisConfig(url=redis_server.url, timeout_s=0.2), Metrics(), Breaker("Redis"))
        assert shared is not None
        made.append(shared)
        return shared

    yield connect
    for shared in made:
        shared.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def test_what_one_worker_records_the_others_know(connect: Connect) -> None:
    first, second = EmittedPairs(connect(), 1), EmittedPairs(connect(), 1)
    first.record([A, B])
    assert second.known([A, C, B]) == {A, B}


def test_what_was_asked_for_and_not_recorded_is_not_remembered(connect: Connect) -> None:
    first, second = EmittedPairs(connect(), 1), EmittedPairs(connect(), 1)
    assert second.known([A]) == set()
    first.record([A])
    assert second.known([A]) == {A}


def test_a_pair_is_remembered_for_the_configured_days(connect: Connect, redis_server: RedisServer) -> None:
    EmittedPairs(connect(), 90).record([A])
    with redis_server.client() as client:
        (key,) = client.keys()
        assert 90 * 86_400 - 60 < client.ttl(key) <= 90 * 86_400


def test_more_keys_than_one_call_takes_are_all_recorded(connect: Connect) -> None:
    keys = [f"pair-{number}".encode() for number in range(1234)]
    EmittedPairs(connect(), 1).record(keys)
    assert EmittedPairs(connect(), 1).known(keys) == set(keys)


def test_keys_of_any_bytes_are_told_apart(connect: Connect) -> None:
    EmittedPairs(connect(), 1).record([b"\xff"])
    assert EmittedPairs(connect(), 1).known([b"\xff", b"\xfe"]) == {b"\xff"}


def test_without_redis_the_memory_answers() -> None:
    pairs = EmittedPairs(None, 1)
    pairs.record([A])
    assert pairs.known([A, B]) == {A}


def test_the_memory_keeps_the_newest_keys() -> None:
    pairs = EmittedPairs(None, 1, remembered=2)
    pairs.record([A, B, C])
    assert pairs.known([A, B, C]) == {B, C}


def test_while_redis_is_away_the_memory_answers(connect: Connect, redis_server: RedisServer) -> None:
    pairs = EmittedPairs(connect(), 1)
    pairs.record([A])
    redis_server.kill()
    pairs.record([B])
    assert pairs.known([A, B, C]) == {A, B}


def test_what_was_recorded_meanwhile_is_shared_once_redis_is_back(
    connect: Connect, redis_server: RedisServer
) -> None:
    first, second = EmittedPairs(connect(), 1), EmittedPairs(connect(), 1)
    redis_server.kill()
    first.record([A])
    redis_server.start()

    def is_shared() -> bool:
        first.record([B])
        return second.known([A]) == {A}

    until(is_shared)


def test_the_sink_remembers_what_was_acknowledged(connect: Connect) -> None:
    sink = OnceSink(MemorySink(), EmittedPairs(connect(), 1))
    assert sink.known([A]) == set()
    sink.write([Message(A, b"value")])
    assert sink.known([A]) == {A}


def test_the_sink_does_not_remember_what_failed(connect: Connect) -> None:
    sink = OnceSink(MemorySink(failures=1), EmittedPairs(connect(), 1))
    with pytest.raises(TransientError):
        sink.write([Message(A, b"value")])
    assert sink.known([A]) == set()


def test_the_sink_writes_while_redis_is_away(connect: Connect, redis_server: RedisServer) -> None:
    inner = MemorySink()
    sink = OnceSink(inner, EmittedPairs(connect(), 1))
    redis_server.kill()
    sink.write([Message(A, b"value")])
    assert [message.key for message in inner.messages] == [A]


def test_the_next_worker_finds_the_charges_of_the_one_before(connect: Connect) -> None:
    first, second = RedisAttempts(connect(), "group"), RedisAttempts(connect(), "group")
    assert first.charge(POSTS, 7)
    assert first.charge(POSTS, 7)
    assert second.charge(POSTS, 9)
    assert second.counts(POSTS) == {7: 2, 9: 1}


def test_charges_are_kept_apart_by_group_topic_and_partition(connect: Connect) -> None:
    RedisAttempts(connect(), "group").charge(POSTS, 7)
    assert RedisAttempts(connect(), "other").counts(POSTS) == {}
    assert RedisAttempts(connect(), "group").counts(Partition("posts", 4)) == {}
    assert RedisAttempts(connect(), "group").counts(Partition("news", 3)) == {}


def test_cleared_charges_are_gone_and_others_stay(connect: Connect) -> None:
    attempts = RedisAttempts(connect(), "group")
    attempts.charge(POSTS, 7)
    attempts.charge(POSTS, 8)
    attempts.clear(POSTS, 7)
    assert attempts.counts(POSTS) == {8: 1}


def test_charges_are_forgotten_after_a_week(connect: Connect, redis_server: RedisServer) -> None:
    RedisAttempts(connect(), "group").charge(POSTS, 7)
    with redis_server.client() as client:
        (key,) = client.keys()
        assert WEEK_S - 60 < client.ttl(key) <= WEEK_S


def test_without_redis_a_charge_is_not_kept(connect: Connect, redis_server: RedisServer) -> None:
    attempts = RedisAttempts(connect(), "group")
    redis_server.kill()
    assert not attempts.charge(POSTS, 7)
    assert attempts.counts(POSTS) == {}
    attempts.clear(POSTS, 7)


def test_no_attempts_keeps_nothing() -> None:
    attempts = NoAttempts()
    assert not attempts.charge(POSTS, 7)
    assert attempts.counts(POSTS) == {}

"""The bounds of fetching: bytes held, requests at once, hosts left alone."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest

from worker.fetch.away import AwayHosts
from worker.fetch.pool import BytePool, Lease
from worker.fetch.slots import Slots

PATIENCE_S = 20.0


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_taking_waits_until_there_is_room() -> None:
    async def run() -> None:
        pool = BytePool(100)
        first, second = pool.lease(), pool.lease()
        await first.take(80)
        waiting = asyncio.create_task(second.take(30))
        await settle()
        assert not waiting.done()
        first.give_back(20)
        await asyncio.wait_for(waiting, PATIENCE_S)
        assert pool.used_bytes == 90

    asyncio.run(run())


def test_release_on_another_thread_wakes_the_waiter() -> None:
    async def run() -> None:
        pool = BytePool(100)
        first, second = pool.lease(), pool.lease()
        await first.take(100)
        waiting = asyncio.create_task(second.take(100))
        await settle()
        thread = threading.Thread(target=first.release)
        thread.start()
        await asyncio.wait_for(waiting, PATIENCE_S)
        thread.join()
        assert pool.used_bytes == second.held_bytes == 100

    asyncio.run(run())


def test_oldest_lease_is_given_more_than_there_is() -> None:
    async def run() -> None:
        pool = BytePool(100)
        oldest, other = pool.lease(), pool.lease()
        await oldest.take(50)
        await other.take(50)
        assert not other.try_take(1)
        assert oldest.try_take(500)

    asyncio.run(run())


def test_waiter_that_becomes_the_oldest_is_served() -> None:
    async def run() -> None:
        pool = BytePool(100)
        first, second, third = pool.lease(), pool.lease(), pool.lease()
        for lease in (first, second, third):
            await lease.take(30)
        waiting = asyncio.create_task(second.take(200))
        await settle()
        first.release()
        await asyncio.wait_for(waiting, PATIENCE_S)
        assert second.held_bytes == 230

    asyncio.run(run())


def test_newcomer_does_not_overtake_who_waits() -> None:
    async def run() -> None:
        pool = BytePool(100)
        first, second, third = pool.lease(), pool.lease(), pool.lease()
        await first.take(80)
        waiting = asyncio.create_task(second.take(50))
        await settle()
        assert not third.try_take(10)
        first.release()
        await asyncio.wait_for(waiting, PATIENCE_S)
        assert third.try_take(10)

    asyncio.run(run())


def test_cancelled_waiter_leaves_no_trace_and_lets_the_next_one_in() -> None:
    async def run() -> None:
        pool = BytePool(100)
        first, second, third = pool.lease(), pool.lease(), pool.lease()
        await first.take(80)
        large = asyncio.create_task(second.take(50))
        await settle()
        small = asyncio.create_task(third.take(20))
        await settle()
        assert not small.done()
        large.cancel()
        await asyncio.wait_for(small, PATIENCE_S)
        assert second.held_bytes == 0
        assert pool.used_bytes == 100

    asyncio.run(run())


def test_waiter_cancelled_in_the_moment_it_is_served_gives_back() -> None:
    async def run() -> None:
        pool = BytePool(100)
        first, second = pool.lease(), pool.lease()
        await first.take(80)
        waiting = asyncio.create_task(second.take(50))
        await settle()
        first.release()  # grants, but the task has not run since
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert pool.used_bytes == 0

    asyncio.run(run())


def test_more_than_is_held_cannot_be_given_back() -> None:
    lease = BytePool(100).lease()
    assert lease.try_take(10)
    with pytest.raises(ValueError, match="11 bytes"):
        lease.give_back(11)


def test_releasing_twice_is_harmless() -> None:
    pool = BytePool(100)
    lease = pool.lease()
    assert lease.try_take(10)
    lease.release()
    lease.release()
    assert pool.used_bytes == 0


def test_posts_of_many_images_all_end_and_the_bound_holds() -> None:
    """Posts that hold images and wait for more, with far too little room: the classic deadlock."""
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    largest, images = 60, 5
    pool = BytePool(100)
    peak = 0

    async def post(sizes: list[int], lease: Lease) -> None:
        nonlocal peak
        for size in sizes:
            await lease.take(size)
            peak = max(peak, pool.used_bytes)
            await asyncio.sleep(0)
        lease.release()

    async def run() -> None:
        posts = [
            post([chance.randint(1, largest) for _ in range(chance.randint(1, images))], pool.lease())
            for _ in range(200)
        ]
        await asyncio.wait_for(asyncio.gather(*posts), PATIENCE_S)

    asyncio.run(run())
    assert pool.used_bytes == 0, f"seed {seed}"
    assert peak <= 100 + largest * images, f"seed {seed}"


def test_slots_bound_requests_in_all_and_of_one_host() -> None:
    async def run() -> None:
        slots = Slots(total=5, per_host=2)
        active: list[str] = []
        most = {"all": 0, "a": 0}

        async def request(host: str) -> None:
            async with slots.slot(host):
                active.append(host)
                most["all"] = max(most["all"], len(active))
                most["a"] = max(most["a"], active.count("a"))
                await asyncio.sleep(0)
                active.remove(host)

        await asyncio.gather(*(request(host) for host in "aaaaaaabcdefghabcdefgh"))
        assert most == {"all": 5, "a": 2}
        assert slots.hosts == 0

    asyncio.run(run())


def test_those_that_wait_for_a_slow_host_hold_up_no_other() -> None:
    async def run() -> None:
        slots = Slots(total=2, per_host=1)
        done = asyncio.Event()

        async def slow() -> None:
            async with slots.slot("slow"):
                await done.wait()

        waiting = [asyncio.create_task(slow()) for _ in range(10)]
        await settle()
        async with asyncio.timeout(PATIENCE_S), slots.slot("other"):
            done.set()
        await asyncio.gather(*waiting)

    asyncio.run(run())


def test_cancelled_wait_for_a_slot_forgets_the_host() -> None:
    async def run() -> None:
        slots = Slots(total=1, per_host=1)
        async with slots.slot("a"):
            waiting = asyncio.create_task(slots.slot("b").__aenter__())
            await settle()
            assert slots.hosts == 2
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert slots.hosts == 1

    asyncio.run(run())


def test_host_that_fails_five_times_in_a_row_is_left_alone_for_a_while() -> None:
    now = [100.0]
    away = AwayHosts(now=lambda: now[0])
    for _ in range(4):
        away.failed("a")
    assert not away.is_away("a")
    away.failed("a")
    assert away.is_away("a")
    assert not away.is_away("b")
    now[0] += 31
    assert not away.is_away("a")
    away.failed("a")
    assert away.is_away("a")


def test_answer_starts_the_count_of_failures_anew() -> None:
    away = AwayHosts()
    for _ in range(4):
        away.failed("a")
    away.answered("a")
    away.failed("a")
    assert not away.is_away("a")


def test_no_more_than_a_thousand_hosts_are_remembered() -> None:
    away = AwayHosts()
    for _ in range(5):
        away.failed("first")
    for number in range(1024):
        away.failed(f"host-{number}")
    assert not away.is_away("first")

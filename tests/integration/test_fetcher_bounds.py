"""Fetching within bounds: the cache, equal addresses, requests at once, bytes held."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tests.fetching import OUTSIDE, count, fetching, until
from tests.image_server import ImageServer, picture
from worker.errors import InvalidPost, Reason
from worker.fetch.fetcher import Fetcher
from worker.observe.metrics import Metrics
from worker.sections import FetchConfig


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer() as images:
        yield images


def test_address_that_comes_again_is_taken_from_the_cache(server: ImageServer) -> None:
    metrics = Metrics()

    async def run() -> None:
        async with fetching(metrics=metrics) as fetcher:
            lease = fetcher.lease()
            for url in (server.url(), server.url(), server.url("/image.jpg#part")):
                assert await fetcher.fetch(url, lease) == picture()
            assert lease.held_bytes == 3 * len(picture())

    asyncio.run(run())
    assert server.requests["/image.jpg"] == 1
    assert count(metrics, "entityclip_image_fetches_total", result="cached") == 2


def test_cache_of_no_bytes_fetches_every_time(server: ImageServer) -> None:
    async def run() -> None:
        async with fetching(FetchConfig(allow_networks=OUTSIDE, cache_bytes=0)) as fetcher:
            for _ in range(2):
                await fetcher.fetch(server.url(), fetcher.lease())

    asyncio.run(run())
    assert server.requests["/image.jpg"] == 2


def test_equal_addresses_in_flight_are_fetched_once(server: ImageServer) -> None:
    metrics = Metrics()

    async def run() -> list[bytes]:
        config = FetchConfig(allow_networks=OUTSIDE, cache_bytes=0)
        async with fetching(config, metrics=metrics) as fetcher:
            tasks = [
                asyncio.create_task(fetcher.fetch(server.url("/held"), fetcher.lease())) for _ in range(20)
            ]
            await until(lambda: server.active == 1)
            server.let_go.set()
            return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [picture()] * 20
    assert server.requests["/held"] == 1
    assert count(metrics, "entityclip_image_fetches_total", result="fetched") == 1
    assert count(metrics, "entityclip_image_fetches_total", result="cached") == 19


def test_equal_addresses_in_flight_fail_together(server: ImageServer) -> None:
    async def run() -> list[bytes | BaseException]:
        async with fetching() as fetcher:
            fetches = [fetcher.fetch(server.url("/html"), fetcher.lease()) for _ in range(5)]
            return await asyncio.gather(*fetches, return_exceptions=True)

    errors = asyncio.run(run())
    assert [getattr(error, "reason", None) for error in errors] == [Reason.IMAGE_FORMAT] * 5
    assert server.requests["/html"] == 1


def test_cancelling_the_first_of_equal_fetches_leaves_the_others_their_picture(server: ImageServer) -> None:
    async def run() -> bytes:
        async with fetching() as fetcher:
            first_lease = fetcher.lease()
            first = asyncio.create_task(fetcher.fetch(server.url("/held"), first_lease))
            await until(lambda: server.active == 1)
            second = asyncio.create_task(fetcher.fetch(server.url("/held"), fetcher.lease()))
            await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert first_lease.held_bytes == 0
            server.let_go.set()
            return await second

    assert asyncio.run(run()) == picture()


def test_no_more_requests_run_at_once_than_a_host_is_allowed(server: ImageServer) -> None:
    async def run() -> None:
        async with fetching(FetchConfig(allow_networks=OUTSIDE, per_host=2)) as fetcher:
            urls = [server.url(f"/held?{number}") for number in range(8)]
            tasks = [asyncio.create_task(fetcher.fetch(url, fetcher.lease())) for url in urls]
            await until(lambda: server.active == 2)
            server.let_go.set()
            await asyncio.gather(*tasks)

    asyncio.run(run())
    assert server.most_active == 2


def test_no_more_requests_run_at_once_than_configured_over_all_hosts(server: ImageServer) -> None:
    async def run() -> None:
        async with fetching(FetchConfig(allow_networks=OUTSIDE, concurrency=3)) as fetcher:
            urls = [server.url("/held", host=f"{number}.example") for number in range(9)]
            tasks = [asyncio.create_task(fetcher.fetch(url, fetcher.lease())) for url in urls]
            await until(lambda: server.active == 3)
            server.let_go.set()
            await asyncio.gather(*tasks)

    asyncio.run(run())
    assert server.most_active == 3


def test_waiting_for_a_slot_is_not_charged_to_the_image(server: ImageServer) -> None:
    """The second image waits for as long as it may take, and is fetched all the same."""

    async def run() -> bytes:
        config = FetchConfig(allow_networks=OUTSIDE, per_host=1, total_s=0.5, attempts=1)
        async with fetching(config) as fetcher:
            slow = fetcher.fetch(server.url("/slow-headers"), fetcher.lease())
            quick = fetcher.fetch(server.url(), fetcher.lease())
            failure, data = await asyncio.gather(slow, quick, return_exceptions=True)
            assert isinstance(failure, InvalidPost)
            assert isinstance(data, bytes)
            return data

    assert asyncio.run(run()) == picture()


def test_waiting_for_room_is_not_charged_to_the_image(server: ImageServer) -> None:
    async def run() -> bytes:
        config = FetchConfig(allow_networks=OUTSIDE, in_flight_bytes=1 << 20, total_s=0.5)
        async with fetching(config) as fetcher:
            full = fetcher.lease()
            await full.take(1 << 20)
            waiting = asyncio.create_task(fetcher.fetch(server.url(), fetcher.lease()))
            await asyncio.sleep(config.total_s + 0.2)
            assert server.connections == 0
            full.release()
            return await waiting

    assert asyncio.run(run()) == picture()


def test_host_that_never_answers_is_left_alone_after_a_few_images(server: ImageServer) -> None:
    async def run() -> InvalidPost:
        config = FetchConfig(allow_networks=OUTSIDE, total_s=0.1, attempts=1)
        async with fetching(config) as fetcher:
            for number in range(5):
                with pytest.raises(InvalidPost, match="not complete"):
                    await fetcher.fetch(server.url(f"/slow-headers?{number}"), fetcher.lease())
            with pytest.raises(InvalidPost) as caught:
                await fetcher.fetch(server.url(), fetcher.lease())
            assert await fetcher.fetch(server.url(host="other.example"), fetcher.lease()) == picture()
            return caught.value

    error = asyncio.run(run())
    assert error.reason is Reason.IMAGE_UNAVAILABLE
    assert "did not answer lately" in error.detail


def test_endless_body_is_read_no_further_than_the_limit(server: ImageServer) -> None:
    metrics, limit = Metrics(), 300_000

    async def run() -> None:
        async with fetching(max_bytes=limit, metrics=metrics) as fetcher:
            with pytest.raises(InvalidPost) as caught:
                await fetcher.fetch(server.url("/giant"), fetcher.lease())
            assert caught.value.reason is Reason.IMAGE_TOO_LARGE
            await until(lambda: server.active == 0)  # the connection was closed

    asyncio.run(run())
    assert limit < count(metrics, "entityclip_image_fetch_bytes_total") <= limit + (1 << 16)


@pytest.mark.parametrize("kind", ["padded", "chunked"])
def test_image_of_just_the_limit_is_taken_and_one_byte_more_is_not(kind: str, server: ImageServer) -> None:
    async def run() -> Reason:
        async with fetching(max_bytes=200_000) as fetcher:
            data = await fetcher.fetch(server.url(f"/{kind}.jpg?bytes=200000"), fetcher.lease())
            assert len(data) == 200_000
            with pytest.raises(InvalidPost) as caught:
                await fetcher.fetch(server.url(f"/{kind}.jpg?bytes=200001"), fetcher.lease())
            return caught.value.reason

    assert asyncio.run(run()) is Reason.IMAGE_TOO_LARGE


def test_lease_holds_what_was_fetched_until_another_thread_releases_it(server: ImageServer) -> None:
    async def run() -> None:
        async with fetching() as fetcher:
            lease = fetcher.lease()
            data = await fetcher.fetch(server.url("/padded.jpg?bytes=50000"), lease)
            assert fetcher.pool.used_bytes == lease.held_bytes == len(data) == 50_000
            thread = threading.Thread(target=lease.release)
            thread.start()
            thread.join()
            assert fetcher.pool.used_bytes == 0

    asyncio.run(run())


def test_posts_of_several_images_all_end_with_room_for_less_than_one(server: ImageServer) -> None:
    """Sizes unknown beforehand, images held while the next is fetched, decoded on other threads."""
    image_bytes, posts, images = 1_500_000, 6, 3
    config = FetchConfig(allow_networks=OUTSIDE, in_flight_bytes=1 << 20, cache_bytes=0)
    peaks: list[int] = []

    async def post(number: int, fetcher: Fetcher) -> None:
        lease = fetcher.lease()
        for image in range(images):
            kind = "chunked" if image % 2 else "padded"
            url = server.url(f"/{kind}.jpg?bytes={image_bytes}&name={number}-{image}")
            assert len(await fetcher.fetch(url, lease)) == image_bytes
            peaks.append(fetcher.pool.used_bytes)
        await asyncio.to_thread(lease.release)

    async def run() -> None:
        async with fetching(config, max_bytes=2_000_000) as fetcher:
            await asyncio.gather(*(post(number, fetcher) for number in range(posts)))
            assert fetcher.pool.used_bytes == 0

    asyncio.run(run())
    assert max(peaks) <= (1 << 20) + images * 2_000_000

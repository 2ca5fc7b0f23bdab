"""Fetching from a real server: repeats, redirects, settings, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence

import pytest

from model.pictures.decode import ImageLimits, decode
from tests.fetching import NAME, OUTSIDE, SETTINGS, count, fetch, fetching, refusal
from tests.image_server import ImageServer, picture
from worker.errors import ConfigError, InvalidPost, Reason
from worker.fetch.fetcher import Fetcher
from worker.observe.metrics import FETCH_RESULTS, Metrics
from worker.sections import FetchConfig


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer() as images:
        yield images


def test_fetched_bytes_are_the_picture(server: ImageServer) -> None:
    assert decode(fetch(server.url())).size == (96, 64)


def test_request_asks_for_no_compression_and_says_who_asks(server: ImageServer) -> None:
    fetch(server.url(), FetchConfig(allow_networks=OUTSIDE, user_agent="pictures/1 (+https://a.example)"))
    headers = server.headers[0]
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"] == "pictures/1 (+https://a.example)"
    assert "referer" not in headers


def test_cookies_are_not_sent_back(server: ImageServer) -> None:
    async def run() -> None:
        async with fetching() as fetcher:
            await fetcher.fetch(server.url("/cookie"), fetcher.lease())
            await fetcher.fetch(server.url("/image.jpg"), fetcher.lease())

    asyncio.run(run())
    assert len(server.headers) == 2
    assert not any("cookie" in headers for headers in server.headers)


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
def test_busy_or_failing_host_is_asked_again(code: int, server: ImageServer) -> None:
    path = f"/status/{code}?times=2"
    assert fetch(server.url(path)) == picture()
    assert server.requests[path] == 3


@pytest.mark.parametrize("code", [204, 304, 400, 401, 403, 404, 410, 451])
def test_refusing_host_is_asked_once(code: int, server: ImageServer) -> None:
    error = refusal(server.url(f"/status/{code}?token=abc"))
    assert error.reason is Reason.IMAGE_UNAVAILABLE
    assert error.detail == f"{server.url(f'/status/{code}')}: status {code}"
    assert server.requests[f"/status/{code}?token=abc"] == 1


def test_host_that_keeps_failing_is_unavailable_after_the_attempts(server: ImageServer) -> None:
    error = refusal(server.url("/status/500"))
    assert error.reason is Reason.IMAGE_UNAVAILABLE
    assert "status 500 (3 attempts)" in error.detail
    assert server.requests["/status/500"] == 3


def test_retry_after_is_waited_for(server: ImageServer) -> None:
    metrics = Metrics()

    async def run() -> bytes:
        async with fetching(metrics=metrics) as fetcher:
            return await fetcher.fetch(server.url("/status/429?times=1&retry_after=1"), fetcher.lease())

    assert asyncio.run(run()) == picture()
    assert count(metrics, "entityclip_image_fetch_seconds_sum") >= 1.0


def test_retry_after_past_the_total_time_is_not_waited_for(server: ImageServer) -> None:
    error = refusal(server.url("/status/503?retry_after=60"))
    assert error.reason is Reason.IMAGE_UNAVAILABLE
    assert "asks to come back in 60 s" in error.detail
    assert sum(server.requests.values()) == 1


@pytest.mark.parametrize("value", ["soon", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "9" * 500])
def test_odd_retry_after_does_no_harm(value: str, server: ImageServer) -> None:
    error = refusal(server.url(f"/status/503?retry_after={value.replace(' ', '%20')}"))
    assert error.reason is Reason.IMAGE_UNAVAILABLE


def test_host_without_a_listener_is_tried_again_and_then_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = refusal(f"http://{NAME}:{unused.getsockname()[1]}/a.jpg")
    assert error.reason is Reason.IMAGE_UNAVAILABLE
    assert "Connection refused (3 attempts)" in error.detail


@pytest.mark.parametrize(
    ("error_number", "named", "attempts"),
    [(socket.EAI_NONAME, "no such host", 1), (socket.EAI_AGAIN, "cannot be resolved now", 3)],
)
def test_name_that_does_not_resolve_is_asked_again_only_if_that_may_help(
    error_number: int, named: str, attempts: int
) -> None:
    asked: list[str] = []

    async def away(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        raise socket.gaierror(error_number, "no answer")

    async def run() -> None:
        fetcher = Fetcher(SETTINGS, ImageLimits(), Metrics(), resolver=away)
        await fetcher.fetch(f"http://{NAME}/a.jpg", fetcher.lease())

    with pytest.raises(InvalidPost, match=named) as caught:
        asyncio.run(run())
    assert caught.value.reason is Reason.IMAGE_UNAVAILABLE
    assert asked == [NAME] * attempts


def test_next_address_is_tried_when_the_first_does_not_answer(server: ImageServer) -> None:
    async def two(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.3", "127.0.0.1"]

    async def run() -> bytes:
        config = FetchConfig(allow_networks=["127.0.0.0/8"])
        fetcher = Fetcher(config, ImageLimits(), Metrics(), resolver=two)
        try:
            return await fetcher.fetch(server.url(host=NAME), fetcher.lease())
        finally:
            await fetcher.aclose()

    assert asyncio.run(run()) == picture()


def test_as_many_redirects_as_configured_are_followed(server: ImageServer) -> None:
    assert fetch(server.url("/redirect-chain?left=3")) == picture()
    error = refusal(server.url("/redirect-chain?left=4"))
    assert error.reason is Reason.IMAGE_UNAVAILABLE
    assert "more than 3 redirects" in error.detail


def test_no_redirect_is_followed_where_none_is_configured(server: ImageServer) -> None:
    config = FetchConfig(allow_networks=OUTSIDE, max_redirects=0)
    assert "more than 0 redirects" in refusal(server.url("/redirect-chain?left=1"), config).detail
    assert server.requests["/image.jpg"] == 0


def test_switched_off_fetching_refuses_without_a_request(server: ImageServer) -> None:
    error = refusal(server.url(), FetchConfig(enabled=False, allow_networks=OUTSIDE))
    assert error.reason is Reason.IMAGE_REFUSED
    assert server.connections == 0


@pytest.mark.parametrize(
    "config", [FetchConfig(allow_networks=["10.0.0.0/99"]), FetchConfig(user_agent="a\r\nX-Header: 1")]
)
def test_setting_that_cannot_be_used_is_a_configuration_error(config: FetchConfig) -> None:
    with pytest.raises(ConfigError, match=r"configuration: fetch\."):
        Fetcher(config, ImageLimits(), Metrics())


def test_every_metric_of_fetching_moves(server: ImageServer) -> None:
    metrics = Metrics()
    paths = ("/image.jpg", "/image.jpg", "/status/404", "/giant-declared", "/html")

    async def run() -> None:
        async with fetching(metrics=metrics) as fetcher:
            for url in (*(server.url(path) for path in paths), "http://10.0.0.1/a.jpg"):
                with contextlib.suppress(InvalidPost):
                    await fetcher.fetch(url, fetcher.lease())

    asyncio.run(run())
    results = {name: count(metrics, "entityclip_image_fetches_total", result=name) for name in FETCH_RESULTS}
    assert results == dict.fromkeys(FETCH_RESULTS, 1.0)
    assert count(metrics, "entityclip_image_fetch_bytes_total") >= len(picture())
    assert count(metrics, "entityclip_image_fetch_seconds_count") == 5

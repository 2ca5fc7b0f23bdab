"""Fetching from a real server: repeats, redirects, the bounds, the cache, TLS, the metrics."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from model.images import ImageLimits, decode
from tests.image_server import ImageServer, picture
from worker.errors import ConfigError, InvalidPost, Reason
from worker.fetch.fetcher import Fetcher
from worker.metrics import FETCH_RESULTS, Metrics
from worker.sections import FetchConfig

PATIENCE_S = 30.0
OUTSIDE = ["127.0.0.1/32"]
NAME = "pictures.example"
SETTINGS = FetchConfig(allow_networks=OUTSIDE, total_s=10.0)


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer() as images:
        yield images


async def at_home(host: str, port: int) -> Sequence[str]:
    """Every name is this machine's."""
    return ["127.0.0.1"]


@contextlib.asynccontextmanager
async def fetching(
    config: FetchConfig = SETTINGS,
    *,
    max_bytes: int = 20 << 20,
    metrics: Metrics | None = None,
    trusted: ssl.SSLContext | None = None,
) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(
        config, ImageLimits(max_bytes=max_bytes), metrics or Metrics(), resolver=at_home, ssl_context=trusted
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield fetcher
    finally:
        await fetcher.aclose()


def fetch(url: str, config: FetchConfig = SETTINGS, trusted: ssl.SSLContext | None = None) -> bytes:
    async def run() -> bytes:
        async with fetching(config, trusted=trusted) as fetcher:
            return await fetcher.fetch(url, fetcher.lease())

    return asyncio.run(run())


def refusal(url: str, config: FetchConfig = SETTINGS, trusted: ssl.SSLContext | None = None) -> InvalidPost:
    with pytest.raises(InvalidPost) as caught:
        fetch(url, config, trusted)
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other tasks and threads bring about."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


def count(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of `NAME`, with its key, in one PEM file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command: install the openssl package to run the tests over TLS")
    folder = tmp_path_factory.mktemp("certificate")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={NAME}"
    names = ["-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([openssl, *command.split(), *names], check=True, capture_output=True, timeout=PATIENCE_S)
    both = folder / "both.pem"
    both.write_text(key.read_text() + cert.read_text())
    return both


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[ImageServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ImageServer(tls=context) as images:
        yield images


@pytest.fixture
def trusted(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def test_pinned_connection_proves_the_name_that_was_asked_for(
    tls_server: ImageServer, trusted: ssl.SSLContext
) -> None:
    assert fetch(tls_server.url(host=NAME), trusted=trusted) == picture()
    assert tls_server.headers[0]["host"] == f"{NAME}:{tls_server.port}"


def test_certificate_of_another_name_is_unavailable_at_once(
    tls_server: ImageServer, trusted: ssl.SSLContext
) -> None:
    error = refusal(tls_server.url(host="other.example"), trusted=trusted)
    assert error.reason is Reason.IMAGE_UNAVAILABLE
    assert "certificate" in error.detail
    assert tls_server.connections == 1
    assert not tls_server.requests


def test_certificate_of_an_unknown_authority_is_unavailable(tls_server: ImageServer) -> None:
    error = refusal(tls_server.url(host=NAME))
    assert error.reason is Reason.IMAGE_UNAVAILABLE
    assert "certificate" in error.detail


def test_redirect_from_https_to_http_is_refused(
    tls_server: ImageServer, server: ImageServer, trusted: ssl.SSLContext
) -> None:
    error = refusal(tls_server.url(f"/redirect?to={server.url()}", host=NAME), trusted=trusted)
    assert error.reason is Reason.IMAGE_REFUSED
    assert "from https to http" in error.detail
    assert server.connections == 0


def test_redirect_from_http_to_https_is_followed(
    tls_server: ImageServer, server: ImageServer, trusted: ssl.SSLContext
) -> None:
    target = tls_server.url(host=NAME)
    assert fetch(server.url(f"/redirect?to={target}"), trusted=trusted) == picture()


def test_tls_where_none_is_spoken_is_unavailable(server: ImageServer) -> None:
    error = refusal(server.url().replace("http:", "https:"))
    assert error.reason is Reason.IMAGE_UNAVAILABLE
    assert "TLS" in error.detail

"""Addresses that must not be fetched, against real servers that count who connects to them.

Servers on 127.0.0.2 and ::1 stand for everything inside: nothing may ever connect to them. The one on
127.0.0.1 stands for the public internet where `allow_networks` lets it in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from model.pictures.decode import ImageLimits
from tests.image_server import ImageServer, picture
from worker.errors import InvalidPost, Reason
from worker.fetch.fetcher import Fetcher
from worker.fetch.resolve import Resolver
from worker.observe.metrics import Metrics
from worker.sections import FetchConfig

PUBLIC = FetchConfig(allow_networks=["127.0.0.1/32"], total_s=5.0)
NOTHING = FetchConfig(total_s=5.0)
MAX_BYTES = 300_000


class Names:
    """Answers names from a list; each look-up takes the next answer, the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture(scope="module")
def outside() -> Iterator[ImageServer]:
    with ImageServer("127.0.0.1") as server:
        yield server


@pytest.fixture
def inside() -> Iterator[ImageServer]:
    with ImageServer("127.0.0.2") as server:
        yield server


def fetch(url: str, config: FetchConfig = PUBLIC, resolver: Resolver | None = None) -> bytes:
    """One image through a fetcher of its own."""

    async def run() -> bytes:
        fetcher = Fetcher(config, ImageLimits(max_bytes=MAX_BYTES), Metrics(), resolver=resolver)
        lease = fetcher.lease()
        try:
            return await fetcher.fetch(url, lease)
        except InvalidPost:
            assert fetcher.pool.used_bytes == 0
            raise
        finally:
            await fetcher.aclose()

    return asyncio.run(run())


def refusal(url: str, config: FetchConfig = PUBLIC, resolver: Resolver | None = None) -> InvalidPost:
    with pytest.raises(InvalidPost) as caught:
        fetch(url, config, resolver)
    return caught.value


def test_the_stand_in_for_the_internet_is_fetched_from(outside: ImageServer) -> None:
    assert fetch(outside.url()) == picture()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.2",
        "127.0.0.2.",
        "127.2",
        "127.0.2",
        "2130706434",
        "0x7f000002",
        "0x7f.2",
        "0x7F.0.0.2",
        "017700000002",
        "0177.0.2",
        "[::ffff:127.0.0.2]",
        "[::ffff:7f00:2]",
        "[0:0:0:0:0:ffff:127.0.0.2]",
        "[::127.0.0.2]",
        "[64:ff9b::127.0.0.2]",
    ],
)
def test_loopback_in_any_notation_is_refused_without_a_connection(host: str, inside: ImageServer) -> None:
    error = refusal(f"http://{host}:{inside.port}/image.jpg")
    assert error.reason is Reason.IMAGE_REFUSED
    assert "is not a public address" in error.detail
    assert inside.connections == 0


@pytest.mark.parametrize("host", ["0177.0.0.2", "127.0.0.02", "127.0.0.2%00", "127.0.0.2%2f", "１２７.0.0.2"])
def test_notation_that_readers_disagree_about_is_refused_unread(host: str, inside: ImageServer) -> None:
    error = refusal(f"http://{host}:{inside.port}/image.jpg")
    assert error.reason is Reason.IMAGE_REFUSED
    assert "not a usable" in error.detail
    assert inside.connections == 0


@pytest.mark.parametrize("host", ["localhost", "localhost.", "LOCALHOST", "LocalHost."])
def test_localhost_in_any_spelling_is_refused(host: str) -> None:
    with ImageServer("127.0.0.1") as server:
        error = refusal(f"http://{host}:{server.port}/image.jpg", NOTHING)
        assert error.reason is Reason.IMAGE_REFUSED
        assert server.connections == 0


def test_loopback_v6_is_refused_although_a_server_listens() -> None:
    try:
        server = ImageServer("::1")
    except OSError as error:
        pytest.skip(f"no IPv6 loopback ({error}): enable IPv6 to run this")
    with server:
        assert refusal(server.url()).reason is Reason.IMAGE_REFUSED
        assert server.connections == 0


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "169.254.1.1",
        "168.63.129.16",
        "2852039166",
        "[fd00:ec2::254]",
        "[fc00::1]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[::]",
        "[2002:a00:1::1]",
        "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
        "[ff02::1]",
        "224.0.0.1",
        "255.255.255.255",
    ],
)
def test_private_link_local_and_metadata_addresses_are_refused(host: str) -> None:
    error = refusal(f"http://{host}/latest/meta-data/", NOTHING)
    assert error.reason is Reason.IMAGE_REFUSED
    assert "is not a public address" in error.detail


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.2"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["fd00:ec2::254"],
        ["::ffff:127.0.0.2"],
        ["127.0.0.1", "127.0.0.2"],
        ["127.0.0.2", "127.0.0.1"],
        ["fe80::1%eth0"],
        ["no address"],
    ],
)
def test_name_of_a_private_address_is_refused(answer: list[str], inside: ImageServer) -> None:
    error = refusal(inside.url(host="pictures.example"), resolver=Names(answer))
    assert error.reason is Reason.IMAGE_REFUSED
    assert "pictures.example" in error.detail
    assert inside.connections == 0


def test_name_that_changes_between_check_and_connection_is_reached_where_it_was_checked() -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    with ImageServer("127.0.0.1") as checked, ImageServer("127.0.0.2", checked.port) as rebound:
        assert fetch(checked.url(host="pictures.example"), resolver=names) == picture()
        assert names.asked == ["pictures.example"]
        assert (checked.connections, rebound.connections) == (1, 0)
        assert checked.headers[0]["host"] == f"pictures.example:{checked.port}"


def test_name_that_changes_before_a_repeat_is_checked_again() -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    with ImageServer("127.0.0.1") as checked, ImageServer("127.0.0.2", checked.port) as rebound:
        error = refusal(checked.url("/not-http", host="pictures.example"), resolver=names)
        assert error.reason is Reason.IMAGE_REFUSED
        assert names.asked == ["pictures.example"] * 2
        assert (checked.connections, rebound.connections) == (1, 0)


def test_name_that_changes_on_the_way_of_a_redirect_is_checked_again() -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    with ImageServer("127.0.0.1") as checked, ImageServer("127.0.0.2", checked.port) as rebound:
        target = rebound.url(host="PICTURES.example.")
        error = refusal(checked.url(f"/redirect?to={target}", host="other.example"), resolver=names)
        assert error.reason is Reason.IMAGE_REFUSED
        assert names.asked == ["other.example", "pictures.example"]
        assert rebound.connections == 0


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.2",
        "2130706434",
        "0x7f.2",
        "127.2",
        "[::ffff:127.0.0.2]",
        "[64:ff9b::7f00:2]",
        "[::1]",
        "169.254.169.254",
        "10.0.0.1",
        "[fd00:ec2::254]",
    ],
)
def test_redirect_to_an_address_inside_is_refused(
    host: str, outside: ImageServer, inside: ImageServer
) -> None:
    target = f"http://{host}:{inside.port}/image.jpg"
    error = refusal(outside.url(f"/redirect?to={target}"))
    assert error.reason is Reason.IMAGE_REFUSED
    assert "/redirect led elsewhere: " in error.detail
    assert inside.connections == 0


def test_redirect_behind_a_permitted_redirect_is_checked_too(
    outside: ImageServer, inside: ImageServer
) -> None:
    inner = f"/redirect?to={inside.url()}"
    error = refusal(outside.url(f"/redirect?to={outside.url(inner)}"))
    assert error.reason is Reason.IMAGE_REFUSED
    assert inside.connections == 0


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://a.example/", "gopher://a.example/", "data:,x"]
)
def test_redirect_to_another_scheme_is_refused(target: str, outside: ImageServer) -> None:
    error = refusal(outside.url(f"/redirect?to={target}"))
    assert error.reason is Reason.IMAGE_REFUSED
    assert "addresses are not fetched" in error.detail


def test_redirect_with_a_user_name_is_refused_and_does_not_show_it(
    outside: ImageServer, inside: ImageServer
) -> None:
    error = refusal(outside.url(f"/redirect?to=http://user:hunter2@127.0.0.1:{inside.port}/"))
    assert error.reason is Reason.IMAGE_REFUSED
    assert "user name" in error.detail
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("file:///etc/passwd", "`path` field"),
        ("ftp://127.0.0.1/a.jpg", "only http: and https:"),
        ("gopher://127.0.0.1/a.jpg", "only http: and https:"),
        ("data:image/png;base64,iVBORw0KGgo=", "`data` field"),
    ],
)
def test_scheme_that_is_not_fetched_is_refused_with_a_hint(url: str, hint: str) -> None:
    error = refusal(url)
    assert error.reason is Reason.IMAGE_REFUSED
    assert hint in error.detail


def test_proxies_of_the_environment_are_not_used(
    outside: ImageServer, inside: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, inside.url("/"))
    assert fetch(outside.url("/image.jpg?proxies")) == picture()
    assert inside.connections == 0


@pytest.mark.parametrize(
    ("path", "reason", "named"),
    [
        ("/giant", Reason.IMAGE_TOO_LARGE, "it goes on"),
        ("/giant-declared", Reason.IMAGE_TOO_LARGE, "1099511627776 bytes"),
        ("/html", Reason.IMAGE_FORMAT, "no image: it is an HTML page"),
        ("/text-as-jpeg", Reason.IMAGE_FORMAT, "no image"),
        ("/empty", Reason.IMAGE_FORMAT, "the body is empty"),
        ("/gzip-bomb", Reason.IMAGE_FORMAT, "compressed"),
        ("/cut", Reason.IMAGE_UNAVAILABLE, "cut off"),
        ("/not-http", Reason.IMAGE_UNAVAILABLE, "no HTTP"),
        ("/redirect-loop", Reason.IMAGE_UNAVAILABLE, "more than 3 redirects"),
        ("/status/404", Reason.IMAGE_UNAVAILABLE, "status 404"),
    ],
)
def test_body_that_is_no_bounded_image_is_refused(
    path: str, reason: Reason, named: str, outside: ImageServer
) -> None:
    error = refusal(outside.url(path))
    assert error.reason is reason
    assert named in error.detail


def test_image_with_the_wrong_content_type_is_taken_for_what_it_is(outside: ImageServer) -> None:
    assert fetch(outside.url("/mislabelled")) == picture()


@pytest.mark.parametrize("path", ["/drip", "/slow-headers"])
def test_server_that_never_ends_is_given_up_after_the_total_time(path: str, outside: ImageServer) -> None:
    error = refusal(outside.url(path), FetchConfig(allow_networks=["127.0.0.1/32"], total_s=0.4))
    assert error.reason is Reason.IMAGE_UNAVAILABLE
    assert "not complete within 0.4 s" in error.detail

"""Reading addresses of images."""

from __future__ import annotations

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import InvalidPost, Reason
from worker.fetch.urls import follow, parse_url, port_of, shown


def refusal(text: str) -> str:
    with pytest.raises(InvalidPost) as caught:
        parse_url(text)
    assert caught.value.reason is Reason.IMAGE_REFUSED
    return caught.value.detail


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("http://Pictures.Example/a.jpg", "pictures.example", 80),
        ("HTTPS://pictures.example:8443/a", "pictures.example", 8443),
        (" https://pictures.example/a\n", "pictures.example", 443),
        ("http://pictures.example./a", "pictures.example", 80),
        ("http://bücher.example/a", "xn--bcher-kva.example", 80),
        ("http://127.0.0.1.:81/", "127.0.0.1", 81),
        ("http://[2606:4700::1111]:82/", "2606:4700::1111", 82),
        ("http://my_bucket.example/", "my_bucket.example", 80),
    ],
)
def test_host_and_port_are_read_in_one_form(text: str, host: str, port: int) -> None:
    url = parse_url(text)
    assert url.raw_host == host.encode()
    assert port_of(url) == port


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("data:image/png;base64,iVBORw0KGgo=", "`data` field"),
        ("file:///etc/passwd", "`path` field"),
        ("FILE:///etc/passwd", "`path` field"),
        ("ftp://pictures.example/a.jpg", "ftp: addresses are not fetched"),
        ("gopher://pictures.example/", "gopher: addresses are not fetched"),
        ("javascript:alert(1)", "javascript: addresses"),
        ("//pictures.example/a.jpg", "no absolute address"),
        ("a.jpg", "no absolute address"),
        ("", "no absolute address"),
        ("http://", "not a usable"),
        ("http:///a.jpg", "not a usable"),
        ("http:a.jpg", "not a usable"),
        ("http://a b/", "not a usable"),
        ("http://a%00b/", "not a usable"),
        ("http://a\\b/", "not a usable"),
        ("http://a..b/", "not a usable"),
        (f"http://{'a' * 64}.example/", "not a usable"),
        (f"http://{'a.' * 127}example/", "not a usable"),
        ("http://pictures.example:70000/", "port"),
        ("http://pictures.example:-1/", "not a usable"),
        ("http://pictures.example\r\nX-Header: 1/", "not a usable"),
        ("http://0177.0.0.1/", "not a usable"),
        ("http://256.1.1.1/", "not a usable"),
        ("http://１２７.0.0.1/", "not a usable"),
        ("http://[::1/", "not a usable"),
        ("http://\ud800/", "not a usable"),
    ],
)
def test_what_is_no_http_address_is_refused_and_says_why(text: str, named: str) -> None:
    assert named in refusal(text)


def test_user_name_is_refused_and_not_repeated() -> None:
    detail = refusal("http://reader:hunter2@pictures.example/a.jpg?token=abc")
    assert "user name" in detail
    assert not any(secret in detail for secret in ("reader", "hunter2", "token", "abc"))


def test_shown_address_has_no_query_and_no_fragment_and_is_bounded() -> None:
    assert shown(parse_url("http://a.example/b.jpg?key=1#part")) == "http://a.example/b.jpg"
    assert len(shown(parse_url(f"http://a.example/{'b' * 5000}"))) < 250


def test_bare_host_has_a_target_to_ask_for() -> None:
    assert parse_url("http://a.example").raw_path == b"/"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/b.jpg", "https://a.example/b.jpg"),
        ("b.jpg", "https://a.example/x/b.jpg"),
        ("//c.example/b.jpg", "https://c.example/b.jpg"),
        ("https://c.example/b.jpg", "https://c.example/b.jpg"),
    ],
)
def test_redirect_is_followed_relative_to_its_address(location: str, target: str) -> None:
    assert str(follow(parse_url("https://a.example/x/a.jpg"), location)) == target


@pytest.mark.parametrize(
    "location",
    ["http://a.example/a.jpg", "file:///etc/passwd", "https://u:p@c.example/", "https://[::1/", "data:,x"],
)
def test_redirect_that_must_not_be_followed_is_refused(location: str) -> None:
    with pytest.raises(InvalidPost, match="redirect") as caught:
        follow(parse_url("https://a.example/a.jpg"), location)
    assert caught.value.reason is Reason.IMAGE_REFUSED
    assert "u:p" not in caught.value.detail


def read(text: str) -> httpx2.URL | InvalidPost:
    try:
        return parse_url(text)
    except InvalidPost as error:
        return error


@given(text=st.one_of(st.text(max_size=60), st.text(max_size=60).map("http://".__add__)))
def test_any_text_is_either_refused_or_read_the_same_when_read_again(text: str) -> None:
    url = read(text)
    if isinstance(url, InvalidPost):
        assert url.reason is Reason.IMAGE_REFUSED
        assert "\n" not in url.detail
    else:
        assert url.raw_host.isascii()
        assert read(str(url)) == url


@given(location=st.text(max_size=60))
def test_any_location_is_either_followed_or_refused(location: str) -> None:
    start = parse_url("https://a.example/a.jpg")
    try:
        scheme = follow(start, location).scheme
    except InvalidPost as error:
        scheme = error.reason.value
    assert scheme in ("https", "image_refused")

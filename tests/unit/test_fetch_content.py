"""What a body is by its first bytes, and the cache of bodies."""

from __future__ import annotations

import pytest

from model.pictures.decode import FORMATS, decode
from tests.image_server import picture
from worker.errors import InvalidPost, Reason
from worker.fetch.cache import ByteCache
from worker.fetch.content import SNIFFED_BYTES, check_image


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_that_is_decoded_is_recognised(file_format: str) -> None:
    data = picture(file_format)
    assert decode(data).size == (96, 64)
    check_image(data[:SNIFFED_BYTES], "a.example")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf\r\n<!DOCTYPE HTML>", "an HTML page"),
        (b"<html>", "an HTML page"),
        (b"<svg xmlns=", "an SVG"),
        (b'{"error": 1}', "JSON"),
        (b"%PDF-1.7", "a PDF"),
        (b"II*\x00\x08", "a TIFF"),
        (b"\x1f\x8b\x08", "compressed"),
        (b"RIFF\x00\x00\x00\x00WAVE", "no known format"),
        (b"\x00\x00\x00\x18ftypmp42", "no known format"),
        (b"\xff\xd8", "no known format"),
        (b"\x00", "no known format"),
    ],
)
def test_body_that_is_no_image_is_refused_and_named(body: bytes, named: str) -> None:
    with pytest.raises(InvalidPost, match=named) as caught:
        check_image(body, "a.example")
    assert caught.value.reason is Reason.IMAGE_FORMAT


def test_cache_drops_the_least_recently_used_first() -> None:
    cache = ByteCache(300, life_s=10)
    for key in "abc":
        cache.put(key, b"x" * 100)
    assert cache.get("a") is not None
    cache.put("d", b"x" * 100)
    assert [key for key in "abcd" if cache.get(key) is not None] == ["a", "c", "d"]
    assert cache.used_bytes == 300


def test_cache_entry_ends_with_its_life() -> None:
    now = [0.0]
    cache = ByteCache(300, life_s=10, now=lambda: now[0])
    cache.put("a", b"x")
    now[0] = 9.9
    assert cache.get("a") == b"x"
    now[0] = 10.0
    assert cache.get("a") is None
    assert cache.used_bytes == 0


def test_cache_replaces_an_entry_without_counting_it_twice() -> None:
    cache = ByteCache(300, life_s=10)
    cache.put("a", b"x" * 100)
    cache.put("a", b"x" * 50)
    assert cache.used_bytes == 50


@pytest.mark.parametrize("capacity_bytes", [0, 99])
def test_cache_keeps_nothing_that_is_larger_than_itself(capacity_bytes: int) -> None:
    cache = ByteCache(capacity_bytes, life_s=10)
    cache.put("a", b"x" * 100)
    assert cache.get("a") is None
    assert cache.used_bytes == 0

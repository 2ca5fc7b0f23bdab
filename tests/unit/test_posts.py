"""Decoding and validating posts."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.errors import InvalidPost, Reason
from worker.posts import PostLimits, decode_post
from worker.transport.base import Partition, Record
from worker.types import Post

PNG = b"\x89PNG not looked at here"
ENCODED = base64.b64encode(PNG).decode()
GOOD: dict[str, object] = {"id": "p1", "text": "A flag over the harbour."}


def decoded(post: Mapping[str, object] | bytes, limits: PostLimits | None = None) -> Post:
    value = post if isinstance(post, bytes) else json.dumps(post).encode()
    return decode_post(Record(Partition("posts.jsonl", 0), 0, None, value), limits)


def refusal(post: Mapping[str, object] | bytes, limits: PostLimits | None = None) -> InvalidPost:
    with pytest.raises(InvalidPost) as caught:
        decoded(post, limits)
    return caught.value


def test_every_field_is_read() -> None:
    post = decoded(
        GOOD
        | {
            "version": 1,
            "images": [{"data": ENCODED}, {"id": "b", "path": "b.jpg"}, {"url": "https://example.org/c.jpg"}],
            "published_at": "2026-11-21T05:00:00.25+01:00",
            "source": "wire",
            "lang": "en",
            "entities": ["Saint Lucia", " "],
            "explanation": " An island. ",
            "url": "https://example.org",
        }
    )
    assert post.id == "p1"
    assert [image.id for image in post.images] == ["0", "b", "2"]
    assert post.images[0].data == PNG
    assert post.images[1].path == "b.jpg"
    assert post.images[2].url == "https://example.org/c.jpg"
    assert post.published_at == datetime(2026, 11, 21, 4, 0, 0, 250_000, UTC)
    assert (post.source, post.lang, post.url) == ("wire", "en", "https://example.org")
    assert post.entities == ("Saint Lucia",)
    assert post.explanation == "An island."


def test_unknown_fields_are_kept() -> None:
    assert decoded(GOOD | {"desk": {"name": "world", "rank": [1, 2.5, None, True]}}).extra == {
        "desk": {"name": "world", "rank": [1, 2.5, None, True]}
    }


def test_a_null_stands_for_an_absent_field() -> None:
    names = ("images", "published_at", "source", "lang", "entities", "explanation", "url")
    assert decoded(GOOD | dict.fromkeys(names)) == decoded(GOOD)


def test_a_post_of_one_image_needs_no_text() -> None:
    assert decoded({"id": "p", "images": [{"path": "a.jpg"}]}).text == ""


def test_a_byte_order_mark_is_passed_over() -> None:
    assert decoded(b"\xef\xbb\xbf" + json.dumps(GOOD).encode()).id == "p1"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"not json",
        b'{"id": "p", "text": "cut in the mid',
        b'["id"]',
        b"null",
        b'"text"',
        b"\xff\xfe{}",
        b'{"id": "p", "text": "x", "n": NaN}',
        b'{"id": "p", "text": "x", "n": 1e999}',
        b'{"id": "p", "text": "x", "n": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
    ],
    ids=lambda value: repr(value[:24]),
)
def test_what_is_no_json_object_is_refused(value: bytes) -> None:
    assert refusal(value).reason is Reason.INVALID_JSON


IMAGE_FAULTS: list[dict[str, object]] = [
    {"images": [{}]},
    {"images": [{"path": "a", "url": "b"}]},
    {"images": [{"data": "not base64!"}]},
    {"images": [{"data": "abcde"}]},
    {"images": [{"data": 7}]},
    {"images": "a.jpg"},
    {"images": ["a.jpg"]},
    {"images": [{"id": "a", "path": "a"}, {"id": "a", "path": "b"}]},
    {"images": [{"id": "", "path": "a"}]},
    {"images": [{"id": "a\n", "path": "a"}]},
    {"images": [{"path": str(number)} for number in range(17)]},
]
FIELD_FAULTS: list[dict[str, object]] = [
    {"id": None},
    {"id": ""},
    {"id": 7},
    {"id": "x" * 513},
    {"id": "a\nb"},
    {"id": "a\u0085b"},
    {"id": "a\ud800"},
    {"text": 7},
    {"text": ["a"]},
    {"version": 2},
    {"entities": "Saint Lucia"},
    {"entities": ["e"] * 257},
    {"source": "s" * 2049},
    {"lang": 1},
    {"published_at": 1_700_000_000},
    {"published_at": "2026-11-21"},
    {"published_at": "2026-11-21T05:00:00"},
    {"published_at": "20261121T050000Z"},
    {"published_at": "2026-02-30T05:00:00Z"},
    {"published_at": "0001-01-01T00:00:00+10:00"},
    {"published_at": "yesterday"},
]


@pytest.mark.parametrize("fault", FIELD_FAULTS + IMAGE_FAULTS, ids=lambda fault: str(fault)[:48])
def test_a_field_that_is_wrong_is_refused(fault: dict[str, object]) -> None:
    assert refusal(GOOD | fault).reason is Reason.INVALID_SCHEMA


def test_an_id_is_required() -> None:
    assert refusal({"text": "x"}).reason is Reason.INVALID_SCHEMA


def test_unknown_fields_may_not_be_nested_without_end() -> None:
    value = b'{"id": "p", "text": "x", "deep": ' + b"[" * 500 + b"]" * 500 + b"}"
    assert refusal(value).reason is Reason.INVALID_SCHEMA


@pytest.mark.parametrize("post", [{}, {"text": ""}, {"text": " \n\t"}, {"text": "\0"}, {"images": []}])
def test_neither_text_nor_image_is_empty(post: dict[str, object]) -> None:
    assert refusal({"id": "p"} | post).reason is Reason.EMPTY_POST


@pytest.mark.parametrize("name", ["text", "explanation", "some_unknown_field"])
def test_five_megabytes_of_text_are_too_large(name: str) -> None:
    assert refusal(GOOD | {name: "word " * (1 << 20)}).reason is Reason.TEXT_TOO_LARGE


def test_text_is_measured_in_bytes() -> None:
    limits = PostLimits(text_bytes=8)
    assert decoded({"id": "p", "text": "éééé"}, limits).text == "éééé"
    assert refusal({"id": "p", "text": "ééééé"}, limits).reason is Reason.TEXT_TOO_LARGE


def test_a_record_over_the_cap_is_refused_before_it_is_parsed() -> None:
    assert refusal(b"x" * 101, PostLimits(record_bytes=100)).reason is Reason.TEXT_TOO_LARGE


def test_nul_and_lone_surrogates_are_taken_out() -> None:
    post = decoded(rb'{"id": "p", "text": "a\u0000b\ud800c \ud83d\ude00", "x": {"k\u0000": ["\udc00v"]}}')
    assert post.text == "abc 😀"
    assert post.extra == {"x": {"k": ["v"]}}


def test_an_integer_beyond_64_bits_becomes_a_float() -> None:
    assert decoded(GOOD | {"n": 1 << 80, "m": -(1 << 63)}).extra == {"n": float(1 << 80), "m": -(1 << 63)}


@pytest.mark.parametrize("fault", [{"id": 7}, {"published_at": "SECRET"}, {"images": [{"data": "SECRET!"}]}])
def test_the_detail_is_one_line_without_the_text(fault: dict[str, object]) -> None:
    detail = refusal({"id": "p", "text": "SECRET"} | fault).detail
    assert "SECRET" not in detail
    assert len(detail.splitlines()) == 1


def test_naughty_strings_are_good_posts(real_data: Path) -> None:
    strings = [text for text in json.loads((real_data / "text" / "blns.json").read_bytes()) if text.strip()]
    posts = [decoded({"id": f"n{number}", "text": text, "x": text}) for number, text in enumerate(strings)]
    assert len(posts) > 400
    assert [post.text for post in posts] == [text.replace("\0", "") for text in strings]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["id", "text", "images", "published_at", "entities", "version", "other"])

# the machine may be busy: nothing here is timed
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@untimed
@given(st.dictionaries(FIELDS, JSON))
def test_any_object_is_a_post_that_can_be_sent_on_or_is_refused(fields: dict[str, object]) -> None:
    try:
        post = decoded(GOOD | fields)
    except InvalidPost:
        return
    assert msgspec.json.decode(msgspec.json.encode(post.extra)) == post.extra


@untimed
@given(st.binary(max_size=200))
def test_any_bytes_are_a_post_or_are_refused(value: bytes) -> None:
    assert refusal(value).reason in set(Reason)


def test_millions_of_empty_lists_are_refused_before_they_are_parsed() -> None:
    error = refusal(b'{"id": "a", "text": "x", "y": [' + b"[]," * 2_500_000 + b"[]]}")
    assert error.reason is Reason.INVALID_SCHEMA
    assert "lists and objects" in error.detail

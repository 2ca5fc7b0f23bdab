"""From a record's bytes to a validated post (wire format version 1, `schemas/post.json`)."""

from __future__ import annotations

import binascii
import json
import math
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from worker.errors import InvalidPost, Reason
from worker.transport.base import Record
from worker.types import ImageRef, Post

_MAX_ID = 512
_MAX_DEPTH = 32  # of unknown fields; the store's own parser stops at 128
_INT64 = range(-(1 << 63), 1 << 63)
# Each costs some 60 bytes once it is parsed: 32 MiB of empty lists would take a gigabyte.
_MAX_CONTAINERS = 2_000_000
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.IGNORECASE | re.ASCII)
_UNPRINTABLE = re.compile("[\x00\ud800-\udfff]")  # NUL and lone surrogates have no place in UTF-8 stores

Id = Annotated[str, Meta(min_length=1, max_length=_MAX_ID)]
Short = Annotated[str, Meta(max_length=2048)]


@dataclass(frozen=True, slots=True)
class PostLimits:
    """Bounds of one post.

    Args:
        record_bytes: of the whole record.
        text_bytes: of the text, the explanation and all unknown fields together, each, in UTF-8.
        max_images: images a post.
    """

    record_bytes: int = 32 << 20
    text_bytes: int = 1 << 20
    max_images: int = 16


class _WireImage(msgspec.Struct):
    id: Id | None = None
    url: Short | None = None
    data: str | None = None
    path: Short | None = None


class _WirePost(msgspec.Struct):
    id: Id
    text: str | None = None
    images: list[_WireImage] | None = None
    published_at: str | None = None
    source: Short | None = None
    lang: Short | None = None
    entities: Annotated[list[Short], Meta(max_length=256)] | None = None
    explanation: str | None = None
    url: Short | None = None


_KNOWN = frozenset(field.name for field in msgspec.structs.fields(_WirePost)) | {"version"}


def decode_post(record: Record, limits: PostLimits | None = None) -> Post:
    """Decode and validate; unknown fields are kept in `extra`.

    Args:
        record: with a value; a tombstone is no post.

    Raises:
        InvalidPost: and why, in one line that holds nothing of the text.
    """
    limits = limits or PostLimits()
    value = record.value or b""
    if len(value) > limits.record_bytes:
        raise InvalidPost(Reason.TEXT_TOO_LARGE, f"the record is over {limits.record_bytes} bytes")
    fields = _parse(value)
    if fields.get("version", 1) != 1:
        raise InvalidPost(Reason.INVALID_SCHEMA, "`version` is not 1")
    try:
        wire = msgspec.convert(fields, _WirePost)
    except msgspec.ValidationError as error:
        raise InvalidPost(Reason.INVALID_SCHEMA, _readable(error)) from error
    if _CONTROL.search(wire.id):
        raise InvalidPost(Reason.INVALID_SCHEMA, "`id` holds control characters")
    return _build(wire, {key: item for key, item in fields.items() if key not in _KNOWN}, limits)


def _parse(value: bytes) -> dict[str, Any]:
    if value.count(b"[") + value.count(b"{") > _MAX_CONTAINERS:
        raise InvalidPost(Reason.INVALID_SCHEMA, f"over {_MAX_CONTAINERS} lists and objects")
    try:
        # the standard library, not msgspec: it takes lone surrogates, which real posts hold and we clean
        parsed = json.loads(
            value.decode("utf-8-sig"),
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
            parse_int=_parse_int,
        )
    except (ValueError, RecursionError) as error:
        raise InvalidPost(Reason.INVALID_JSON, _first_words(error)) from error
    if not isinstance(parsed, dict):
        raise InvalidPost(Reason.INVALID_JSON, "the record is no JSON object")
    return parsed


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _parse_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


def _parse_int(digits: str) -> int | float:
    """Beyond 64 bits a float, as in most JSON parsers: nothing behind us carries longer integers."""
    number = int(digits)
    return number if number in _INT64 else _parse_float(digits)


def _build(wire: _WirePost, extra: Mapping[str, object], limits: PostLimits) -> Post:
    text, explanation = _clean(wire.text or ""), _clean(wire.explanation or "")
    extra = _clean_tree(extra)
    unknown = json.dumps(extra, ensure_ascii=False)
    for name, value in {"text": text, "explanation": explanation, "unknown fields": unknown}.items():
        if len(value.encode()) > limits.text_bytes:
            raise InvalidPost(Reason.TEXT_TOO_LARGE, f"{name}: over {limits.text_bytes} bytes")
    images = _images(wire.images or [], limits)
    if not text.strip() and not images:
        raise InvalidPost(Reason.EMPTY_POST, "neither text nor image")
    return Post(
        id=wire.id,
        text=text,
        images=images,
        published_at=None if wire.published_at is None else _date(wire.published_at),
        source=_clean_optional(wire.source),
        lang=_clean_optional(wire.lang),
        entities=tuple(name for entity in wire.entities or [] if (name := _clean(entity).strip())),
        explanation=explanation.strip() or None,
        url=_clean_optional(wire.url),
        extra=extra,
    )


def _images(wire: list[_WireImage], limits: PostLimits) -> tuple[ImageRef, ...]:
    if len(wire) > limits.max_images:
        raise InvalidPost(Reason.INVALID_SCHEMA, f"{len(wire)} images, at most {limits.max_images} are taken")
    images = tuple(_image(image, index) for index, image in enumerate(wire))
    if len({image.id for image in images}) < len(images):
        raise InvalidPost(Reason.INVALID_SCHEMA, "two images have the same `id`")
    return images


def _image(image: _WireImage, index: int) -> ImageRef:
    if sum(place is not None for place in (image.url, image.data, image.path)) != 1:
        raise InvalidPost(
            Reason.INVALID_SCHEMA, f"image {index}: exactly one of url, data and path is needed"
        )
    data = None
    if image.data is not None:
        try:
            data = b64decode("".join(image.data.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidPost(Reason.INVALID_SCHEMA, f"image {index}: `data` is no base64") from error
    identity = str(index) if image.id is None else image.id
    if _CONTROL.search(identity):
        raise InvalidPost(Reason.INVALID_SCHEMA, f"image {index}: `id` holds control characters")
    return ImageRef(identity, _clean_optional(image.url), data, _clean_optional(image.path))


def _date(value: str) -> datetime:
    """RFC 3339 with a zone, as UTC."""
    try:
        if not _RFC3339.fullmatch(value):  # Python takes more forms of ISO 8601
            raise ValueError("another form")
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidPost(Reason.INVALID_SCHEMA, "`published_at` is no RFC 3339 time with a zone") from error


def _clean(text: str) -> str:
    return _UNPRINTABLE.sub("", text)


def _clean_optional(text: str | None) -> str | None:
    return None if text is None else _clean(text)


def _clean_tree(value: Any, depth: int = 0) -> Any:
    if depth > _MAX_DEPTH:
        raise InvalidPost(Reason.INVALID_SCHEMA, f"unknown fields are nested over {_MAX_DEPTH} deep")
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, dict):
        return {_clean(key): _clean_tree(item, depth + 1) for key, item in value.items()}
    return [_clean_tree(item, depth + 1) for item in value] if isinstance(value, list) else value


def _readable(error: msgspec.ValidationError) -> str:
    return str(error).replace(" - at `$.", ": `").replace("Object missing", "missing")


def _first_words(error: Exception) -> str:
    """What is wrong with the JSON, without quoting the record."""
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error).splitlines()[0][:200]

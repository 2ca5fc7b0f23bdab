"""The worker's points and searches, and how they become qdrant-client's models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from qdrant_client.http import models as m

from worker.errors import InvalidPost, Reason
from worker.store.vectors import BadVector, checked

VectorName = Literal["image", "text"]
VECTOR_NAMES: tuple[VectorName, ...] = ("image", "text")
_CHUNK_POINTS = 128
_CHUNK_BYTES = 8 << 20  # a quarter of what a server takes in one request
_FLOAT_BYTES = 12  # a float32 in JSON, about


@dataclass(frozen=True, slots=True)
class Point:
    """One image or one text window.

    Args:
        id: a UUID.
        vectors: name -> [D] float32; a point need not have every named vector.
        payload: JSON values; `published_at` may be a datetime or an RFC 3339 text with an offset.
    """

    id: str
    vectors: Mapping[str, NDArray[np.float32]]
    payload: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search; `score` is the cosine."""

    id: str
    score: float
    payload: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Where:
    """Which points: all conditions hold at once; an empty one says nothing.

    Args:
        exclude_post: points of this post are left out.
        published_from, published_to: both ends included; must know their offset.
        indexed_to: stored at that time or before; points that do not say when are left out.
        entities: at least one of them.
        content_hashes: of the picture's file, or of the text.
        undated: only points without `published_at`.
    """

    post_id: str | None = None
    exclude_post: str | None = None
    kinds: tuple[str, ...] = ()
    published_from: datetime | None = None
    published_to: datetime | None = None
    indexed_to: datetime | None = None
    sources: tuple[str, ...] = ()
    langs: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    explanation_statuses: tuple[str, ...] = ()
    content_hashes: tuple[str, ...] = ()
    undated: bool = False


@dataclass(frozen=True, slots=True)
class Search:
    """One search for the points whose vector `using` is nearest to `vector` ([D] float32).

    Args:
        fields: of the payload, that a hit brings along; None for all.
    """

    using: VectorName
    vector: NDArray[np.float32]
    limit: int = 50
    where: Where = field(default_factory=Where)
    score_threshold: float | None = None
    fields: tuple[str, ...] | None = None


def as_struct(point: Point, dim: int) -> m.PointStruct:
    """The point as it is sent.

    Raises:
        InvalidPost: a vector that is not finite, zero or not of `dim` numbers, or a date that is none.
    """
    try:
        vectors = {name: checked(vector, dim).tolist() for name, vector in point.vectors.items()}
    except BadVector as error:
        raise InvalidPost(Reason.ENCODING_FAILED, f"point {point.id}: {error}") from error
    return m.PointStruct(id=point.id, vector=vectors, payload=_payload(point))


def _payload(point: Point) -> dict[str, object]:
    payload = dict(point.payload)
    published_at = payload.get("published_at")
    if published_at is None:
        payload.pop("published_at", None)
        return payload
    try:
        moment = (
            published_at if isinstance(published_at, datetime) else datetime.fromisoformat(str(published_at))
        )
        payload["published_at"] = _utc(moment).isoformat()
    except (ValueError, OverflowError) as error:
        raise InvalidPost(Reason.STORE_REJECTED, f"point {point.id}: published_at: {error}") from error
    return payload


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no offset from UTC")
    return moment.astimezone(UTC)


def where_filter(where: Where) -> m.Filter | None:
    """The filter, or None where there is no condition.

    Raises:
        ValueError: a date without an offset.
    """
    must: list[m.Condition] = []
    if where.post_id is not None:
        must += field_is("post_id", (where.post_id,))
    must += field_is("kind", where.kinds)
    must += field_is("source", where.sources)
    must += field_is("lang", where.langs)
    must += field_is("entities", where.entities)
    must += field_is("explanation_status", where.explanation_statuses)
    must += field_is("content_hash", where.content_hashes)
    must += _between("published_at", where.published_from, where.published_to)
    must += _between("indexed_at", None, where.indexed_to)
    if where.undated:
        must.append(m.IsEmptyCondition(is_empty=m.PayloadField(key="published_at")))
    must_not: list[m.Condition] = []
    if where.exclude_post is not None:
        must_not += field_is("post_id", (where.exclude_post,))
    if not must and not must_not:
        return None
    return m.Filter(must=must or None, must_not=must_not or None)


def field_is(key: str, values: tuple[str, ...]) -> list[m.Condition]:
    """The condition that a payload field holds one of the values; none where there are no values."""
    return [m.FieldCondition(key=key, match=m.MatchAny(any=list(values)))] if values else []


def _between(key: str, first: datetime | None, last: datetime | None) -> list[m.Condition]:
    if first is None and last is None:
        return []
    window = m.DatetimeRange(
        gte=None if first is None else _utc(first), lte=None if last is None else _utc(last)
    )
    return [m.FieldCondition(key=key, range=window)]


def chunks(points: Sequence[m.PointStruct], dim: int) -> Iterator[list[m.PointStruct]]:
    """Cut into requests of at most 128 points and about 8 MiB of JSON."""
    chunk: list[m.PointStruct] = []
    size = 0
    for point in points:
        point_bytes = _size_bytes(point, dim)
        if chunk and (len(chunk) == _CHUNK_POINTS or size + point_bytes > _CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(point)
        size += point_bytes
    if chunk:
        yield chunk


def _size_bytes(point: m.PointStruct, dim: int) -> int:
    vectors = len(point.vector) if isinstance(point.vector, dict) else 1
    return vectors * dim * _FLOAT_BYTES + len(msgspec.json.encode(point.payload))


def as_point(row: m.Record) -> Point:
    """A stored point as it comes back: vectors normalised, and empty where they were not asked for."""
    vectors = row.vector if isinstance(row.vector, dict) else {}
    return Point(
        id=str(row.id),
        vectors={name: np.asarray(vector, dtype=np.float32) for name, vector in vectors.items()},
        payload=row.payload or {},
    )

"""qdrant-client's request models to the engine's types; what the engine lacks is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Any
from uuid import UUID

import qdrant_edge as edge
from qdrant_client.http import models as m

PointId = int | str | UUID  # the engine's own type, though an id leaves here as int or str


class Unsupported(Exception):
    """The embedded store does not do this; a Qdrant server does."""


class BadRequest(Exception):
    """The request is wrong; the message says how."""


def only(request: Any, *supported: str) -> None:
    """Refuse a request that sets any other field than these.

    Raises:
        Unsupported: naming the first such field.
    """
    for field in type(request).model_fields:
        if field not in supported and getattr(request, field) is not None:
            raise Unsupported(f"{type(request).__name__}.{field}")


def positive(name: str, value: int | None, default: int) -> int:
    """The value, or the default where there is none.

    Raises:
        BadRequest: below 1.
    """
    number = default if value is None else value
    if number < 1:
        raise BadRequest(f"{name} must be at least 1, got {number}")
    return number


def point_id(value: int | str | UUID) -> PointId:
    """An id as the engine takes it and as JSON carries it: an unsigned integer or a UUID's text.

    Raises:
        BadRequest: neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < 1 << 64:
            return value
    else:
        try:
            return str(UUID(str(value)))
        except ValueError:
            pass
    raise BadRequest(
        f"value {value} is not a valid point ID, valid values are either an unsigned integer or a UUID"
    )


def point_ids(values: Sequence[int | str | UUID]) -> list[PointId]:
    return [point_id(value) for value in values]


def filter_(source: m.Filter | None) -> edge.Filter | None:
    """Translate a filter.

    Raises:
        Unsupported: a kind of condition that the embedded store does not serve.
    """
    if source is None:
        return None
    least = source.min_should
    return edge.Filter(
        must=_conditions(source.must),
        should=_conditions(source.should),
        must_not=_conditions(source.must_not),
        min_should=None
        if least is None
        else edge.MinShould(_conditions(least.conditions) or [], least.min_count),
    )


def required_filter(source: m.Filter) -> edge.Filter:
    translated = filter_(source)
    assert translated is not None
    return translated


def payload_selector(source: Any, default: bool) -> bool | edge.PayloadSelector:
    """Which payload fields to return: all, none, or some."""
    if source is None:
        return default
    if isinstance(source, bool):
        return source
    if isinstance(source, m.PayloadSelectorExclude):
        return edge.PayloadSelector.Exclude(source.exclude)
    return edge.PayloadSelector.Include(
        source.include if isinstance(source, m.PayloadSelectorInclude) else source
    )


def search_params(source: m.SearchParams | None) -> edge.SearchParams | None:
    if source is None:
        return None
    only(source, "hnsw_ef", "exact", "indexed_only")
    return edge.SearchParams(
        hnsw_ef=source.hnsw_ef, exact=bool(source.exact), indexed_only=bool(source.indexed_only)
    )


def _conditions(source: Any) -> list[Any] | None:
    if source is None:
        return None
    return [_condition(item) for item in (source if isinstance(source, list) else [source])]


def _condition(source: Any) -> Any:
    match source:
        case m.FieldCondition():
            return _field_condition(source)
        case m.Filter():
            return required_filter(source)
        case m.HasIdCondition():
            return edge.HasIdCondition(set(point_ids(source.has_id)))
        case m.HasVectorCondition():
            return edge.HasVectorCondition(source.has_vector)
        case m.IsEmptyCondition():
            return edge.IsEmptyCondition(source.is_empty.key)
        case m.IsNullCondition():
            return edge.IsNullCondition(source.is_null.key)
        case m.NestedCondition():
            return edge.NestedCondition(source.nested.key, required_filter(source.nested.filter))
    raise Unsupported(f"the filter condition {type(source).__name__}")


def _field_condition(source: m.FieldCondition) -> edge.FieldCondition:
    only(source, "key", "match", "range", "is_empty", "is_null", "values_count")
    count = source.values_count
    return edge.FieldCondition(
        key=source.key,
        match=_match(source.match),
        range=_range(source.range),
        values_count=None if count is None else edge.ValuesCount(count.lt, count.gt, count.lte, count.gte),
        is_empty=source.is_empty,
        is_null=source.is_null,
    )


def _match(source: Any) -> Any:
    match source:
        case None:
            return None
        case m.MatchValue():
            return edge.MatchValue(source.value)
        case m.MatchAny():
            return edge.MatchAny(source.any)
        case m.MatchExcept():
            return edge.MatchExcept(source.except_)
        case m.MatchText():
            return edge.MatchText(source.text)
    raise Unsupported(f"the match {type(source).__name__}")


def _range(source: Any) -> Any:
    match source:
        case None:
            return None
        case m.Range():
            return edge.RangeFloat(gte=source.gte, gt=source.gt, lte=source.lte, lt=source.lt)
        case m.DatetimeRange():
            return edge.RangeDateTime(
                gte=_rfc3339(source.gte),
                gt=_rfc3339(source.gt),
                lte=_rfc3339(source.lte),
                lt=_rfc3339(source.lt),
            )
    raise Unsupported(f"the range {type(source).__name__}")


def _rfc3339(value: datetime | date | None) -> str | None:
    # Qdrant reads a time without an offset as UTC.
    if value is None:
        return None
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return value.astimezone(UTC).isoformat()

"""Counts what is in the collection behind the alias. Counts and facets only: no point is read.

Days are those of UTC. Counts are taken one after the other, so a worker that writes meanwhile may make them
differ by what it wrote.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from worker.errors import ConfigError
from worker.index import VectorIndex, Where, collection_name, served_model
from worker.store.client import Store

_MODEL_ID = re.compile(r"[0-9a-f]{12}")
_END = timedelta(microseconds=1)  # both ends of a range are included


@dataclass(frozen=True, slots=True)
class Count:
    """A value and how many points hold it."""

    value: str
    points: int


@dataclass(frozen=True, slots=True)
class ModelCollection:
    """One model's collection.

    Args:
        indexed_vectors: that are in the search graph; the others are compared one by one.
        is_served: whether the alias names it.
    """

    model_id: str
    points: int
    indexed_vectors: int
    is_served: bool


@dataclass(frozen=True, slots=True)
class Days:
    """Points by `published_at`.

    Args:
        days: each day, the newest first.
        earlier, later: before and after these days.
        undated: without a date.
    """

    days: tuple[Count, ...]
    earlier: int
    later: int
    undated: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the collection behind the alias holds; the commonest values first.

    Args:
        models: collections of the same alias, the served one first.
    """

    alias: str
    collection: str
    model_id: str
    points: int
    kinds: tuple[Count, ...]
    sources: tuple[Count, ...]
    langs: tuple[Count, ...]
    explanation_statuses: tuple[Count, ...]
    entities: tuple[Count, ...]
    published: Days
    models: tuple[ModelCollection, ...]


def collect(
    store: Store, alias: str, *, days: int = 14, top: int = 10, now: datetime | None = None
) -> Statistics:
    """Count; blocks for about twenty short requests and one a day.

    Args:
        days: the last ones, today included.
        top: sources, languages and entities, at most.

    Raises:
        ConfigError: nothing was indexed yet.
        TransientError, FatalError: as the store's.
    """
    served = served_model(store, alias)
    if served is None:
        raise ConfigError(f"the store at {store.target} has no alias {alias!r}: index some posts first")
    index = VectorIndex(store, alias, served, dim=0)  # never opened: counts need no vectors
    points = index.count()
    if not points:
        raise ConfigError(f"the store at {store.target} holds no points yet: index some posts first")
    return Statistics(
        alias=alias,
        collection=index.collection,
        model_id=served,
        points=points,
        kinds=_facet(index, "kind", top),
        sources=_facet(index, "source", top),
        langs=_facet(index, "lang", top),
        explanation_statuses=_facet(index, "explanation_status", top),
        entities=_facet(index, "entities", top),
        published=_published(index, days, now or datetime.now(UTC)),
        models=_models(store, alias, served),
    )


def _facet(index: VectorIndex, field: str, top: int) -> tuple[Count, ...]:
    found = index.facet(field, limit=top)
    return tuple(Count(value, found[value]) for value in sorted(found, key=lambda v: (-found[v], v)))


def _published(index: VectorIndex, days: int, now: datetime) -> Days:
    midnight = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    starts = [midnight - timedelta(days=back) for back in range(days)]
    tomorrow = midnight + timedelta(days=1)
    return Days(
        days=tuple(
            Count(f"{start:%Y-%m-%d}", _between(index, start, start + timedelta(days=1))) for start in starts
        ),
        earlier=_between(index, None, starts[-1]),
        later=_between(index, tomorrow, None),
        undated=index.count(where=Where(undated=True)),
    )


def _between(index: VectorIndex, first: datetime | None, before: datetime | None) -> int:
    last = None if before is None else before - _END
    return index.count(where=Where(published_from=first, published_to=last))


def _models(store: Store, alias: str, served: str) -> tuple[ModelCollection, ...]:
    prefix = collection_name(alias, "")
    names = [each.name for each in store.call(store.client.get_collections).collections]
    ids = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    ours = sorted(id_ for id_ in ids if _MODEL_ID.fullmatch(id_) and id_ != served)
    return tuple(_collection(store, alias, id_, is_served=id_ == served) for id_ in [served, *ours])


def _collection(store: Store, alias: str, model_id: str, *, is_served: bool) -> ModelCollection:
    points = VectorIndex(store, alias, model_id, dim=0).count()
    info = store.call(store.client.get_collection, collection_name(alias, model_id))
    return ModelCollection(model_id, points, info.indexed_vectors_count or 0, is_served)

"""One model's collection as a migration reads and writes it, whatever the alias says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from qdrant_client.http import models as m

from worker.errors import ConfigError, InvalidPost
from worker.index import Hit, Point, VectorIndex, alias_target
from worker.store.client import Refused, Store
from worker.store.points import VectorName, as_point, as_struct, chunks, field_is

_VERSION_FIELDS = ("indexed_at", "content_hash", "explanation_status")
_PAGE = 256
_BAD_CONTENT = {400, 413, 422}


@dataclass(frozen=True, slots=True)
class Version:
    """Which state of a post a point stands for; both collections hold the same one of an up-to-date point.

    Args:
        indexed_at: when a worker stored it: the same moment in both collections.
    """

    indexed_at: str
    content_hash: str
    explanation_status: str

    @classmethod
    def of(cls, payload: Mapping[str, object]) -> Version:
        """As a point's payload says; what it does not say is empty."""
        return cls(*(_text(payload, name) for name in _VERSION_FIELDS))


@dataclass(frozen=True, slots=True)
class Row:
    """A point without its vectors."""

    id: str
    kind: str
    post_id: str
    version: Version


class ModelCollection:
    """The collection of one model. Thread-safe; blocks and raises as `Store.call`.

    Args:
        name: of the collection.
        dim: of its vectors.
    """

    def __init__(self, store: Store, name: str, dim: int) -> None:
        self._store, self.name, self.dim = store, name, dim

    def exists(self) -> bool:
        """Whether there is one."""
        return self._store.call(self._store.client.collection_exists, self.name)

    def counts(self) -> dict[str, int]:
        """Points by kind."""
        return {kind: self._count(field_is("kind", (kind,))) for kind in ("image", "text")}

    def rows(self, offset: str | None = None) -> Iterator[list[Row]]:
        """Every point, in the order of the ids, page by page; points that are stored meanwhile may be missed.

        Args:
            offset: the UUID to begin at.
        """
        for found in self._pages(offset, None, [*_VERSION_FIELDS, "kind", "post_id"]):
            yield [_row(record) for record in found]

    def versions(self, ids: Sequence[str]) -> dict[str, Version]:
        """The versions of those points that exist."""
        return {
            row.id: row.version for row in (_row(record) for record in self._retrieve(ids, _VERSION_FIELDS))
        }

    def vectors(self, ids: Sequence[str]) -> dict[str, Point]:
        """Those points that exist, with vectors and the fields that a match reads."""
        fields = ("post_id", "kind", "text", "entities")
        found = map(as_point, self._retrieve(ids, fields, with_vectors=True))
        return {point.id: point for point in found}

    def posts(self, post_ids: Iterable[str]) -> list[Point]:
        """All points of these posts, without vectors."""
        condition = m.Filter(must=field_is("post_id", tuple(post_ids)))
        return [as_point(record) for found in self._pages(None, condition, True) for record in found]

    def insert(self, points: Sequence[Point]) -> list[str]:
        """Store those points whose ids are not there yet; returns once they are durable.

        Returns:
            The ids of points that the store refuses.
        """
        refused: list[str] = []
        structs = []
        for point in points:
            try:
                structs.append(as_struct(point, self.dim))
            except InvalidPost:
                refused.append(point.id)
        for chunk in chunks(structs, self.dim):
            refused += self._insert(chunk)
        return refused

    def delete_versions(self, versions: Mapping[str, Version]) -> None:
        """Delete points that still are of these versions: what a worker wrote since stays."""
        ids = list(versions)
        for start in range(0, len(ids), _PAGE):
            conditions: list[m.Condition] = [
                m.Filter(must=[m.HasIdCondition(has_id=[id_]), _stored_at(versions[id_].indexed_at)])
                for id_ in ids[start : start + _PAGE]
            ]
            selector = m.FilterSelector(filter=m.Filter(should=conditions))
            self._store.call(self._store.client.delete, self.name, selector, wait=True)

    def nearest(self, points: Sequence[Point], limit: int) -> list[list[Hit]]:
        """For each picture the nearest texts, for each text the nearest pictures, of other posts."""
        queries = [_query(point, limit) for point in points]
        answers = self._store.call(self._store.client.query_batch_points, self.name, queries)
        return [
            [Hit(str(hit.id), hit.score, hit.payload or {}) for hit in answer.points] for answer in answers
        ]

    def _count(self, conditions: list[m.Condition]) -> int:
        condition = m.Filter(must=conditions)
        return self._store.call(self._store.client.count, self.name, count_filter=condition, exact=True).count

    def _pages(
        self, offset: str | None, condition: m.Filter | None, payload: bool | list[str]
    ) -> Iterator[list[m.Record]]:
        following: m.ExtendedPointId | None = offset
        while True:
            found, following = self._store.call(
                self._store.client.scroll,
                self.name,
                scroll_filter=condition,
                limit=_PAGE,
                offset=following,
                with_payload=payload,
            )
            yield found
            if following is None:
                return

    def _retrieve(
        self, ids: Sequence[str], fields: Sequence[str], *, with_vectors: bool = False
    ) -> list[m.Record]:
        if not ids:
            return []
        return self._store.call(
            self._store.client.retrieve,
            self.name,
            list(ids),
            with_payload=list(fields),
            with_vectors=with_vectors,
        )

    def _insert(self, points: list[m.PointStruct]) -> list[str]:
        try:
            self._store.call(
                self._store.client.upsert,
                self.name,
                points,
                wait=True,
                update_mode=m.UpdateMode.INSERT_ONLY,
            )
        except Refused as error:
            if error.status not in _BAD_CONTENT:
                raise
            if len(points) == 1:
                return [str(points[0].id)]
            middle = len(points) // 2
            return self._insert(points[:middle]) + self._insert(points[middle:])
        return []


@dataclass(frozen=True, slots=True)
class Route:
    """From the collection that the alias names to that of the model it is to name.

    Args:
        source_model, target_model: their ids.
    """

    source_model: str
    target_model: str
    source: ModelCollection
    target: ModelCollection

    @property
    def is_done(self) -> bool:
        """Whether the alias names the target already."""
        return self.source_model == self.target_model


def find_route(store: Store, alias: str, target_model: str, target_dim: int) -> Route:
    """Look where the alias points.

    Raises:
        ConfigError: nowhere, or at a collection that is none of ours.
    """
    served = alias_target(store, alias)
    if served is None:
        raise ConfigError(f"the store at {store.target} has no alias {alias!r}: index some posts first")
    if not served.startswith(f"{alias}-"):
        raise ConfigError(f"the alias {alias!r} points at {served!r}, which no worker filled")
    source_model = served.removeprefix(f"{alias}-")
    index = VectorIndex(store, alias, target_model, target_dim)
    return Route(
        source_model,
        target_model,
        ModelCollection(store, served, _dim(store, served)),
        ModelCollection(store, index.collection, target_dim),
    )


def _dim(store: Store, name: str) -> int:
    vectors = store.call(store.client.get_collection, name).config.params.vectors
    return vectors["image"].size if isinstance(vectors, dict) and "image" in vectors else 0


def _row(record: m.Record) -> Row:
    payload = record.payload or {}
    return Row(str(record.id), _text(payload, "kind"), _text(payload, "post_id"), Version.of(payload))


def _text(payload: Mapping[str, object], name: str) -> str:
    value = payload.get(name)
    return "" if value is None else str(value)


def _stored_at(moment: str) -> m.Condition:
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return m.IsEmptyCondition(is_empty=m.PayloadField(key="indexed_at"))
    return m.FieldCondition(key="indexed_at", range=m.DatetimeRange(gte=at, lte=at))


def _query(point: Point, limit: int) -> m.QueryRequest:
    own: VectorName = "text" if "text" in point.vectors else "image"
    others = m.Filter(must_not=field_is("post_id", (str(point.payload.get("post_id")),)))
    return m.QueryRequest(
        query=point.vectors[own].tolist(),
        using="image" if own == "text" else "text",
        filter=others,
        limit=limit,
        with_payload=["post_id", "entities"],
    )

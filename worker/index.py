"""The worker's one way to the vector index, on an embedded store and a Qdrant server alike.

One collection `<alias>-<model_id>` per model, with the named vectors `image` and `text`; an image
is one point, a text window is one point. Whoever opens it asks the alias once whether it names this model's
collection, and names that collection from then on: when the alias moves to another model's, a search
that is under way never meets vectors of another model. So a new model's collection can be filled beside the
old one and switched to in one step (`worker.migrate`).

Calls block as long as the store's timeout and raise what `Store.call` raises: TransientError when the
store is away, FatalError when it refuses. Thread-safe once opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from qdrant_client.http import models as m

from worker.errors import ConfigError, FatalError, InvalidPost, Reason
from worker.store.client import Refused, Store
from worker.store.layout import PAYLOAD_INDEXES, alias_target, check_vectors, make_collection, point_alias
from worker.store.points import (
    Hit,
    Point,
    Search,
    VectorName,
    Where,
    as_point,
    as_struct,
    chunks,
    field_is,
    where_filter,
)
from worker.store.vectors import checked

__all__ = [
    "PAYLOAD_INDEXES",
    "Hit",
    "Point",
    "Search",
    "VectorIndex",
    "VectorName",
    "Where",
    "alias_target",
    "collection_name",
    "served_model",
]

_CHUNK_SEARCHES = 64
_PAGE_POINTS = 256
_BAD_CONTENT = {400, 413, 422}


class VectorIndex:
    """One model's collection behind one alias.

    Call `open_or_create` (a writer) or `open_existing` (a reader) before anything else.

    Args:
        store: open; `close` closes it.
        dim: of both named vectors.
        beside: id of another model at whose collection the alias may point too, for a writer of both.
        replication_factor: of a collection created here; writes wait for as many copies.
    """

    def __init__(
        self,
        store: Store,
        alias: str,
        model_id: str,
        dim: int,
        *,
        beside: str | None = None,
        replication_factor: int = 1,
    ) -> None:
        self._store = store
        self._alias = alias
        self._model_id = model_id
        self._dim = dim
        self._replication_factor = replication_factor
        self.collection = collection_name(alias, model_id)
        self._allowed = {None, self.collection} | ({collection_name(alias, beside)} if beside else set())

    # -- opening ------------------------------------------------------------------------------

    def open_or_create(self) -> None:
        """Open for writing: make the collection, its payload indexes and the alias where missing.

        Raises:
            FatalError: the alias points at another model's collection, or the collection's vectors differ.
        """
        self._check_alias(alias_target(self._store, self._alias))
        self.create_collection()
        if alias_target(self._store, self._alias) is None:
            self.take_alias()
        self._check_alias(alias_target(self._store, self._alias))

    def open_existing(self) -> None:
        """Open for reading, through the alias.

        Raises:
            ConfigError: there is nothing to read yet.
            FatalError: the alias points at another model's collection.
        """
        target = alias_target(self._store, self._alias)
        if target is None:
            raise ConfigError(
                f"the store at {self._store.target} has no alias {self._alias!r}: index some posts first"
            )
        self._check_alias(target)
        self._check_readable()

    def open_named(self) -> None:
        """Open this model's collection for reading, wherever the alias points.

        Raises:
            ConfigError: it holds no points.
            FatalError: there is no such collection, or its vectors differ.
        """
        self._check_readable()

    def _check_readable(self) -> None:
        check_vectors(self._store, self.collection, self._dim)
        if self.count() == 0:
            raise ConfigError(
                f"the store at {self._store.target} holds no points yet: index some posts first"
            )

    def create_collection(self) -> None:
        """Make this model's collection and payload indexes where missing; the alias stays as it is.

        Raises:
            FatalError: a collection of that name holds other vectors.
        """
        make_collection(self._store, self.collection, self._dim, copies=self._replication_factor)

    def check_served(self) -> None:
        """Look whether the alias still names this collection, or that of the model beside it.

        Raises:
            FatalError: it was moved to another model's.
        """
        self._check_alias(alias_target(self._store, self._alias))

    def take_alias(self) -> None:
        """Point the alias at this model's collection, from wherever it points, in one step."""
        point_alias(self._store, self._alias, self.collection)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    # -- writing ------------------------------------------------------------------------------

    def check(self, point: Point) -> m.PointStruct:
        """The point as it is sent.

        Raises:
            InvalidPost: a vector that is not finite, zero or of another size, or a date that is none.
        """
        return as_struct(point, self._dim)

    def upsert(self, points: Sequence[Point]) -> None:
        """Store points, each replacing the one of its id as a whole; returns once all are durable.

        Raises:
            InvalidPost: a point that fails `check` (nothing is sent then), or that the store refuses
                (the others are stored).
        """
        refused: list[InvalidPost] = []
        for chunk in chunks([self.check(point) for point in points], self._dim):
            refused += self._send(chunk)
        if refused:
            raise refused[0]

    def update(
        self,
        id_: str,
        vectors: Mapping[str, NDArray[np.float32]],
        payload: Mapping[str, object],
        *,
        content_hash: str,
    ) -> None:
        """Replace some vectors and payload fields of a point whose content is still the same.

        A point that is gone, or whose `content_hash` has changed, is left alone.
        """
        checked_point = self.check(Point(id_, vectors, payload))
        unchanged = field_is("content_hash", (content_hash,))
        condition = m.Filter(must=[m.HasIdCondition(has_id=[id_]), *unchanged])
        client = self._store.client
        if vectors:
            rows = [m.PointVectors(id=id_, vector=checked_point.vector)]
            self._store.call(
                client.update_vectors,
                self.collection,
                rows,
                wait=True,
                update_filter=m.Filter(must=[*unchanged]),
            )
        if payload:
            fields = dict(checked_point.payload or {})
            self._store.call(client.set_payload, self.collection, fields, condition, wait=True)

    def delete_post(self, post_id: str) -> None:
        """Delete every point of a post; returns once that is durable."""
        self.delete(Where(post_id=post_id))

    def delete(self, where: Where) -> None:
        """Delete the points that match; returns once that is durable.

        Raises:
            ValueError: no condition at all, which would empty the collection.
        """
        condition = where_filter(where)
        if condition is None:
            raise ValueError("refusing to delete every point: name a condition")
        selector = m.FilterSelector(filter=condition)
        self._store.call(self._store.client.delete, self.collection, selector, wait=True)

    # -- reading ------------------------------------------------------------------------------

    def search(self, requests: Sequence[Search]) -> list[list[Hit]]:
        """The nearest points of each request, best first, in the order of the requests.

        Raises:
            ValueError: a query vector that is not finite, zero or of another size, or a naive date.
        """
        queries = [self._query(request) for request in requests]
        hits: list[list[Hit]] = []
        for start in range(0, len(queries), _CHUNK_SEARCHES):
            chunk = queries[start : start + _CHUNK_SEARCHES]
            answers = self._store.call(self._store.client.query_batch_points, self.collection, chunk)
            hits += [
                [Hit(str(hit.id), hit.score, hit.payload or {}) for hit in answer.points]
                for answer in answers
            ]
        return hits

    def get(
        self, ids: Sequence[str], *, with_vectors: bool = False, fields: Sequence[str] | None = None
    ) -> list[Point]:
        """The points of these ids, as far as they exist, in no particular order.

        Args:
            fields: of the payload, that a point brings along; None for all.
        """
        if not ids:
            return []
        rows = self._store.call(
            self._store.client.retrieve,
            self.collection,
            list(ids),
            with_payload=True if fields is None else list(fields),
            with_vectors=with_vectors,
        )
        return [as_point(row) for row in rows]

    def scroll(self, where: Where | None = None, *, with_vectors: bool = False) -> Iterator[Point]:
        """Every point that matches, page by page, in the order of the ids.

        Points that are stored meanwhile may or may not be seen.
        """
        offset: m.ExtendedPointId | None = None
        while True:
            rows, offset = self._store.call(
                self._store.client.scroll,
                self.collection,
                scroll_filter=where_filter(where or Where()),
                limit=_PAGE_POINTS,
                offset=offset,
                with_payload=True,
                with_vectors=with_vectors,
            )
            yield from map(as_point, rows)
            if offset is None:
                return

    def count(self, kind: str | None = None, *, where: Where | None = None) -> int:
        """How many points there are: all, of one kind, or as `where` says."""
        condition = where_filter(where or Where(kinds=() if kind is None else (kind,)))
        return self._store.call(
            self._store.client.count, self.collection, count_filter=condition, exact=True
        ).count

    def facet(self, key: str, *, limit: int = 20, where: Where | None = None) -> dict[str, int]:
        """The commonest values of an indexed payload field and how many of the points hold each."""
        condition = where_filter(where or Where())
        hits = self._store.call(
            self._store.client.facet, self.collection, key, facet_filter=condition, limit=limit, exact=True
        ).hits
        return {str(hit.value): hit.count for hit in hits}

    # -- inside -------------------------------------------------------------------------------

    def _check_alias(self, target: str | None) -> None:
        if target not in self._allowed:
            raise FatalError(
                f"the alias {self._alias!r} of the store at {self._store.target} points at {target!r}, "
                f"filled by another model than this one ({self._model_id}): use that model "
                "or name another --store"
            )

    def _send(self, points: list[m.PointStruct]) -> list[InvalidPost]:
        """Upsert; where the store refuses the content, halve until the bad points stand alone."""
        try:
            self._store.call(self._store.client.upsert, self.collection, points, wait=True)
        except Refused as error:
            if error.status not in _BAD_CONTENT:
                raise
            if len(points) == 1:
                return [InvalidPost(Reason.STORE_REJECTED, f"point {points[0].id}: {error}")]
            middle = len(points) // 2
            return self._send(points[:middle]) + self._send(points[middle:])
        return []

    def _query(self, request: Search) -> m.QueryRequest:
        return m.QueryRequest(
            query=checked(request.vector, self._dim).tolist(),
            using=request.using,
            filter=where_filter(request.where),
            limit=request.limit,
            score_threshold=request.score_threshold,
            with_payload=True if request.fields is None else list(request.fields),
        )


def collection_name(alias: str, model_id: str) -> str:
    """The collection that holds a model's vectors."""
    return f"{alias}-{model_id}"


def served_model(store: Store, alias: str) -> str | None:
    """The id of the model whose collection the alias points at; None if there is no such alias."""
    target = alias_target(store, alias)
    return None if target is None else target.removeprefix(f"{alias}-")

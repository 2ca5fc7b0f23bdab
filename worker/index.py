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

from worker.errors import InvalidPost, Reason
from worker.store.client import Refused
from worker.store.layout import PAYLOAD_INDEXES, alias_target
from worker.store.opening import ModelCollection, collection_name, served_model
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
from worker.store.searches import as_request, ask

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

_CHUNK_SEARCHES = 128
_PAGE_POINTS = 256
_BAD_CONTENT = {400, 413, 422}


class VectorIndex(ModelCollection):
    """One model's collection behind one alias.

    Call `open_or_create` (a writer) or `open_existing` (a reader) before anything else.
    """

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

    def delete_stale(self, post_ids: Sequence[str], current: Sequence[str]) -> None:
        """Delete the points of these posts that are not among the current ones; returns once that is durable.

        Args:
            current: ids of points.
        """
        if not post_ids:
            return
        stale = m.Filter(
            must=field_is("post_id", tuple(post_ids)),
            must_not=[m.HasIdCondition(has_id=list(current))] if current else None,
        )
        client = self._store.client
        if self._store.call(client.count, self.collection, count_filter=stale, exact=True).count:
            self._store.call(client.delete, self.collection, m.FilterSelector(filter=stale), wait=True)

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
        queries = [as_request(request, self._dim) for request in requests]
        hits: list[list[Hit]] = []
        for start in range(0, len(queries), _CHUNK_SEARCHES):
            chunk = queries[start : start + _CHUNK_SEARCHES]
            hits += self._store.call(ask, self._store.client, self.collection, chunk)
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

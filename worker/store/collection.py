"""One collection: qdrant-client's requests, answered by one shard of the real Qdrant engine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qdrant_edge as edge
from pydantic_core import to_json
from qdrant_client.http import models as m

from worker.store import graphs, schema, translate
from worker.store.answers import Answer, record, scored_points
from worker.store.files import replace_json
from worker.store.shard import Shard
from worker.store.translate import BadRequest, Unsupported
from worker.store.vectors import BadVector, checked

_CONFIG_FILE = "collection.json"
_POINT_BYTES = 1 << 10  # about what the engine's own fields of a point take in memory
_TIMES_JSON = 5  # as much as its JSON takes a payload in the engine's values
_UPDATE_MODES = {
    None: edge.UpdateMode.Upsert,
    m.UpdateMode.UPSERT: edge.UpdateMode.Upsert,
    m.UpdateMode.INSERT_ONLY: edge.UpdateMode.InsertOnly,
    m.UpdateMode.UPDATE_ONLY: edge.UpdateMode.UpdateOnly,
}


class Collection:
    """Thread-safe. A write returns once it is flushed to disk."""

    def __init__(self, shard: Shard, vectors: dict[str, m.VectorParams]) -> None:
        self.vectors = vectors
        self._shard = shard
        self._building = threading.Lock()
        self._stop_building = threading.Event()
        # Points written since the last build, roughly: the engine counts those that were replaced in a graph,
        # or deleted from it, as indexed.
        self._rewritten = 0

    @classmethod
    def create(cls, folder: Path, request: m.CreateCollection) -> None:
        """Make an empty collection in a folder that does not exist yet, and close it.

        Raises:
            BadRequest, Unsupported: the request asks for something else than named dense vectors.
            EngineError: the engine cannot write there.
        """
        config = edge.EdgeConfig(vectors=schema.vector_params(request))
        folder.mkdir(parents=True)
        Shard.create(folder, config)
        replace_json(folder / _CONFIG_FILE, request.model_dump(mode="json", exclude_none=True))

    @classmethod
    def load(cls, folder: Path) -> Collection:
        """Open a collection that `create` made.

        Raises:
            OSError, ValueError: its files are missing or damaged.
            EngineError: the engine cannot read it.
        """
        request = m.CreateCollection.model_validate_json((folder / _CONFIG_FILE).read_bytes())
        assert isinstance(request.vectors, dict)
        return cls(Shard.load(folder), request.vectors)

    def close(self) -> None:
        """Flush and close; the collection is unusable afterwards. Graphs being built are given up."""
        self.stop_building()
        with self._building:
            self._shard.close()

    # -- writing ------------------------------------------------------------------------------

    def upsert(
        self, points: Sequence[m.PointStruct], *, only_if: m.Filter | None, mode: m.UpdateMode | None
    ) -> int:
        """Insert or replace whole points; give the number of the operation.

        Raises:
            BadRequest: an id or a vector that must not be stored; nothing is stored then.
        """
        rows = [
            edge.Point(translate.point_id(point.id), self._named(point.vector), point.payload or {})
            for point in points
        ]
        condition = translate.filter_(only_if)
        operation = edge.UpdateOperation.upsert_points(rows, condition, _UPDATE_MODES[mode])
        self._rewritten += len(rows)
        return self._shard.write(operation, lambda: self._bytes([point.payload for point in points]))

    def update_vectors(self, points: Sequence[m.PointVectors], *, only_if: m.Filter | None) -> int:
        """Replace the named vectors given, leave the others and the payload."""
        rows = [
            edge.PointVectors(translate.point_id(point.id), self._named(point.vector)) for point in points
        ]
        operation = edge.UpdateOperation.update_vectors(rows, translate.filter_(only_if))
        self._rewritten += len(rows)
        return self._shard.write(operation, lambda: self._bytes([None] * len(rows)))

    def delete(self, selector: m.PointIdsList | m.FilterSelector) -> int:
        """Delete points by id or by filter."""
        if isinstance(selector, m.PointIdsList):
            return self._shard.write(edge.UpdateOperation.delete_points(translate.point_ids(selector.points)))
        condition = translate.required_filter(selector.filter)
        return self._shard.write(edge.UpdateOperation.delete_points_by_filter(condition))

    def set_payload(self, request: m.SetPayload, *, overwrite: bool) -> int:
        """Merge fields into the payload of some points, or replace it."""
        make = edge.UpdateOperation
        if request.points is not None and request.filter is None:
            by_id = make.overwrite_payload if overwrite else make.set_payload
            operation = by_id(translate.point_ids(request.points), request.payload, request.key)
        else:
            by_filter = make.overwrite_payload_by_filter if overwrite else make.set_payload_by_filter
            operation = by_filter(_either(request), request.payload, request.key)
        return self._shard.write(operation, lambda: self._bytes([request.payload]))

    def delete_payload(self, request: m.DeletePayload) -> int:
        """Delete payload fields of some points."""
        if request.points is not None and request.filter is None:
            ids = translate.point_ids(request.points)
            return self._shard.write(edge.UpdateOperation.delete_payload(ids, request.keys))
        return self._shard.write(
            edge.UpdateOperation.delete_payload_by_filter(_either(request), request.keys)
        )

    def create_index(self, request: m.CreateFieldIndex) -> int:
        """Index a payload field; indexing it again is harmless.

        Not flushed by itself: the next write is, and an index lost in a power cut is made again by
        whoever opens the collection for writing.
        """
        type_ = schema.index_type(request.field_schema)
        return self._shard.apply(edge.UpdateOperation.create_field_index(request.field_name, type_))

    # -- reading ------------------------------------------------------------------------------

    def query(self, requests: Sequence[m.QueryRequest]) -> list[list[Answer]]:
        """Nearest points for each request, in the order of the requests."""
        selectors = [translate.payload_selector(one.with_payload, default=False) for one in requests]
        shared: bool | edge.PayloadSelector = False
        if requests and all(one.with_payload == requests[0].with_payload for one in requests):
            shared, selectors = selectors[0], [False] * len(requests)
        searches = [self._query(*each) for each in zip(requests, selectors, strict=True)]
        return self._shard.read(lambda shard: scored_points(shard, searches, shared))

    def retrieve(self, request: m.PointRequest) -> list[Answer]:
        """The points with these ids, as far as they exist."""
        ids = translate.point_ids(request.ids)
        payload = translate.payload_selector(request.with_payload, default=True)
        vector = request.with_vector or False
        return [record(row) for row in self._shard.read(lambda shard: shard.retrieve(ids, payload, vector))]

    def scroll(self, request: m.ScrollRequest) -> Answer:
        """One page of points in the order of their ids."""
        translate.only(request, "offset", "limit", "filter", "with_payload", "with_vector")
        page = edge.ScrollRequest(
            offset=None if request.offset is None else translate.point_id(request.offset),
            limit=translate.positive("limit", request.limit, 10),
            filter=translate.filter_(request.filter),
            with_payload=translate.payload_selector(request.with_payload, default=True),
            with_vector=request.with_vector or False,
        )
        rows, following = self._shard.read(lambda shard: shard.scroll(page))
        return {"points": [record(row) for row in rows], "next_page_offset": following}

    def count(self, request: m.CountRequest) -> int:
        """How many points match."""
        exact = request.exact is not False
        condition = translate.filter_(request.filter)
        return self._shard.read(lambda shard: shard.count(edge.CountRequest(exact=exact, filter=condition)))

    def facet(self, request: m.FacetRequest) -> list[m.FacetValueHit]:
        """The values of an indexed payload field and how many points hold each."""
        limit = translate.positive("limit", request.limit, 10)
        exact = bool(request.exact)
        facet = edge.FacetRequest(request.key, limit, exact, translate.filter_(request.filter))
        return [
            m.FacetValueHit(value=hit.value, count=hit.count)
            for hit in self._shard.read(lambda shard: shard.facet(facet)).hits
        ]

    def info(self) -> edge.ShardInfo:
        return self._shard.read(lambda shard: shard.info())

    # -- upkeep -------------------------------------------------------------------------------

    def unoptimized(self) -> int:
        """Points whose vectors are not in a search graph yet and are scanned by every query."""
        info = self.info()
        return max(info.points_count - info.indexed_vectors_count, min(self._rewritten, info.points_count))

    def build_graphs(self) -> None:
        """Put every vector that is worth it into a search graph, and merge segments.

        Blocks for minutes; requests are answered meanwhile.

        Raises:
            Stopped, BuildFailed: nothing has changed.
            EngineError: the process must end.
        """
        with self._building:
            rewritten = self._rewritten
            graphs.build(self._shard, self._stop_building)
            self._rewritten -= rewritten

    def stop_building(self) -> None:
        """Give up what is being built, for good."""
        self._stop_building.set()

    def _bytes(self, payloads: Sequence[object]) -> int:
        """About what points with these payloads take in memory, if they have every vector."""
        own = 4 * sum(params.size for params in self.vectors.values()) + _POINT_BYTES
        return len(payloads) * own + _TIMES_JSON * len(to_json(payloads))

    def _named(self, vector: Any) -> dict[str, Any]:
        if not isinstance(vector, dict):
            raise BadRequest("Not existing vector name error: vectors must be given by name")
        return {name: self._vector(name, values) for name, values in vector.items()}

    def _vector(self, name: str | None, values: Any) -> list[float]:
        params = self.vectors.get(name or "")
        if params is None:
            raise BadRequest(f"Not existing vector name error: {name or ''}")
        if not isinstance(values, list) or (values and isinstance(values[0], list)):
            raise Unsupported("vectors other than dense lists of numbers")
        try:
            checked(values, params.size)
        except BadVector as error:
            raise BadRequest(f"Vector error: {name}: {error}") from error
        return values

    def _query(self, request: m.QueryRequest, payload: bool | edge.PayloadSelector) -> edge.QueryRequest:
        translate.only(
            request,
            *(
                "query",
                "using",
                "filter",
                "params",
                "score_threshold",
                "limit",
                "offset",
                "with_vector",
                "with_payload",
            ),
        )
        nearest = request.query
        if isinstance(nearest, m.NearestQuery):
            translate.only(nearest, "nearest")
            nearest = nearest.nearest
        if not isinstance(nearest, list):
            raise Unsupported("a query other than the nearest to a vector")
        return edge.QueryRequest(
            limit=translate.positive("limit", request.limit, 10),
            offset=request.offset or 0,
            query=edge.Query.Nearest(self._vector(request.using, nearest), using=request.using),
            filter=translate.filter_(request.filter),
            score_threshold=request.score_threshold,
            params=translate.search_params(request.params),
            with_payload=payload,
            with_vector=request.with_vector or False,
        )


def _either(request: m.SetPayload | m.DeletePayload) -> edge.Filter:
    """Points by filter, narrowed to the ids where both are given."""
    if request.filter is None:
        raise BadRequest("either points or filter is required")
    if request.points is None:
        return translate.required_filter(request.filter)
    return translate.required_filter(m.Filter(must=[request.filter, m.HasIdCondition(has_id=request.points)]))

"""One collection on one shard of the real Qdrant engine.

Every engine call holds the GIL for as long as it runs, so calls from several threads take turns.
`optimize()` is the long one (building the search graph over 20,000 new 512-d vectors takes about
16 s on two busy cores, during which the whole process answers nothing); the server calls it when the
store is idle, and clients have a timeout that outlasts it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import qdrant_edge as edge
from qdrant_client.http import models as m

from worker.store import schema, translate
from worker.store.files import replace_json
from worker.store.translate import BadRequest, Unsupported
from worker.store.vectors import BadVector, checked

T = TypeVar("T")
_CONFIG_FILE = "collection.json"
_SHARD_FOLDER = "shard"
_UPDATE_MODES = {
    None: edge.UpdateMode.Upsert,
    m.UpdateMode.UPSERT: edge.UpdateMode.Upsert,
    m.UpdateMode.INSERT_ONLY: edge.UpdateMode.InsertOnly,
    m.UpdateMode.UPDATE_ONLY: edge.UpdateMode.UpdateOnly,
}


class EngineError(Exception):
    """The engine failed on a request that passed our checks.

    Args:
        while_writing: the shard may be behind what it logged; only a reload makes it sound again.
    """

    def __init__(self, message: str, *, while_writing: bool) -> None:
        super().__init__(message)
        self.while_writing = while_writing


class Collection:
    """Thread-safe. A write returns once it is flushed to disk; writers that overlap share one flush."""

    def __init__(self, shard: edge.EdgeShard, vectors: dict[str, m.VectorParams]) -> None:
        self.vectors = vectors
        self._shard = shard
        self._apply_lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._applied = 0
        self._flushed = 0

    @classmethod
    def create(cls, folder: Path, request: m.CreateCollection) -> None:
        """Make an empty collection in a folder that does not exist yet, and close it.

        Raises:
            BadRequest, Unsupported: the request asks for something else than named dense vectors.
            EngineError: the engine cannot write there.
        """
        config = edge.EdgeConfig(vectors=schema.vector_params(request))
        folder.mkdir(parents=True)
        shard = _engine(
            lambda: edge.EdgeShard.create(str(folder / _SHARD_FOLDER), config), while_writing=True
        )
        _engine(shard.flush, while_writing=True)
        shard.close()
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
        shard = _engine(lambda: edge.EdgeShard.load(str(folder / _SHARD_FOLDER)), while_writing=False)
        return cls(shard, request.vectors)

    def close(self) -> None:
        """Flush and close; the collection is unusable afterwards."""
        with self._apply_lock, self._flush_lock:
            _engine(self._shard.flush, while_writing=True)
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
        return self._write(edge.UpdateOperation.upsert_points(rows, condition, _UPDATE_MODES[mode]))

    def update_vectors(self, points: Sequence[m.PointVectors], *, only_if: m.Filter | None) -> int:
        """Replace the named vectors given, leave the others and the payload."""
        rows = [
            edge.PointVectors(translate.point_id(point.id), self._named(point.vector)) for point in points
        ]
        return self._write(edge.UpdateOperation.update_vectors(rows, translate.filter_(only_if)))

    def delete(self, selector: m.PointIdsList | m.FilterSelector) -> int:
        """Delete points by id or by filter."""
        if isinstance(selector, m.PointIdsList):
            return self._write(edge.UpdateOperation.delete_points(translate.point_ids(selector.points)))
        condition = translate.required_filter(selector.filter)
        return self._write(edge.UpdateOperation.delete_points_by_filter(condition))

    def set_payload(self, request: m.SetPayload, *, overwrite: bool) -> int:
        """Merge fields into the payload of some points, or replace it."""
        operation = edge.UpdateOperation
        if request.points is not None and request.filter is None:
            by_id = operation.overwrite_payload if overwrite else operation.set_payload
            return self._write(by_id(translate.point_ids(request.points), request.payload, request.key))
        by_filter = operation.overwrite_payload_by_filter if overwrite else operation.set_payload_by_filter
        return self._write(by_filter(_either(request), request.payload, request.key))

    def delete_payload(self, request: m.DeletePayload) -> int:
        """Delete payload fields of some points."""
        if request.points is not None and request.filter is None:
            ids = translate.point_ids(request.points)
            return self._write(edge.UpdateOperation.delete_payload(ids, request.keys))
        return self._write(edge.UpdateOperation.delete_payload_by_filter(_either(request), request.keys))

    def create_index(self, request: m.CreateFieldIndex) -> int:
        """Index a payload field; indexing it again is harmless.

        Not flushed by itself: the next write is, and an index lost in a power cut is made again by
        whoever opens the collection for writing.
        """
        type_ = schema.index_type(request.field_schema)
        return self._apply(edge.UpdateOperation.create_field_index(request.field_name, type_))

    # -- reading ------------------------------------------------------------------------------

    def query(self, requests: Sequence[m.QueryRequest]) -> list[list[m.ScoredPoint]]:
        """Nearest points for each request, in the order of the requests."""
        batch = edge.QueryBatchRequest([self._query(request) for request in requests])
        return [[_scored(hit) for hit in hits] for hits in self._read(lambda: self._shard.query_batch(batch))]

    def retrieve(self, request: m.PointRequest) -> list[m.Record]:
        """The points with these ids, as far as they exist."""
        ids = translate.point_ids(request.ids)
        payload = translate.payload_selector(request.with_payload, default=True)
        vector = request.with_vector or False
        return [_record(row) for row in self._read(lambda: self._shard.retrieve(ids, payload, vector))]

    def scroll(self, request: m.ScrollRequest) -> m.ScrollResult:
        """One page of points in the order of their ids."""
        translate.only(request, "offset", "limit", "filter", "with_payload", "with_vector")
        page = edge.ScrollRequest(
            offset=None if request.offset is None else translate.point_id(request.offset),
            limit=translate.positive("limit", request.limit, 10),
            filter=translate.filter_(request.filter),
            with_payload=translate.payload_selector(request.with_payload, default=True),
            with_vector=request.with_vector or False,
        )
        rows, following = self._read(lambda: self._shard.scroll(page))
        return m.ScrollResult(
            points=[_record(row) for row in rows],
            next_page_offset=None if following is None else translate.point_id(following),
        )

    def count(self, request: m.CountRequest) -> int:
        """How many points match."""
        exact = request.exact is not False
        condition = translate.filter_(request.filter)
        return self._read(lambda: self._shard.count(edge.CountRequest(exact=exact, filter=condition)))

    def facet(self, request: m.FacetRequest) -> list[m.FacetValueHit]:
        """The values of an indexed payload field and how many points hold each."""
        limit = translate.positive("limit", request.limit, 10)
        exact = bool(request.exact)
        facet = edge.FacetRequest(request.key, limit, exact, translate.filter_(request.filter))
        return [
            m.FacetValueHit(value=hit.value, count=hit.count)
            for hit in self._read(lambda: self._shard.facet(facet)).hits
        ]

    def info(self) -> edge.ShardInfo:
        return self._read(self._shard.info)

    # -- upkeep -------------------------------------------------------------------------------

    def unoptimized(self) -> int:
        """Points whose vectors are not in a search graph yet and are scanned by every query."""
        info = self.info()
        return max(0, info.points_count - info.indexed_vectors_count)

    def optimize(self) -> bool:
        """Build search graphs and merge segments; blocks, and stalls every thread of the process."""
        changed = _engine(self._shard.optimize, while_writing=True)
        with self._apply_lock:
            self._applied += 1
            number = self._applied
        self._flush(number)
        return changed

    def _write(self, operation: edge.UpdateOperation) -> int:
        number = self._apply(operation)
        self._flush(number)
        return number

    def _apply(self, operation: edge.UpdateOperation) -> int:
        with self._apply_lock:
            _engine(lambda: self._shard.update(operation), while_writing=True)
            self._applied += 1
            return self._applied

    def _flush(self, number: int) -> None:
        with self._flush_lock:
            if self._flushed >= number:
                return  # a flush that began after our update has covered it
            reached = self._applied
            _engine(self._shard.flush, while_writing=True)
            self._flushed = reached

    def _read(self, call: Callable[[], T]) -> T:
        return _engine(call, while_writing=False)

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

    def _query(self, request: m.QueryRequest) -> edge.QueryRequest:
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
            with_payload=translate.payload_selector(request.with_payload, default=False),
            with_vector=request.with_vector or False,
        )


def _engine(call: Callable[[], T], *, while_writing: bool) -> T:
    # The engine raises bare Exceptions, and a panic inside it arrives as a BaseException.
    try:
        return call()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise EngineError(str(error) or type(error).__name__, while_writing=while_writing) from error


def _either(request: m.SetPayload | m.DeletePayload) -> edge.Filter:
    """Points by filter, narrowed to the ids where both are given."""
    if request.filter is None:
        raise BadRequest("either points or filter is required")
    if request.points is None:
        return translate.required_filter(request.filter)
    return translate.required_filter(m.Filter(must=[request.filter, m.HasIdCondition(has_id=request.points)]))


def _scored(hit: edge.ScoredPoint) -> m.ScoredPoint:
    vector: Any = hit.vector  # named lists, the same in both libraries' types
    id_ = translate.point_id(hit.id)
    return m.ScoredPoint(id=id_, version=hit.version, score=hit.score, payload=hit.payload, vector=vector)


def _record(row: edge.Record) -> m.Record:
    vector: Any = row.vector
    return m.Record(id=translate.point_id(row.id), payload=row.payload, vector=vector)

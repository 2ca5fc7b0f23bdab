"""What each call of the served REST subset does: reads a model, works on the catalog, gives an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from qdrant_client.http import models as m

from worker.store.catalog import Catalog
from worker.store.collection import Collection
from worker.store.schema import index_type_name
from worker.store.translate import BadRequest


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read: what an operation works on."""

    catalog: Catalog
    name: str
    body: bytes

    def collection(self) -> Collection:
        return self.catalog.get(self.name)

    def read(self, type_: Any) -> Any:
        """The body as one of qdrant-client's models."""
        return _adapter(type_).validate_json(self.body)


Operation = Callable[[Call], object]


@cache
def _adapter(type_: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type_)


def _done(number: int) -> m.UpdateResult:
    return m.UpdateResult(operation_id=number, status=m.UpdateStatus.COMPLETED)


def _list_collections(call: Call) -> object:
    return m.CollectionsResponse(
        collections=[m.CollectionDescription(name=name) for name in call.catalog.names()]
    )


def _exists(call: Call) -> object:
    return m.CollectionExistence(exists=call.catalog.exists(call.name))


def _create(call: Call) -> object:
    call.catalog.create(call.name, call.read(m.CreateCollection))
    return True


def _delete_collection(call: Call) -> object:
    return call.catalog.delete(call.name)


def _info(call: Call) -> object:
    collection = call.collection()
    info = collection.info()
    schema = {
        key: m.PayloadIndexInfo(data_type=index_type_name(index.data_type), points=index.points)
        for key, index in info.payload_schema.items()
    }
    return m.CollectionInfo(
        status=m.CollectionStatus.GREEN,
        optimizer_status=m.OptimizersStatusOneOf.OK,
        indexed_vectors_count=info.indexed_vectors_count,
        points_count=info.points_count,
        segments_count=info.segments_count,
        config=m.CollectionConfig(
            params=m.CollectionParams(vectors=collection.vectors, shard_number=1, replication_factor=1),
            hnsw_config=m.HnswConfig(m=16, ef_construct=100, full_scan_threshold=10_000),
            optimizer_config=m.OptimizersConfig(default_segment_number=0, flush_interval_sec=0),
        ),
        payload_schema=schema,
    )


def _aliases(call: Call) -> object:
    pairs = sorted(call.catalog.aliases().items())
    return m.CollectionsAliasesResponse(
        aliases=[m.AliasDescription(alias_name=alias, collection_name=target) for alias, target in pairs]
    )


def _collection_aliases(call: Call) -> object:
    call.collection()
    pairs = [(alias, target) for alias, target in call.catalog.aliases().items() if target == call.name]
    return m.CollectionsAliasesResponse(
        aliases=[
            m.AliasDescription(alias_name=alias, collection_name=target) for alias, target in sorted(pairs)
        ]
    )


def _change_aliases(call: Call) -> object:
    call.catalog.change_aliases(call.read(m.ChangeAliasesOperation))
    return True


def _upsert(call: Call) -> object:
    request = call.read(m.PointInsertOperations)
    points = _rows(request.batch) if isinstance(request, m.PointsBatch) else request.points
    return _done(call.collection().upsert(points, only_if=request.update_filter, mode=request.update_mode))


def _rows(batch: m.Batch) -> list[m.PointStruct]:
    if not isinstance(batch.vectors, dict):
        raise BadRequest("Not existing vector name error: vectors must be given by name")
    columns = {"payloads": batch.payloads, **batch.vectors}
    for name, column in columns.items():
        if column is not None and len(column) != len(batch.ids):
            raise BadRequest(f"{len(batch.ids)} ids but {len(column)} of {name}")
    payloads = batch.payloads or [{}] * len(batch.ids)
    return [
        m.PointStruct(
            id=id_, vector={name: column[row] for name, column in batch.vectors.items()}, payload=payload
        )
        for row, (id_, payload) in enumerate(zip(batch.ids, payloads, strict=True))
    ]


def _update_vectors(call: Call) -> object:
    request = call.read(m.UpdateVectors)
    return _done(call.collection().update_vectors(request.points, only_if=request.update_filter))


def _delete_points(call: Call) -> object:
    return _done(call.collection().delete(call.read(m.PointsSelector)))


def _set_payload(call: Call) -> object:
    return _done(call.collection().set_payload(call.read(m.SetPayload), overwrite=False))


def _overwrite_payload(call: Call) -> object:
    return _done(call.collection().set_payload(call.read(m.SetPayload), overwrite=True))


def _delete_payload(call: Call) -> object:
    return _done(call.collection().delete_payload(call.read(m.DeletePayload)))


def _create_index(call: Call) -> object:
    return _done(call.collection().create_index(call.read(m.CreateFieldIndex)))


def _query(call: Call) -> object:
    return {"points": call.collection().query([call.read(m.QueryRequest)])[0]}


def _query_batch(call: Call) -> object:
    answers = call.collection().query(call.read(m.QueryRequestBatch).searches)
    return [{"points": points} for points in answers]


def _retrieve(call: Call) -> object:
    return call.collection().retrieve(call.read(m.PointRequest))


def _scroll(call: Call) -> object:
    return call.collection().scroll(call.read(m.ScrollRequest))


def _count(call: Call) -> object:
    return m.CountResult(count=call.collection().count(call.read(m.CountRequest)))


def _facet(call: Call) -> object:
    return m.FacetResponse(hits=call.collection().facet(call.read(m.FacetRequest)))


_COLLECTION = "/collections/{name}"
OPERATIONS: tuple[tuple[str, str, Operation], ...] = (
    ("GET", "/collections", _list_collections),
    ("GET", "/aliases", _aliases),
    ("POST", "/collections/aliases", _change_aliases),
    ("GET", _COLLECTION, _info),
    ("PUT", _COLLECTION, _create),
    ("DELETE", _COLLECTION, _delete_collection),
    ("GET", f"{_COLLECTION}/exists", _exists),
    ("GET", f"{_COLLECTION}/aliases", _collection_aliases),
    ("PUT", f"{_COLLECTION}/index", _create_index),
    ("PUT", f"{_COLLECTION}/points", _upsert),
    ("POST", f"{_COLLECTION}/points", _retrieve),
    ("POST", f"{_COLLECTION}/points/delete", _delete_points),
    ("POST", f"{_COLLECTION}/points/payload", _set_payload),
    ("PUT", f"{_COLLECTION}/points/payload", _overwrite_payload),
    ("POST", f"{_COLLECTION}/points/payload/delete", _delete_payload),
    ("PUT", f"{_COLLECTION}/points/vectors", _update_vectors),
    ("POST", f"{_COLLECTION}/points/query", _query),
    ("POST", f"{_COLLECTION}/points/query/batch", _query_batch),
    ("POST", f"{_COLLECTION}/points/scroll", _scroll),
    ("POST", f"{_COLLECTION}/points/count", _count),
    ("POST", f"{_COLLECTION}/facet", _facet),
)

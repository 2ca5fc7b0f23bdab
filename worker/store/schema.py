"""What a collection holds: its named vectors and its payload indexes, in the engine's types."""

from __future__ import annotations

from typing import Any

import qdrant_edge as edge
from qdrant_client.http import models as m

from worker.store.translate import BadRequest, Unsupported, only, positive

DISTANCES = {
    m.Distance.COSINE: edge.Distance.Cosine,
    m.Distance.DOT: edge.Distance.Dot,
    m.Distance.EUCLID: edge.Distance.Euclid,
    m.Distance.MANHATTAN: edge.Distance.Manhattan,
}
INDEX_TYPES = {
    m.PayloadSchemaType.KEYWORD: edge.PayloadSchemaType.Keyword,
    m.PayloadSchemaType.INTEGER: edge.PayloadSchemaType.Integer,
    m.PayloadSchemaType.FLOAT: edge.PayloadSchemaType.Float,
    m.PayloadSchemaType.BOOL: edge.PayloadSchemaType.Bool,
    m.PayloadSchemaType.DATETIME: edge.PayloadSchemaType.Datetime,
    m.PayloadSchemaType.UUID: edge.PayloadSchemaType.Uuid,
    m.PayloadSchemaType.TEXT: edge.PayloadSchemaType.Text,
}
_INDEX_NAMES = {str(value): key for key, value in INDEX_TYPES.items()}


def vector_params(request: m.CreateCollection) -> dict[str, edge.EdgeVectorParams]:
    """The named dense vectors of a new collection.

    Raises:
        Unsupported: the request asks for anything else.
    """
    # A server's sharding and replication mean nothing to a single folder; 1 asks for what is there.
    for field in ("shard_number", "replication_factor", "write_consistency_factor"):
        if getattr(request, field) not in (None, 1):
            raise Unsupported(f"CreateCollection.{field} other than 1")
    only(request, "vectors", "shard_number", "replication_factor", "write_consistency_factor")
    if not isinstance(request.vectors, dict) or not request.vectors:
        raise Unsupported("a collection without named vectors")
    for params in request.vectors.values():
        only(params, "size", "distance")
        positive("size", params.size, 0)
    return {
        name: edge.EdgeVectorParams(size=params.size, distance=DISTANCES[params.distance])
        for name, params in request.vectors.items()
    }


def index_type(source: Any) -> edge.PayloadSchemaType:
    """The type of a payload index.

    Raises:
        Unsupported: index parameters beyond the type, or a type that is not served.
        BadRequest: no type.
    """
    if source is None:
        raise BadRequest("field_schema is required")
    if not isinstance(source, m.PayloadSchemaType):
        only(source, "type")
        source = m.PayloadSchemaType(source.type.value)
    if source not in INDEX_TYPES:
        raise Unsupported(f"a payload index of type {source.value}")
    return INDEX_TYPES[source]


def index_type_name(source: edge.PayloadSchemaType) -> m.PayloadSchemaType:
    return _INDEX_NAMES[str(source)]

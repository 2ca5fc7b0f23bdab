"""How a model's collection is laid out and made, and the alias that readers find it by.

Calls block as long as the store's timeout and raise what `Store.call` raises.
"""

from __future__ import annotations

from collections.abc import Mapping

from qdrant_client.http import models as m

from worker.errors import FatalError
from worker.store.client import Refused, Store
from worker.store.points import VECTOR_NAMES

PAYLOAD_INDEXES: Mapping[str, m.PayloadSchemaType] = {
    "post_id": m.PayloadSchemaType.KEYWORD,
    "kind": m.PayloadSchemaType.KEYWORD,
    "image_id": m.PayloadSchemaType.KEYWORD,
    "window": m.PayloadSchemaType.INTEGER,
    "source": m.PayloadSchemaType.KEYWORD,
    "lang": m.PayloadSchemaType.KEYWORD,
    "entities": m.PayloadSchemaType.KEYWORD,
    "explanation_status": m.PayloadSchemaType.KEYWORD,
    "content_hash": m.PayloadSchemaType.KEYWORD,
    "model_id": m.PayloadSchemaType.KEYWORD,
    "published_at": m.PayloadSchemaType.DATETIME,
    "indexed_at": m.PayloadSchemaType.DATETIME,
}
_CONFLICT = 409


def make_collection(store: Store, name: str, dim: int, *, copies: int) -> None:
    """Make a collection and its payload indexes where missing.

    Args:
        copies: of its points, on servers that have more than one; writes wait for as many.

    Raises:
        FatalError: a collection of that name holds other vectors.
    """
    if not store.call(store.client.collection_exists, name):
        _create(store, name, dim, copies)
    info = check_vectors(store, name, dim)
    for key, schema in PAYLOAD_INDEXES.items():
        if key not in info.payload_schema:
            store.call(store.client.create_payload_index, name, key, schema, wait=True)


def check_vectors(store: Store, name: str, dim: int) -> m.CollectionInfo:
    """Look whether a collection holds vectors as we search them.

    Raises:
        FatalError: there is none, or it holds other vectors.
    """
    info = store.call(store.client.get_collection, name)
    found = info.config.params.vectors
    params = found if isinstance(found, dict) else {}
    for vector in VECTOR_NAMES:
        held = params.get(vector)
        if held is None or held.size != dim or held.distance != m.Distance.COSINE:
            raise FatalError(
                f"the collection {name!r} of the store at {store.target} does not hold "
                f"{dim}-d cosine vectors {vector!r}: name another --store"
            )
    return info


def alias_target(store: Store, alias: str) -> str | None:
    """The collection that an alias points at, if there is such an alias."""
    pairs = store.call(store.client.get_aliases).aliases
    return next((pair.collection_name for pair in pairs if pair.alias_name == alias), None)


def point_alias(store: Store, alias: str, collection: str) -> None:
    """Point an alias at a collection, from wherever it points, in one step."""
    create = m.CreateAlias(collection_name=collection, alias_name=alias)
    actions: list[m.AliasOperations] = [m.CreateAliasOperation(create_alias=create)]
    if alias_target(store, alias) is not None:
        actions.insert(0, m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name=alias)))
    store.call(store.client.update_collection_aliases, actions)


def _create(store: Store, name: str, dim: int, copies: int) -> None:
    vectors: dict[str, m.VectorParams] = {
        vector: m.VectorParams(size=dim, distance=m.Distance.COSINE) for vector in VECTOR_NAMES
    }
    try:
        store.call(
            store.client.create_collection,
            name,
            vectors,
            replication_factor=copies,
            write_consistency_factor=copies,
        )
    except Refused as error:
        if error.status != _CONFLICT:  # another worker was faster
            raise

"""Searches over Qdrant's REST API without a model of qdrant-client for each hit.

A batch of 64 posts brings thousands of hits. qdrant-client checks each of them against every type that an id,
a payload or a vector may have, which takes the worker three times as long as reading the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException

from worker.store.points import Hit, Search, where_filter
from worker.store.vectors import checked

_PATH = "/collections/{name}/points/query/batch"


class _Hit(msgspec.Struct):
    id: int | str
    score: float
    payload: dict[str, Any] | None = None


class _Answer(msgspec.Struct):
    points: list[_Hit]


class _Request(msgspec.Struct, omit_defaults=True):
    """The fields of Qdrant's `QueryRequest` that a search sets."""

    query: list[float]
    using: str
    limit: int
    with_payload: bool | tuple[str, ...]
    filter: dict[str, Any] | None = None
    score_threshold: float | None = None


def as_request(search: Search, dim: int) -> _Request:
    """The search as it is sent.

    Raises:
        ValueError: a query vector that is not finite, zero or of another size, or a naive date.
    """
    condition = where_filter(search.where)
    return _Request(
        query=checked(search.vector, dim).tolist(),
        using=search.using,
        limit=search.limit,
        with_payload=True if search.fields is None else search.fields,
        filter=None if condition is None else condition.model_dump(mode="json", exclude_none=True),
        score_threshold=search.score_threshold,
    )


def ask(client: QdrantClient, collection: str, requests: Sequence[_Request]) -> list[list[Hit]]:
    """The hits of each request, best first; blocks, and raises, as a method of `client`."""
    answer = client.http.client.request(
        type_=dict[str, Any],
        method="POST",
        url=_PATH,
        path_params={"name": collection},
        headers={"Content-Type": "application/json"},
        content=msgspec.json.encode({"searches": requests}),
    )
    try:
        answers = msgspec.convert(answer.get("result"), list[_Answer])
    except msgspec.ValidationError as error:
        raise ResponseHandlingException(error) from error
    return [[Hit(str(hit.id), hit.score, hit.payload or {}) for hit in each.points] for each in answers]

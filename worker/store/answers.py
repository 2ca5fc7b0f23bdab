"""What the engine finds, in the form of Qdrant's REST API: plain dictionaries, for thousands a batch.

The ids, payloads and vectors come from the engine itself, so there is nothing for a model to check.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qdrant_edge as edge

Answer = dict[str, Any]  # a ScoredPoint, or a Record


def scored_points(
    shard: edge.EdgeShard, searches: Sequence[edge.QueryRequest], payload: bool | edge.PayloadSelector
) -> list[list[Answer]]:
    """The hits of each search.

    Args:
        payload: what every hit brings along, for searches that ask for none themselves: a point that many
            of them find is then read once. One that is deleted meanwhile is no hit.
    """
    found = shard.query_batch(edge.QueryBatchRequest(list(searches)))
    if payload is False:
        return [[_scored(hit, hit.payload) for hit in hits] for hits in found]
    ids = {hit.id for hits in found for hit in hits}
    payloads = {row.id: row.payload for row in shard.retrieve(list(ids), payload, False)}
    return [[_scored(hit, payloads[hit.id]) for hit in hits if hit.id in payloads] for hits in found]


def record(row: edge.Record) -> Answer:
    """A stored point."""
    return {"id": row.id, "payload": row.payload, "vector": row.vector}


def _scored(hit: edge.ScoredPoint, payload: object) -> Answer:
    answer: Answer = {"id": hit.id, "version": hit.version, "score": hit.score, "payload": payload}
    return answer if hit.vector is None else answer | {"vector": hit.vector}

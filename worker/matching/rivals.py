"""Rivals of a pair: the other picture that its text is nearest to, the other text that its picture is.

A pair that is well ahead of both is right far more often than its cosine alone tells. What shows the same
content, comes from the same post or names an entity in common is no rival: it may be right as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from worker.index import Hit, Point, Search
from worker.matching.crowding import Found, search_widely
from worker.matching.rules import MatchRules
from worker.matching.select import published_at
from worker.types import Post

Side = Literal["text", "image"]
SIDES: tuple[Side, Side] = ("text", "image")
_OTHER: dict[Side, Side] = {"text": "image", "image": "text"}
_FIELDS = ("post_id", "content_hash", "entities")


@dataclass(frozen=True, slots=True)
class Rival:
    """The nearest rival on one side of a pair; `cosine` is None where there is none."""

    cosine: float | None


def nearest_rival(own: Point, other: Point, hits: Sequence[Hit], limit: int) -> Rival:
    """The best hit that rivals `other` for `own`.

    Args:
        hits: of a search for `own` with this limit, best first. Where it is full and all of it is no rival,
            the nearest one is behind its last.
    """
    for hit in hits:
        if _is_rival(hit, own, other):
            return Rival(hit.score)
    return Rival(hits[-1].score if len(hits) >= limit else None)


class RivalSearch:
    """Asks the store for rivals. Blocks in `search`, whose errors pass through."""

    def __init__(self, search: Callable[[Sequence[Search]], list[list[Hit]]], rules: MatchRules) -> None:
        self._search = search
        self._rules = rules

    def __call__(
        self, side: Side, pairs: Sequence[tuple[Point, Point]], vectors: Mapping[str, NDArray[np.float32]]
    ) -> list[Rival]:
        """The nearest rival of each pair on one side.

        Args:
            pairs: the point of that side, then the other one.
            vectors: [D] float32 by point id; a point without a vector has no rival.
        """
        asked = {own.id: own for own, _ in pairs if own.id in vectors}
        requests = {
            id_: request
            for id_, own in asked.items()
            if (request := self._request(own, side, vectors[id_])) is not None
        }
        # As the matcher searches: the point would find the same rivals if it were matched itself.
        answers = search_widely(self._search, list(requests.values()), self._rules.max_matches)
        found = dict(zip(requests, answers, strict=True))
        none = Found((), self._rules.top_k)
        return [
            nearest_rival(own, other, answer.hits, answer.limit)
            for own, other in pairs
            for answer in [found.get(own.id, none)]
        ]

    def _request(self, own: Point, side: Side, vector: NDArray[np.float32]) -> Search | None:
        """None where the rules let the point be matched with nothing."""
        where = self._rules.partners(stored_post(own.payload))
        if where is None:
            return None
        return Search(_OTHER[side], vector, self._rules.top_k, where, fields=_FIELDS)


def margin(cosine: float, rivals: Iterable[Rival]) -> float | None:
    """How far a pair is ahead of its nearest rival; None where it has none."""
    found = [rival.cosine for rival in rivals if rival.cosine is not None]
    return cosine - max(found) if found else None


def stored_post(payload: Mapping[str, object]) -> Post:
    """What the rules look at, of a post that stands in the store or is being stored."""
    lang = payload.get("lang")
    return Post(
        id=str(payload["post_id"]),
        published_at=published_at(payload),
        lang=None if lang is None else str(lang),
        entities=tuple(_names(payload.get("entities"))),
    )


def _is_rival(hit: Hit, own: Point, other: Point) -> bool:
    payload = hit.payload
    shared = set(_folded(payload)) & (set(_folded(own.payload)) | set(_folded(other.payload)))
    return not shared and all(
        str(payload.get(name)) != str(other.payload.get(name)) for name in ("post_id", "content_hash")
    )


def _folded(payload: Mapping[str, object]) -> Iterator[str]:
    return (" ".join(name.split()).casefold() for name in _names(payload.get("entities")))


def _names(values: object) -> Iterator[str]:
    return map(str, values) if isinstance(values, list | tuple) else iter(())

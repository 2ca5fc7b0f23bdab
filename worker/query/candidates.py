"""The nearest points to an encoded question, each content once.

A query of text and picture both searches with either, and the two lists are joined by reciprocal rank, sum of
1 / (60 + rank): likenesses within one kind are far larger and wider spread than across kinds, so a sum or a
mean of vectors or of cosines would follow the side of the hit's own kind alone.

Source: Cormack, Clarke and Büttcher (2009), Reciprocal rank fusion.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.index import Hit, Search, VectorIndex
from worker.query.question import Kind, Query

Vector = NDArray[np.float32]

_RANK_CONSTANT = 60
_POOL = 5  # times as many hits of each side, where two lists are joined
_WIDER = 10
_MOST_ASKED = 10_000
_CHUNK = 256  # points whose vectors are taken at once
# A post's unknown fields may be a megabyte: thousands of hits must not carry them.
_FIELDS: Final = (
    *("post_id", "image_id", "text", "explanation", "entities", "source", "lang", "published_at", "url"),
    *("content_hash", "own_cosine"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as vectors, each [D] float32 and L2-normalised.

    Args:
        sides: of the picture and the text that are asked with.
        explanation: of the text's explanation by itself; None where there is none or no score depends on it.
    """

    sides: Mapping[Kind, Vector]
    explanation: Vector | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A point that one of the searches found, with its cosines by the side that was asked with."""

    hit: Hit
    cosines: dict[Kind, float] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A payload field; empty where there is none."""
        value = self.hit.payload.get(name)
        return "" if value is None else str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A payload field that holds several; empty where there is none."""
        value = self.hit.payload.get(name)
        return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


class CandidateSearch:
    """Finds the candidates of one kind. Blocks for a few requests; the store's errors pass through."""

    def __init__(self, kind: Kind, query: Query, asked: Asked, index: VectorIndex) -> None:
        self._kind, self._top, self._asked, self._index = kind, query.top, asked, index
        self._where = replace(query.where(), kinds=(kind,))

    def best(self) -> list[Candidate]:
        """Best first, `query.top` at most; asked wider where copies of few contents took the places."""
        limit = self._top if len(self._asked.sides) == 1 else self._top * _POOL
        candidates, is_full = self._search(limit)
        distinct = self._distinct(candidates)
        if is_full and len(distinct) < self._top:
            candidates, _ = self._search(min(limit * _WIDER, _MOST_ASKED))
            distinct = self._distinct(candidates)
        return distinct[: self._top]

    def holders(self, candidates: Sequence[Candidate]) -> Mapping[str, int]:
        """How many points that meet the conditions hold each candidate's content. Content hash -> number."""
        hashes = {candidate.text("content_hash") for candidate in candidates} - {""}
        if not hashes:
            return {}
        where = replace(self._where, content_hashes=tuple(hashes))
        return self._index.facet("content_hash", limit=len(hashes), where=where)

    def vectors(self, candidates: Sequence[Candidate]) -> dict[str, Vector]:
        """Of the points that something must still be compared with. Point id -> [D] float32."""
        with_explanation = self._kind == "image" and self._asked.explanation is not None
        wanted = [
            candidate.hit.id
            for candidate in candidates
            if with_explanation or len(candidate.cosines) < len(self._asked.sides)
        ]
        return {
            point.id: point.vectors[self._kind]
            for start in range(0, len(wanted), _CHUNK)
            for point in self._index.get(wanted[start : start + _CHUNK], with_vectors=True, fields=())
        }

    def _search(self, limit: int) -> tuple[list[Candidate], bool]:
        """The candidates, and whether a search gave as many as it may."""
        sides = list(self._asked.sides)
        answers = self._index.search(
            [
                Search(self._kind, self._asked.sides[side], limit, self._where, fields=_FIELDS)
                for side in sides
            ]
        )
        candidates: dict[str, Candidate] = {}
        worth: dict[str, float] = defaultdict(float)
        for side, hits in zip(sides, answers, strict=True):
            for rank, hit in enumerate(hits, start=1):
                candidates.setdefault(hit.id, Candidate(hit)).cosines[side] = hit.score
                worth[hit.id] += 1 / (_RANK_CONSTANT + rank)
        ordered = sorted(candidates, key=lambda id_: (-worth[id_], id_))
        return [candidates[id_] for id_ in ordered], any(len(hits) >= limit for hits in answers)

    def _distinct(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Each content once, and of a post's text its best window."""
        seen: set[tuple[str, str]] = set()
        kept = []
        for candidate in candidates:
            names = {("content", candidate.text("content_hash") or candidate.hit.id)}
            if self._kind == "text":
                names.add(("post", candidate.text("post_id")))
            if not names & seen:
                kept.append(candidate)
            seen |= names
        return kept

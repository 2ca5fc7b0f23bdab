"""From candidates to hits: scored, with what speaks for them.

A text's pictures and a picture's texts are ordered by the calibrated probability that both are about the
same entity; hits of the query's own kind, for which no calibration exists, by cosine; those of a query of
text and picture as `worker.query.candidates` joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model.calibration import Calibration, PairParts
from model.config import PARTS
from worker.index import VectorIndex
from worker.matching.rules import own_score
from worker.query.candidates import Asked, Candidate, CandidateSearch, Vector
from worker.query.question import Kind, Query

# How texts are compared with a picture one by one: [B] texts to [B, D] unit vectors.
EncodeTexts = Callable[[Sequence[str]], Vector]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a score.

    Args:
        value: None where the pair does not have it, and a typical one stands in.
        contribution: what it adds to the linear score.
    """

    name: str
    value: float | None
    contribution: float


@dataclass(frozen=True, slots=True)
class Found:
    """One hit.

    Args:
        cosine: with the query's side of the other kind, or else with the only one; -1 to 1.
        likeness: cosine with the side of the hit's own kind, where the query has two.
        score: calibrated probability that hit and query are about the same entity, 0 to 1; None where the
            query has no side of the other kind.
        content_hash: of the picture's file, or of the text.
        copies: other points with the same content that meet the same conditions.
        own_score: probability that this picture belongs to a text of its own post, or the text to a picture;
            None where the post has only one kind.
        out_of_context: whether the hit passes the threshold of a match while its own post's pair does not
            belong together.
        parts: of the score.
    """

    kind: Kind
    post_id: str
    image_id: str
    cosine: float
    likeness: float | None
    score: float | None
    text: str
    explanation: str
    entities: tuple[str, ...]
    source: str
    lang: str
    published_at: str
    url: str
    content_hash: str
    copies: int = 0
    own_score: float | None = None
    out_of_context: bool = False
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Scale:
    """How hits are scored.

    Args:
        own_below: least probability that a post's own text and picture belong together.
    """

    calibration: Calibration
    encode_texts: EncodeTexts
    own_below: float = 0.5


def find(query: Query, asked: Asked, index: VectorIndex, scale: Scale) -> tuple[Found, ...]:
    """All hits, pictures first, each kind best first and at most `query.top` of it.

    Raises:
        TransientError, FatalError: as the store's.
    """
    found: list[Found] = []
    for kind in query.kinds:
        hits = _find(kind, query, asked, index, scale)
        if len(asked.sides) == 1:
            hits.sort(key=lambda hit: (-(hit.cosine if hit.score is None else hit.score), -hit.cosine))
        found += hits
    return tuple(found)


def _find(kind: Kind, query: Query, asked: Asked, index: VectorIndex, scale: Scale) -> list[Found]:
    search = CandidateSearch(kind, query, asked, index)
    best = search.best()
    vectors, holders = search.vectors(best), search.holders(best)
    explanations = _with_explanations(kind, best, vectors, asked, scale)
    found = []
    for candidate, explanation in zip(best, explanations, strict=True):
        cosines = _cosines(candidate, vectors.get(candidate.hit.id), asked)
        copies = max(holders.get(candidate.text("content_hash"), 1) - 1, 0)
        found.append(_found(kind, candidate, cosines, explanation, copies, scale))
    return found


def _cosines(candidate: Candidate, vector: Vector | None, asked: Asked) -> dict[Kind, float]:
    """With each side that was asked with, also where only the other side's search found it."""
    if vector is None:
        return candidate.cosines
    return {side: float(asked_with @ vector) for side, asked_with in asked.sides.items()} | candidate.cosines


def _with_explanations(
    kind: Kind, candidates: Sequence[Candidate], vectors: Mapping[str, Vector], asked: Asked, scale: Scale
) -> list[float | None]:
    """Cosine of the pair's picture and its text's explanation by itself, where the score depends on it."""
    if kind == "image":
        mine, rows = asked.explanation, [vectors.get(candidate.hit.id) for candidate in candidates]
        return [None if mine is None or row is None else float(mine @ row) for row in rows]
    picture = asked.sides.get("image")
    texts = [candidate.text("explanation") for candidate in candidates]
    there = list(dict.fromkeys(text for text in texts if text))
    if picture is None or not there or "explanation_similarity" not in scale.calibration.needs:
        return [None] * len(texts)
    cosines = dict(zip(there, (scale.encode_texts(there) @ picture).tolist(), strict=True))
    return [cosines[text] if text and np.isfinite(cosines[text]) else None for text in texts]


def _found(
    kind: Kind,
    candidate: Candidate,
    cosines: Mapping[Kind, float],
    explanation_similarity: float | None,
    copies: int,
    scale: Scale,
) -> Found:
    calibration = scale.calibration
    other: Kind = "text" if kind == "image" else "image"
    pair = PairParts(cosines[other], explanation_similarity) if other in cosines else None
    score = None if pair is None else calibration.score(pair)
    own = own_score(calibration, candidate.hit.payload)
    passes = score is not None and score >= calibration.threshold
    return Found(
        kind=kind,
        post_id=candidate.text("post_id"),
        image_id=candidate.text("image_id"),
        cosine=cosines.get(other, candidate.hit.score),
        likeness=cosines.get(kind) if len(cosines) > 1 else None,
        score=score,
        text=candidate.text("text"),
        explanation=candidate.text("explanation"),
        entities=candidate.texts("entities"),
        source=candidate.text("source"),
        lang=candidate.text("lang"),
        published_at=candidate.text("published_at"),
        url=candidate.text("url"),
        content_hash=candidate.text("content_hash"),
        copies=copies,
        own_score=own,
        out_of_context=passes and own is not None and own < scale.own_below,
        parts=() if pair is None else _parts(calibration, pair),
    )


def _parts(calibration: Calibration, pair: PairParts) -> tuple[Part, ...]:
    values = dict(zip(PARTS, pair, strict=True))
    contributions = calibration.contributions(pair)
    return tuple(Part(name, values[name], added) for name, added in contributions.items())

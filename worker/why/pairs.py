"""What the matcher makes of two posts' texts and pictures, and which rule stands between them.

The rules are the matcher's own: a stored post is matched again, as the store stands now, and a pair that does
not come out of it is held against the rules one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from model.calibration import PairParts
from worker.ids import match_id
from worker.index import Hit, Point, Search, VectorIndex
from worker.matching import Candidate, Matcher, MatchRules, PairEvidence, entities_of
from worker.matching.matcher import out_of_context
from worker.transport.base import Partition, Record
from worker.types import Encoded, Match, Post, Prepared

_RANKED = 1000  # how far down a rank is looked for
_SLACK = 1e-4  # the engine computes cosines in another order than we do
_PARTNER_FIELDS = (
    "post_id",
    "kind",
    "image_id",
    "window",
    "published_at",
    "text",
    "explanation",
    "entities",
    "lang",
    "own_cosine",
    "itm",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A text window and an image, and what the matcher makes of them.

    Args:
        parts: of the score, as far as the rules ask for them.
        score: calibrated probability that both show the same entity, 0 to 1.
        text_own_score, image_own_score, out_of_context: as in `worker.types.Match`.
        text_rank: the image's place among all that the text may be matched with, from 1; None beyond the
            thousandth place, where a rule leaves it out, or where the text is not of a post asked about.
        image_rank: the text's place, likewise.
        rules: that stand between them; none where they match.
    """

    text_post_id: str
    window: int
    image_post_id: str
    image_id: str
    parts: PairParts
    score: float
    text_own_score: float | None
    image_own_score: float | None
    out_of_context: tuple[str, ...]
    text_rank: int | None
    image_rank: int | None
    rules: tuple[str, ...]

    @property
    def cosine(self) -> float:
        return self.parts.cosine

    @property
    def matches(self) -> bool:
        return not self.rules


@dataclass(slots=True)
class _Judge:
    """Holds pairs against the rules. Keeps what the matcher said, so that each post is matched once.

    Args:
        both_sides: both posts of a pair are matched; otherwise only the one that was asked about.
    """

    index: VectorIndex
    rules: MatchRules
    evidence: PairEvidence
    both_sides: bool
    found: dict[str, Match] = field(default_factory=dict)

    def match(self, posts: Sequence[Sequence[Point]]) -> None:
        """Match these posts as the pipeline would now."""
        matcher = Matcher(self.index.search, self.rules, evidence=self.evidence)
        for matches in matcher.match([_encoded(points) for points in posts if points]):
            self.found |= {match.match_id: match for match in matches}

    def pair(self, text: Point, image: Point, cosine: float, ranks: tuple[int | None, int | None]) -> Pair:
        """The pair with every rule that stands between the two."""
        candidate = Candidate(text, image, cosine)
        (parts,) = self.evidence([candidate])
        score = self.rules.calibration.score(parts)
        is_match = match_id(text.id, image.id, self.rules.model_id) in self.found
        return Pair(
            text_post_id=str(text.payload["post_id"]),
            window=int(part(text)),
            image_post_id=str(image.payload["post_id"]),
            image_id=part(image),
            parts=parts,
            score=score,
            text_own_score=self.rules.own_score(text.payload),
            image_own_score=self.rules.own_score(image.payload),
            out_of_context=out_of_context(candidate, self.rules) if is_match else (),
            text_rank=ranks[0],
            image_rank=ranks[1],
            rules=() if is_match else tuple(self._between(text, image, score, ranks)),
        )

    def _between(
        self, text: Point, image: Point, score: float, ranks: tuple[int | None, int | None]
    ) -> list[str]:
        rules = []
        if text.payload["post_id"] == image.payload["post_id"] and not self.rules.same_post:
            rules.append("same post")
        if score < self.rules.calibration.threshold:
            rules.append("below the threshold")
        if not self._is_within_window(text, image):
            rules.append("outside the date window")
        if self.rules.same_lang and _lang(text) != _lang(image):
            rules.append("another language")
        if self.rules.share_entity and not set(entities_of(text.payload)) & set(entities_of(image.payload)):
            rules.append("no entity in common")
        return rules or [self._crowded_out(text, image, ranks)]

    def _crowded_out(self, text: Point, image: Point, ranks: tuple[int | None, int | None]) -> str:
        others = [match for match in self.found.values() if _same_but_window(match, text, image)]
        if others:
            return f"window {others[0].window} of the text is nearer"
        if all(rank is None or rank > self.rules.top_k for rank in ranks):
            rule = f"beyond top_k {self.rules.top_k}"
        else:
            rule = f"beyond max_matches {self.rules.max_matches}"
        return rule if self.both_sides else f"{rule} from this side"

    def _is_within_window(self, text: Point, image: Point) -> bool:
        if self.rules.window is None:
            return True
        first, second = _date(text), _date(image)
        if first is None or second is None:
            return first is second
        return abs(first - second) <= self.rules.window

    def rank(self, point: Point, other: Point, cosine: float) -> int | None:
        """The place of `other` among all that the matcher lets `point` be matched with."""
        hits: list[Hit] = []

        def search(requests: Sequence[Search]) -> list[list[Hit]]:
            wide = [
                replace(r, limit=_RANKED, score_threshold=cosine - _SLACK, fields=("post_id",))
                for r in requests
            ]
            hits.extend(self.index.search(wide)[0])
            return [[] for _ in requests]

        Matcher(search, self.rules).match([_encoded([point])])
        ids = [hit.id for hit in hits]
        return ids.index(other.id) + 1 if other.id in ids else None


def pairs_between(
    index: VectorIndex,
    rules: MatchRules,
    evidence: PairEvidence,
    first: Sequence[Point],
    second: Sequence[Point],
) -> tuple[Pair, ...]:
    """Every pair of a text of the one and an image of the other post, nearest first."""
    judge = _Judge(index, rules, evidence, both_sides=True)
    judge.match([first, second])
    pairs = []
    for texts, images in ((first, second), (second, first)):
        for text in filter(is_text, texts):
            for image in (point for point in images if not is_text(point)):
                cosine = float(np.dot(text.vectors["text"], image.vectors["image"]))
                ranks = judge.rank(text, image, cosine), judge.rank(image, text, cosine)
                pairs.append(judge.pair(text, image, cosine, ranks))
    return tuple(sorted(pairs, key=lambda pair: -pair.cosine))


def partners_of(
    index: VectorIndex, rules: MatchRules, evidence: PairEvidence, points: Sequence[Point], top: int
) -> tuple[Pair, ...]:
    """For each point its nearest of the other kind, whatever the rules say of them."""
    judge = _Judge(index, rules, evidence, both_sides=False)
    judge.match([points])
    requests = [
        Search(
            using="image" if is_text(point) else "text",
            vector=point.vectors["text" if is_text(point) else "image"],
            limit=top,
            fields=_PARTNER_FIELDS,
        )
        for point in points
    ]
    pairs: dict[tuple[str, str], Pair] = {}
    for point, hits in zip(points, index.search(requests), strict=True):
        for hit in hits:
            other = Point(hit.id, {}, hit.payload)
            text, image = (point, other) if is_text(point) else (other, point)
            own = judge.rank(point, other, hit.score)
            ranks = (own, None) if is_text(point) else (None, own)
            pairs.setdefault((text.id, image.id), judge.pair(text, image, hit.score, ranks))
    return tuple(sorted(pairs.values(), key=lambda pair: -pair.cosine))


def _encoded(points: Sequence[Point]) -> Encoded:
    """A stored post as the matcher takes it: of the post it reads what the rules are about."""
    payload = points[0].payload
    post = Post(
        str(payload["post_id"]),
        published_at=_date(points[0]),
        lang=_lang(points[0]),
        entities=entities_of(payload),
    )
    record = Record(Partition("", 0), 0, None, None)
    return Encoded(Prepared(record, post, (), ()), tuple(points))


def _same_but_window(match: Match, text: Point, image: Point) -> bool:
    return (match.text_post_id, match.image_post_id, match.image_id) == (
        text.payload["post_id"],
        image.payload["post_id"],
        part(image),
    )


def is_text(point: Point) -> bool:
    return point.payload.get("kind") == "text"


def part(point: Point) -> str:
    return str(point.payload.get("window" if is_text(point) else "image_id", ""))


def _lang(point: Point) -> str | None:
    lang = point.payload.get("lang")
    return None if lang is None else str(lang)


def _date(point: Point) -> datetime | None:
    value = point.payload.get("published_at")
    return None if value is None else datetime.fromisoformat(str(value))

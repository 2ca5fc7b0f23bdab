"""From a post's nearest neighbours to its matches.

For each text point the nearest `image` vectors, for each image point the nearest `text` vectors. Both
sides of a pair are stored before either searches, so at least one of two posts sees the other. Every
condition is symmetric in the pair; only `top_k` and `max_matches` can hide a pair from one side, or,
among very many candidates, from both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from model.calibration import PairParts, sigmoid
from worker.ids import match_id
from worker.index import Hit, Point, Search
from worker.matching.crowding import Found, search_widely
from worker.matching.evidence import Candidate, entities_of, free_parts
from worker.matching.rivals import Side, nearest_rival
from worker.matching.rules import MatchRules
from worker.matching.select import best_windows, copies_last, is_whole, published_at
from worker.types import Direction, Encoded, Match

# The engine computes cosines in another order than we do: ask for a little more, decide here.
_COSINE_SLACK = 1e-4
# What a match is made of. A post's unknown fields may be a megabyte: thousands of hits must not carry them.
_FIELDS = (
    "post_id",
    "image_id",
    "window",
    "text",
    "explanation",
    "entities",
    "lang",
    "published_at",
    "content_hash",
    "own_cosine",
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One point's search; `post` is its place among the posts."""

    post: int
    point: Point
    search: Search


class Matcher:
    """Finds matches. Keeps nothing between calls; blocks only in `search` and `evidence`.

    Args:
        search: `VectorIndex.search`, whose errors pass through.
        evidence: the parts of candidates' scores, such as a `PairEvidence`; by default those that need
            neither model nor store.
        now: the time that matches are stamped with.
    """

    def __init__(
        self,
        search: Callable[[Sequence[Search]], list[list[Hit]]],
        rules: MatchRules,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        evidence: Callable[[Sequence[Candidate]], list[PairParts]] = free_parts,
    ) -> None:
        self._search = search
        self._rules = rules
        self._now = now
        self._evidence = evidence

    def match(self, posts: Sequence[Encoded]) -> list[tuple[Match, ...]]:
        """The matches of each post, best first, in the order of the posts."""
        asked = [each for place, post in enumerate(posts) for each in self._requests(place, post)]
        answers = search_widely(self._search, [each.search for each in asked], self._rules.max_matches)
        candidates = [
            [
                _candidate(each.point, hit, answer)
                for hit in answer.hits
                if is_whole(hit.payload, each.search.using)
            ]
            for each, answer in zip(asked, answers, strict=True)
        ]
        parts = iter(self._evidence([candidate for those in candidates for candidate in those]))
        found: list[list[Match]] = [[] for _ in posts]
        for each, those in zip(asked, candidates, strict=True):
            found[each.post] += self._ranked(each.point, [(one, next(parts)) for one in those])
        return [self._select(matches) for matches in found]

    def _requests(self, place: int, post: Encoded) -> list[_Asked]:
        """The searches for the partners of a post's points."""
        where = self._rules.partners(post.prepared.post)
        if where is None:
            return []
        least = None if self._rules.asks_margin else self._rules.calibration.least_cosine()
        return [
            _Asked(
                place,
                point,
                Search(
                    using="image" if _is_text(point) else "text",
                    vector=point.vectors["text" if _is_text(point) else "image"],
                    limit=self._rules.top_k,
                    where=where,
                    score_threshold=None if least is None else least - _COSINE_SLACK,
                    fields=(*_FIELDS, "itm") if self._rules.asks_head else _FIELDS,
                ),
            )
            for point in post.points
        ]

    def _ranked(self, point: Point, found: Sequence[tuple[Candidate, PairParts]]) -> list[Match]:
        """The candidates of one search that are matches, best first, ranked."""
        direction = Direction.TEXT_TO_IMAGE if _is_text(point) else Direction.IMAGE_TO_TEXT
        calibration = self._rules.calibration
        scored = [(candidate, parts, calibration.score(parts)) for candidate, parts in found]
        passed = [self._match(direction, *one) for one in scored if one[-1] >= calibration.threshold]
        best = copies_last(best_windows(passed, rerank=self._rules.rerank))
        return [replace(match, rank=rank) for rank, match in enumerate(best, start=1)]

    def _match(self, direction: Direction, candidate: Candidate, parts: PairParts, score: float) -> Match:
        text, image, rules = candidate.text.payload, candidate.image.payload, self._rules
        text_own, image_own = rules.own_score(text), rules.own_score(image)
        return Match(
            match_id=match_id(candidate.text.id, candidate.image.id, rules.model_id),
            text_post_id=str(text["post_id"]),
            image_post_id=str(image["post_id"]),
            image_id=str(image["image_id"]),
            window=int(str(text["window"])),
            same_post=text["post_id"] == image["post_id"],
            direction=direction,
            cosine=parts.cosine,
            score=score,
            rank=0,
            text=str(text["text"]),
            explanation=str(text.get("explanation") or ""),
            entities=entities_of(text) or entities_of(image),
            model_id=rules.model_id,
            matched_at=self._now(),
            text_published_at=published_at(text),
            image_published_at=published_at(image),
            image_hash=str(image["content_hash"]),
            margin=parts.margin,
            itm_probability=None if parts.itm is None else sigmoid(parts.itm),
            explanation_similarity=parts.explanation_similarity,
            entity_overlap=parts.entity_overlap,
            text_own_score=text_own,
            image_own_score=image_own,
            out_of_context=out_of_context(candidate, rules),
        )

    def _select(self, matches: Sequence[Match]) -> tuple[Match, ...]:
        """The best of all the post's searches together: each pair of post and image once."""
        rerank = self._rules.rerank
        chosen = copies_last(best_windows(matches, rerank=rerank))[: self._rules.max_matches]
        return tuple(best_windows(chosen, rerank=rerank))


def out_of_context(candidate: Candidate, rules: MatchRules) -> tuple[str, ...]:
    """Those of the two posts whose own text and picture do not belong together, if the pair is a match."""
    sides = (candidate.text.payload, candidate.image.payload)
    if sides[0]["post_id"] == sides[1]["post_id"]:
        return ()
    own = [(str(side["post_id"]), rules.own_score(side)) for side in sides]
    return tuple(post for post, score in own if score is not None and score < rules.own_below)


def _candidate(point: Point, hit: Hit, found: Found) -> Candidate:
    other = Point(hit.id, {}, hit.payload)
    side: Side = "text" if _is_text(point) else "image"
    rivals = {side: nearest_rival(point, other, found.hits, found.limit)}
    return Candidate(*((point, other) if side == "text" else (other, point)), hit.score, rivals)


def _is_text(point: Point) -> bool:
    return "text" in point.vectors

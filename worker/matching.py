"""From a post's nearest neighbours to its matches.

For each text point the nearest `image` vectors, for each image point the nearest `text` vectors. Both
sides of a pair are stored before either searches, so at least one of two posts sees the other. Every
condition is symmetric in the pair; only `top_k` and `max_matches` can hide a pair from one side, or,
among very many candidates, from both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from model.calibration import Calibration, PairParts
from model.config import MatchingConfig
from worker.ids import match_id
from worker.index import Hit, Point, Search, Where
from worker.sections import MatchConfig
from worker.types import Direction, Encoded, Match

# The engine computes cosines in another order than we do: ask for a little more, decide here.
_COSINE_SLACK = 1e-4
_WIDER = 10
# What a match is made of. A post's unknown fields may be a megabyte: thousands of hits must not carry them.
_FIELDS = (
    "post_id",
    "image_id",
    "window",
    "text",
    "explanation",
    "entities",
    "published_at",
    "content_hash",
)


@dataclass(frozen=True, slots=True)
class MatchRules:
    """What may be matched, and how much of it.

    Args:
        top_k: hits a search asks for.
        max_matches: a post, at most.
        window: largest distance between two posts' dates, None for any. With a window, a post without
            a date is matched only with others without one.
        same_post: whether a post's own text and images match each other.
    """

    calibration: Calibration
    model_id: str
    top_k: int = 20
    max_matches: int = 10
    window: timedelta | None = None
    same_post: bool = False


def match_rules(match: MatchConfig, fitted: MatchingConfig, model_id: str) -> MatchRules:
    """The rules as configured.

    Args:
        fitted: the checkpoint's; its threshold holds where none is configured.
    """
    return MatchRules(
        Calibration.of(fitted, match.threshold),
        model_id,
        top_k=match.top_k,
        max_matches=match.max_matches,
        window=None if match.window_days is None else timedelta(days=match.window_days),
        same_post=match.same_post,
    )


class Matcher:
    """Finds matches. Keeps nothing between calls; blocks only in `search`.

    Args:
        search: `VectorIndex.search`, whose errors pass through.
        now: the time that matches are stamped with.
    """

    def __init__(
        self,
        search: Callable[[Sequence[Search]], list[list[Hit]]],
        rules: MatchRules,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._search = search
        self._rules = rules
        self._now = now

    def match(self, posts: Sequence[Encoded]) -> list[tuple[Match, ...]]:
        """The matches of each post, best first, in the order of the posts."""
        asked = [(place, point) for place, post in enumerate(posts) for point in post.points]
        requests = [self.request(posts[place], point) for place, point in asked]
        answers = self._widened(requests, self._search(requests)) if requests else []
        found: dict[int, list[Match]] = defaultdict(list)
        for (place, point), hits in zip(asked, answers, strict=True):
            found[place] += self._pairs(posts[place], point, hits)
        return [self._select(found[place]) for place in range(len(posts))]

    def request(self, post: Encoded, point: Point) -> Search:
        """The search for the partners of one point of a post."""
        own = post.prepared.post
        where = Where(exclude_post=None if self._rules.same_post else own.id)
        if self._rules.window is not None and own.published_at is None:
            where = replace(where, undated=True)  # the dated ones do not see it either
        elif self._rules.window is not None and own.published_at is not None:
            where = replace(
                where,
                published_from=_shifted(own.published_at, -self._rules.window),
                published_to=_shifted(own.published_at, self._rules.window),
            )
        return Search(
            using="image" if _is_text(point) else "text",
            vector=point.vectors["text" if _is_text(point) else "image"],
            limit=self._rules.top_k,
            where=where,
            score_threshold=self._least_cosine(),
            fields=_FIELDS,
        )

    def _least_cosine(self) -> float | None:
        least = self._rules.calibration.least_cosine()
        return None if least is None else least - _COSINE_SLACK

    def _widened(self, requests: Sequence[Search], answers: list[list[Hit]]) -> list[list[Hit]]:
        """Ask once more, and wider, where copies of few contents took all the places."""
        crowded = [
            place
            for place, hits in enumerate(answers)
            if len(hits) >= self._rules.top_k
            and len({_content(hit) for hit in hits}) < min(self._rules.max_matches, len(hits))
        ]
        if crowded:
            wider = [replace(requests[place], limit=self._rules.top_k * _WIDER) for place in crowded]
            for place, hits in zip(crowded, self._search(wider), strict=True):
                answers[place] = hits
        return answers

    def _pairs(self, post: Encoded, point: Point, hits: Sequence[Hit]) -> list[Match]:
        """The hits of one search that are matches, best first, ranked."""
        matches = [self._match(post, point, hit) for hit in hits]
        best = _best_windows([match for match in matches if match.score >= self._rules.calibration.threshold])
        return [replace(match, rank=rank) for rank, match in enumerate(_copies_last(best), start=1)]

    def _match(self, post: Encoded, point: Point, hit: Hit) -> Match:
        own, other = _Side(point.id, point.payload), _Side(hit.id, hit.payload)
        text, image = (own, other) if _is_text(point) else (other, own)
        parts = PairParts(hit.score, entity_overlap=_overlap(text.entities(), image.entities()))
        calibration = self._rules.calibration
        return Match(
            match_id=match_id(text.point_id, image.point_id, self._rules.model_id),
            text_post_id=str(text.payload["post_id"]),
            image_post_id=str(image.payload["post_id"]),
            image_id=str(image.payload["image_id"]),
            window=int(str(text.payload["window"])),
            same_post=text.payload["post_id"] == image.payload["post_id"],
            direction=Direction.TEXT_TO_IMAGE if _is_text(point) else Direction.IMAGE_TO_TEXT,
            cosine=hit.score,
            score=calibration.score(parts),
            rank=0,
            text=str(text.payload["text"]),
            explanation=str(text.payload.get("explanation") or ""),
            entities=text.entities() or image.entities(),
            model_id=self._rules.model_id,
            matched_at=self._now(),
            text_published_at=text.published_at(),
            image_published_at=image.published_at(),
            image_hash=str(image.payload["content_hash"]),
            entity_overlap=parts.entity_overlap,
        )

    def _select(self, matches: Sequence[Match]) -> tuple[Match, ...]:
        """The best of all the post's searches together: each pair of post and image once."""
        best = _copies_last(_best_windows(matches))[: self._rules.max_matches]
        return tuple(sorted(best, key=lambda match: (-match.score, match.match_id)))


@dataclass(frozen=True, slots=True)
class _Side:
    """One point of a pair."""

    point_id: str
    payload: Mapping[str, object]

    def entities(self) -> tuple[str, ...]:
        values = self.payload.get("entities")
        return tuple(map(str, values)) if isinstance(values, list | tuple) else ()

    def published_at(self) -> datetime | None:
        value = self.payload.get("published_at")
        return value if value is None or isinstance(value, datetime) else datetime.fromisoformat(str(value))


def _overlap(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Jaccard of two lists of names, whatever their case; None where one is empty."""
    a, b = ({" ".join(name.split()).casefold() for name in names} for names in (one, other))
    return len(a & b) / len(a | b) if a and b else None


def _is_text(point: Point) -> bool:
    return "text" in point.vectors


def _content(hit: Hit) -> str:
    return str(hit.payload.get("content_hash", hit.id))


def _best_windows(matches: Sequence[Match]) -> list[Match]:
    """Of several windows of one text with the same image, the best; best pair first."""
    ordered = sorted(matches, key=lambda match: (-match.score, -match.cosine, match.match_id))
    pairs: dict[tuple[str, str, str], Match] = {}
    for match in ordered:
        pairs.setdefault((match.text_post_id, match.image_post_id, match.image_id), match)
    return list(pairs.values())


def _copies_last(matches: Sequence[Match]) -> list[Match]:
    """First each content once, then its copies: the same picture in 30 posts must not fill the list."""
    seen: set[tuple[str, str]] = set()
    firsts: list[Match] = []
    copies: list[Match] = []
    for match in matches:
        content = (match.image_hash, match.text)
        (copies if content in seen else firsts).append(match)
        seen.add(content)
    return firsts + copies


def _shifted(moment: datetime, by: timedelta) -> datetime:
    try:
        return moment + by
    except OverflowError:
        return (datetime.min if by < timedelta(0) else datetime.max).replace(tzinfo=UTC)

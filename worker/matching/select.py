"""Which of a post's matches are kept, and in what order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from worker.index import VectorName
from worker.types import Match

_NEEDED: Mapping[VectorName, Mapping[str, type]] = {
    "image": {"post_id": str, "image_id": str, "content_hash": str},
    "text": {"post_id": str, "window": int, "text": str},
}


def is_whole(payload: Mapping[str, object], kind: VectorName) -> bool:
    """Whether a hit holds what a match is made of; whoever else writes to the collection may leave it out."""
    if not all(isinstance(payload.get(name), type_) for name, type_ in _NEEDED[kind].items()):
        return False
    try:
        date = published_at(payload)
    except ValueError:
        return False
    return date is None or date.tzinfo is not None


def published_at(payload: Mapping[str, object]) -> datetime | None:
    """The post's date.

    Raises:
        ValueError: it is none.
    """
    value = payload.get("published_at")
    return value if value is None or isinstance(value, datetime) else datetime.fromisoformat(str(value))


def by_merit(match: Match) -> tuple[float, float, float, str]:
    """Best first: by the matching head where it was asked to order, else by the score.

    A match whose picture was stored without the head's scalars comes behind those with them.
    """
    head = 0.0 if match.itm_probability is None else -1 - match.itm_probability
    return head, -match.score, -match.cosine, match.match_id


def best_windows(matches: Sequence[Match], *, rerank: bool = False) -> list[Match]:
    """Of several windows of one text with the same image, the best; best pair first."""
    pairs: dict[tuple[str, str, str], Match] = {}
    for match in sorted(matches, key=by_merit if rerank else _by_score):
        pairs.setdefault((match.text_post_id, match.image_post_id, match.image_id), match)
    return list(pairs.values())


def copies_last(matches: Sequence[Match]) -> list[Match]:
    """First each content once, then its copies: the same picture in 30 posts must not fill the list."""
    seen: set[tuple[str, str]] = set()
    firsts: list[Match] = []
    copies: list[Match] = []
    for match in matches:
        content = (match.image_hash, match.text)
        (copies if content in seen else firsts).append(match)
        seen.add(content)
    return firsts + copies


def _by_score(match: Match) -> tuple[float, float, str]:
    return -match.score, -match.cosine, match.match_id

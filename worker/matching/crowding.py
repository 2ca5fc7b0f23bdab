"""Searches that copies must not fill: the same picture in 30 posts is one content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from worker.index import Hit, Search

_WIDER = 10


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, best first, and how many it could have been."""

    hits: Sequence[Hit]
    limit: int


def search_widely(
    search: Callable[[Sequence[Search]], list[list[Hit]]], requests: Sequence[Search], wanted: int
) -> list[Found]:
    """Ask, and once more and wider where copies of few contents took all the places.

    Args:
        search: blocks, and its errors pass through.
        wanted: contents that are enough.
    """
    if not requests:
        return []
    asked = list(requests)
    answers = search(asked)
    crowded = [place for place, hits in enumerate(answers) if _is_crowded(hits, asked[place].limit, wanted)]
    if crowded:
        for place in crowded:
            asked[place] = replace(asked[place], limit=asked[place].limit * _WIDER)
        for place, hits in zip(crowded, search([asked[place] for place in crowded]), strict=True):
            answers[place] = hits
    return [Found(hits, request.limit) for request, hits in zip(asked, answers, strict=True)]


def _is_crowded(hits: Sequence[Hit], limit: int, wanted: int) -> bool:
    contents = {str(hit.payload.get("content_hash", hit.id)) for hit in hits}
    return len(hits) >= limit and len(contents) < min(wanted, len(hits))

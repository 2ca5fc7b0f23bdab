"""Match: each stored post against everything in the store."""

from __future__ import annotations

from collections.abc import Sequence

from worker.matching import Matcher
from worker.types import Encoded, Matched, Outcome, Unmatched

STAGE = "match"


class Match:
    """The step of the match stage. One thread only; blocks as long as the store's timeout."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher

    def __call__(self, posts: Sequence[Encoded]) -> list[Outcome]:
        """The outcome of each post."""
        found = self._matcher.match(posts)
        return [
            Matched(post.prepared.record, post.prepared.post.id, matches, len(post.points))
            if matches
            else Unmatched(post.prepared.record, post.prepared.post.id, len(post.points))
            for post, matches in zip(posts, found, strict=True)
        ]

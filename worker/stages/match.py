"""Match: each stored post against everything in the store."""

from __future__ import annotations

from collections.abc import Sequence

from worker import types
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
        return [_outcome(post, matches) for post, matches in zip(posts, found, strict=True)]


def _outcome(post: Encoded, matches: tuple[types.Match, ...]) -> Outcome:
    prepared = post.prepared
    record, post_id, published_at = prepared.record, prepared.post.id, prepared.post.published_at
    status = prepared.explanation.status
    if matches:
        return Matched(record, post_id, matches, len(post.points), status, published_at)
    return Unmatched(record, post_id, len(post.points), status, published_at)

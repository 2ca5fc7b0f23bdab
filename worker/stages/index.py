"""Index: a post's points into the store, in place of those it had; take-downs out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from worker.errors import InvalidPost
from worker.index import Point
from worker.stages.bisect import bisected
from worker.transport.base import Record
from worker.types import DeadLettered, Dropped, Encoded, TakeDown, Unmatched

STAGE = "index"


class PointStore(Protocol):
    """What the stage needs of `worker.index.VectorIndex`."""

    def upsert(self, points: Sequence[Point]) -> None:
        """Store points durably; InvalidPost where one is refused."""

    def delete_post(self, post_id: str) -> None:
        """Delete a post's points durably."""

    def delete_stale(self, post_ids: Sequence[str], current: Sequence[str]) -> None:
        """Delete those points of the posts durably that are not among the current ones."""


class Index:
    """The step of the index stage. One thread only; blocks as long as the store's timeout.

    Repeating it does no harm, so a TransientError may be answered by calling it again. Each call asks anew
    whether a record is still ours: by now another worker may have stored a newer version of the post.

    Args:
        check_served: raises where readers do not look into this store any more; asked after each batch, so
            that nothing is acknowledged that stands in it alone.
    """

    def __init__(
        self,
        store: PointStore,
        is_ours: Callable[[Record], bool],
        check_served: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._is_ours = is_ours
        self._check_served = check_served

    def __call__(
        self, items: Sequence[Encoded | TakeDown]
    ) -> list[Encoded | Unmatched | DeadLettered | Dropped]:
        """Bring the store to what each item says."""
        ours = [self._is_ours(_record(item)) for item in items]
        posts = [item for item, own in zip(items, ours, strict=True) if own and isinstance(item, Encoded)]
        stored = iter(bisected(posts, self._replace, InvalidPost, self._refuse))
        results: list[Encoded | Unmatched | DeadLettered | Dropped] = []
        for item, own in zip(items, ours, strict=True):
            if not own:
                results.append(Dropped(_record(item)))
            else:
                results.append(next(stored) if isinstance(item, Encoded) else self._take_down(item))
        self._check_served()
        return results

    def _replace(self, posts: Sequence[Encoded]) -> list[Encoded | Unmatched | DeadLettered]:
        points = [point for post in posts for point in post.points]
        self._store.upsert(points)
        # Afterwards, so that no search misses a post while it is replaced.
        self._store.delete_stale([post.prepared.post.id for post in posts], [point.id for point in points])
        return [
            post if post.points else Unmatched(post.prepared.record, post.prepared.post.id, 0)
            for post in posts
        ]

    def _refuse(self, post: Encoded, error: InvalidPost) -> Encoded | Unmatched | DeadLettered:
        self._store.delete_post(post.prepared.post.id)  # some of its points may be stored
        return DeadLettered(post.prepared.record, error.reason, error.detail, STAGE)

    def _take_down(self, item: TakeDown) -> Unmatched:
        self._store.delete_post(item.post_id)
        return Unmatched(item.record, item.post_id, 0, taken_down=True)


def _record(item: Encoded | TakeDown) -> Record:
    return item.prepared.record if isinstance(item, Encoded) else item.record

"""Two models at once, while one takes the other's place: both collections are written, one is searched.

    Prepared ─► DualEncode ─► Encoded (points, next_points) ─► DualIndex ─► DualMatch

The collection that the alias names is written first. A backfill copies from that one to the other,
inserts only, and afterwards looks whether the point still stands where it was read: what a worker deletes
from the first before the second is therefore gone from both, whichever of the two was quicker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import structlog

from worker.errors import FatalError, Reason
from worker.index import Where, alias_target
from worker.stages.index import Index, PointStore
from worker.store.client import Store
from worker.transport.base import Record
from worker.types import DeadLettered, Dropped, Encoded, Outcome, Prepared, TakeDown, Unmatched
from worker.upkeep.retention import AgingPoints

Side = Literal[0, 1]  # of `model` and of `next_model`
IndexResult = Encoded | Unmatched | DeadLettered | Dropped
EncodeStep = Callable[[Sequence[Prepared]], Sequence[Encoded | DeadLettered]]
MatchStep = Callable[[Sequence[Encoded]], Sequence[Outcome]]

log = structlog.stdlib.get_logger("worker.stages.dual")


class ServedSide:
    """Which of two collections the alias names; one request to the store a call.

    Args:
        collections: of `model` and of `next_model`.
    """

    def __init__(self, store: Store, alias: str, collections: tuple[str, str]) -> None:
        self._store, self._alias, self._collections = store, alias, collections

    def __call__(self) -> Side:
        """0 or 1.

        Raises:
            FatalError: neither of the two.
            TransientError: the store is away.
        """
        target = alias_target(self._store, self._alias)
        if target not in self._collections:
            raise FatalError(
                f"the alias {self._alias!r} of the store at {self._store.target} points at {target!r}, "
                f"and this worker writes {' and '.join(self._collections)}: "
                "start it with the model that is served"
            )
        return 0 if target == self._collections[0] else 1


class DualEncode:
    """The step of the encode stage with two models, one after the other on the one thread.

    A post that `model` refuses is a dead letter. One that `next_model` alone refuses goes on without vectors
    of that model: as long as it is not served it must not cost a post, and `DualIndex` knows whether it is.
    """

    def __init__(self, encode: EncodeStep, encode_next: EncodeStep) -> None:
        self._encode = encode
        self._encode_next = encode_next

    def __call__(self, posts: Sequence[Prepared]) -> list[Encoded | DeadLettered]:
        """Encode each post, or refuse it; raises what the two steps raise."""
        results = list(self._encode(posts))
        encoded = [result.prepared for result in results if isinstance(result, Encoded)]
        beside = iter(self._encode_next([_for_next(post) for post in encoded]))
        return [_with_next(item, next(beside)) if isinstance(item, Encoded) else item for item in results]


class DualIndex:
    """The step of the index stage with two collections. One thread only; blocks as long as the store does.

    Repeating it does no harm. Where the alias moved while a batch was written, the batch is written again
    in the order that now holds. A post that cannot stand in the served collection is a dead letter and
    stands in neither; one that only the other collection or its model refuses is left out there.

    Args:
        stores: of `model` and of `next_model`.
        served: which of the two the alias names.
    """

    def __init__(
        self,
        stores: tuple[PointStore, PointStore],
        served: Callable[[], Side],
        is_ours: Callable[[Record], bool],
    ) -> None:
        self._steps = Index(stores[0], is_ours), Index(stores[1], is_ours)
        self._served = served

    def __call__(self, items: Sequence[Encoded | TakeDown]) -> list[IndexResult]:
        """Bring both collections to what each item says."""
        first = self._served()
        while True:
            results = self._write(items, first)
            now = self._served()
            if now == first:
                return results
            first = now

    def _write(self, items: Sequence[Encoded | TakeDown], first: Side) -> list[IndexResult]:
        second = _other(first)
        results = self._steps[first]([_of_side(item, first) for item in items])
        results = [_served_result(*row, first) for row in zip(items, results, strict=True)]
        beside = self._steps[second]([_of_side(item, second) for item in items])
        for result, item in zip(results, items, strict=True):
            if isinstance(result, DeadLettered):  # a dead letter stands in neither collection
                self._steps[second]([TakeDown(result.record, _post_id(item))])
        return [_merged(*row, second) for row in zip(items, results, beside, strict=True)]


class DualMatch:
    """The step of the match stage with two models: the one whose collection the alias names searches.

    The alias is asked once a batch, so no batch mixes models and a cutover holds from the next batch on.
    """

    def __init__(self, steps: tuple[MatchStep, MatchStep], served: Callable[[], Side]) -> None:
        self._steps = steps
        self._served = served

    def __call__(self, posts: Sequence[Encoded]) -> list[Outcome]:
        """The outcome of each post."""
        side = self._served()
        return list(self._steps[side]([_encoded_of(post, side) for post in posts]))


class BothCollections:
    """What retention needs of two indexes, as one: what is too old goes from both in one sweep.

    Args:
        indexes: of `model` and of `next_model`.
        served: which of the two the alias names; asked on retention's thread.
    """

    def __init__(self, indexes: tuple[AgingPoints, AgingPoints], served: Callable[[], Side]) -> None:
        self._indexes, self._served = indexes, served

    def count(self, kind: str | None = None, *, where: Where | None = None) -> int:
        """How many points there are, in both together."""
        return sum(index.count(kind, where=where) for index in self._indexes)

    def delete(self, where: Where) -> None:
        """Delete the points that match, from both, from the served one first."""
        first = self._served()
        for side in (first, _other(first)):
            self._indexes[side].delete(where)


def _for_next(post: Prepared) -> Prepared:
    """The post as the next model takes it."""
    images = tuple(
        image if image.next_pixels is None else replace(image, pixels=image.next_pixels)
        for image in post.images
    )
    return replace(post, images=images)


def _with_next(post: Encoded, beside: Encoded | DeadLettered) -> Encoded:
    if isinstance(beside, DeadLettered):
        log.warning("stored without the next model", post=post.prepared.post.id, detail=beside.detail)
        return post
    # One time for both: by it a backfill tells whether the two stand for the same version of the post.
    stored_at = {point.id: point.payload.get("indexed_at") for point in post.points}
    points = [
        replace(point, payload={**point.payload, "indexed_at": stored_at[point.id]})
        for point in beside.points
    ]
    return replace(post, next_points=tuple(points))


def _encoded_of(post: Encoded, side: Side) -> Encoded:
    return post if side == 0 else replace(post, points=post.next_points)


def _of_side(item: Encoded | TakeDown, side: Side) -> Encoded | TakeDown:
    return _encoded_of(item, side) if isinstance(item, Encoded) else item


def _other(side: Side) -> Side:
    return 1 if side == 0 else 0


def _post_id(item: Encoded | TakeDown) -> str:
    return item.prepared.post.id if isinstance(item, Encoded) else item.post_id


def _served_result(item: Encoded | TakeDown, result: IndexResult, side: Side) -> IndexResult:
    """What the served collection says of an item, which for lack of vectors is no good outcome."""
    if isinstance(item, Encoded) and isinstance(result, Unmatched) and not _encoded_of(item, side).points:
        return DeadLettered(
            item.prepared.record, Reason.ENCODING_FAILED, "the served model gave no vector", "encode"
        )
    return result


def _merged(item: Encoded | TakeDown, result: IndexResult, beside: IndexResult, second: Side) -> IndexResult:
    """One result of those of the served collection and of the other one."""
    if isinstance(result, Dropped) or isinstance(beside, Dropped):
        return Dropped(item.prepared.record if isinstance(item, Encoded) else item.record)
    if not isinstance(item, Encoded) or not isinstance(result, Encoded):
        return result
    if isinstance(beside, DeadLettered):
        log.warning("stored in one collection", post=item.prepared.post.id, detail=beside.detail)
        return replace(item, next_points=()) if second == 1 else replace(item, points=())
    return item

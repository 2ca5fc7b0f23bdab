"""The stages of a worker that writes two models' collections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.fakes import prepared, record
from worker.errors import InvalidPost, Reason
from worker.index import Point, Where
from worker.stages.dual import BothCollections, DualEncode, DualIndex, DualMatch, Side
from worker.types import DeadLettered, Dropped, Encoded, Outcome, Prepared, TakeDown, Unmatched


class Shelf:
    """A collection in memory that logs what is done to it in a journal that others share."""

    def __init__(self, name: str, journal: list[str], refused: str = "") -> None:
        self.name, self.journal, self.refused = name, journal, refused
        self.points: dict[str, Point] = {}

    def upsert(self, points: Sequence[Point]) -> None:
        if any(point.payload["post_id"] == self.refused for point in points):
            raise InvalidPost(Reason.STORE_REJECTED, "refused")
        self.journal.append(f"upsert {self.name}")
        self.points |= {point.id: point for point in points}

    def delete_post(self, post_id: str) -> None:
        self.journal.append(f"delete {self.name}")
        self.points = {id_: p for id_, p in self.points.items() if p.payload["post_id"] != post_id}

    def delete(self, where: Where) -> None:
        self.journal.append(f"delete {self.name}")

    def count(self, kind: str | None = None, *, where: Where | None = None) -> int:
        return len(self.points)

    def delete_stale(self, post_ids: Sequence[str], current: Sequence[str]) -> None:
        self.points = {
            id_: p for id_, p in self.points.items() if p.payload["post_id"] not in post_ids or id_ in current
        }


def point(post_id: str, model: str) -> Point:
    payload = {"post_id": post_id, "model_id": model, "indexed_at": model}
    return Point(f"{post_id}-0", {"text": np.ones(2, np.float32)}, payload)


def encoded(post_id: str) -> Encoded:
    return Encoded(prepared(post_id, windows=("A text.",)), (point(post_id, "a"),), (point(post_id, "b"),))


def dual(journal: list[str], sides: Sequence[Side], refused: tuple[str, str] = ("", "")) -> DualIndex:
    """Writes two shelves; `sides` is what the alias names at each look, the last one for ever."""
    looks = list(sides)
    shelves = Shelf("a", journal, refused[0]), Shelf("b", journal, refused[1])
    step = DualIndex(shelves, lambda: looks.pop(0) if len(looks) > 1 else looks[0], lambda item: True)
    step.shelves = shelves  # type: ignore[attr-defined]
    return step


@pytest.mark.parametrize(("side", "order"), [(0, ["upsert a", "upsert b"]), (1, ["upsert b", "upsert a"])])
def test_the_served_collection_is_written_first(side: Side, order: list[str]) -> None:
    journal: list[str] = []
    assert isinstance(dual(journal, [side])([encoded("p")])[0], Encoded)
    assert journal == order


def test_a_take_down_goes_to_both_collections() -> None:
    journal: list[str] = []
    result = dual(journal, [0])([TakeDown(record(0), "p")])[0]
    assert isinstance(result, Unmatched)
    assert result.taken_down
    assert journal == ["delete a", "delete b"]


def test_a_batch_during_which_the_alias_moved_is_written_again_in_the_new_order() -> None:
    journal: list[str] = []
    dual(journal, [0, 1])([TakeDown(record(0), "p")])
    assert journal == ["delete a", "delete b", "delete b", "delete a"]


def test_a_post_that_the_models_store_refuses_stands_in_neither_collection() -> None:
    step = dual([], [0], refused=("p", ""))
    results = step([encoded("p"), encoded("q")])
    assert isinstance(results[0], DeadLettered)
    assert [set(shelf.points) for shelf in step.shelves] == [{"q-0"}, {"q-0"}]  # type: ignore[attr-defined]


def test_a_post_that_only_the_next_collection_refuses_goes_on() -> None:
    step = dual([], [0], refused=("", "p"))
    result = step([encoded("p")])[0]
    assert isinstance(result, Encoded)
    assert result.next_points == ()


@pytest.mark.parametrize(
    "post", [encoded("p"), replace(encoded("p"), next_points=())], ids=["store", "model"]
)
def test_a_post_that_the_served_next_side_refuses_is_a_dead_letter_and_in_neither_collection(
    post: Encoded,
) -> None:
    step = dual([], [1], refused=("", "p"))
    result = step([post])[0]
    assert isinstance(result, DeadLettered)
    assert [set(shelf.points) for shelf in step.shelves] == [set(), set()]  # type: ignore[attr-defined]


def test_a_post_that_only_the_collection_of_before_refuses_goes_on() -> None:
    step = dual([], [1], refused=("p", ""))
    assert isinstance(step([encoded("p")])[0], Encoded)
    assert [set(shelf.points) for shelf in step.shelves] == [set(), {"p-0"}]  # type: ignore[attr-defined]


def test_a_record_that_is_no_longer_ours_is_dropped() -> None:
    step = DualIndex((Shelf("a", []), Shelf("b", [])), lambda: 0, lambda item: False)
    assert isinstance(step([encoded("p")])[0], Dropped)


@pytest.mark.parametrize(("side", "order"), [(0, ["delete a", "delete b"]), (1, ["delete b", "delete a"])])
def test_retention_too_deletes_from_the_served_collection_first(side: Side, order: list[str]) -> None:
    journal: list[str] = []
    both = BothCollections((Shelf("a", journal), Shelf("b", journal)), lambda: side)
    both.delete(Where(undated=True))
    assert journal == order


def encoder(model: str, refuses: str = "") -> DualEncode:
    def encode(posts: Sequence[Prepared]) -> list[Encoded | DeadLettered]:
        return [
            DeadLettered(post.record, Reason.ENCODING_FAILED, "no vector", "encode")
            if post.post.id == refuses
            else Encoded(post, (point(post.post.id, model),))
            for post in posts
        ]

    return encode  # type: ignore[return-value]


def test_both_models_points_carry_one_time_and_their_own_model() -> None:
    result = DualEncode(encoder("a"), encoder("b"))([prepared("p")])[0]
    assert isinstance(result, Encoded)
    assert [p.payload["model_id"] for p in (*result.points, *result.next_points)] == ["a", "b"]
    assert [p.payload["indexed_at"] for p in (*result.points, *result.next_points)] == ["a", "a"]


def test_a_post_that_the_model_refuses_is_a_dead_letter() -> None:
    results = DualEncode(encoder("a", refuses="p"), encoder("b"))([prepared("p"), prepared("q")])
    assert [type(result) for result in results] == [DeadLettered, Encoded]


def test_a_post_that_only_the_next_model_refuses_is_stored_without_it() -> None:
    result = DualEncode(encoder("a"), encoder("b", refuses="p"))([prepared("p")])[0]
    assert isinstance(result, Encoded)
    assert result.next_points == ()


@pytest.mark.parametrize("side", [0, 1])
def test_the_model_that_the_alias_names_searches_with_its_own_points(side: Side) -> None:
    asked: list[tuple[int, object]] = []

    def matching(number: int, posts: Sequence[Encoded]) -> list[Outcome]:
        asked.extend((number, post.points[0].payload["model_id"]) for post in posts)
        return [Unmatched(post.prepared.record, post.prepared.post.id, 1) for post in posts]

    step = DualMatch((lambda posts: matching(0, posts), lambda posts: matching(1, posts)), lambda: side)
    step([encoded("p")])
    assert asked == [(side, "ab"[side])]

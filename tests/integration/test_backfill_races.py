"""What a backfill does where a worker writes or deletes the very posts that it copies, on the real store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from worker.errors import FatalError
from worker.ids import text_point_id
from worker.index import Point, VectorIndex, Where
from worker.migrate.backfill import Backfill
from worker.migrate.collection import ModelCollection, Route
from worker.migrate.reencode import Reencoded, Unencodable
from worker.migrate.roster import LiveWorker
from worker.migrate.switch import Gap, find_gap, readiness
from worker.store.client import Store, open_store

DIM = 4


class Two:
    """The served collection and the next one, with what a worker does to them."""

    def __init__(self, store: Store) -> None:
        self.indexes = [VectorIndex(store, "alias", model, DIM) for model in ("old", "new")]
        for index in self.indexes:
            index.create_collection()
        self.source, self.target = (ModelCollection(store, index.collection, DIM) for index in self.indexes)
        self.route = Route("old", "new", self.source, self.target)

    def write(self, *points: Point, sides: Sequence[int] = (0, 1)) -> None:
        for side in sides:
            self.indexes[side].upsert(points)

    def take_down(self, post_id: str, sides: Sequence[int] = (0, 1)) -> None:
        for side in sides:
            self.indexes[side].delete_post(post_id)

    def backfill(
        self, meanwhile: Callable[[], object] = lambda: None, is_served: Callable[[], bool] = lambda: True
    ) -> Backfill:
        """Run one; `meanwhile` happens once, between reading and inserting."""
        waiting = [meanwhile]

        def encode(points: Sequence[Point]) -> Reencoded:
            if waiting:
                waiting.pop()()
            return reencoded(points)

        run = Backfill(self.source, self.target, encode, is_served)
        run.run()
        return run

    def texts(self) -> dict[str, str]:
        """What the target says of each post."""
        return {
            str(point.payload["post_id"]): str(point.payload["text"]) for point in self.indexes[1].scroll()
        }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with open_store(str(tmp_path_factory.mktemp("store") / "store")) as opened:
        yield Two(opened)


@pytest.fixture
def two(both: Two) -> Two:
    """Empty: making collections anew takes longer than all that is done with them."""
    for index in both.indexes:
        index.delete(Where(kinds=("text",)))
    return both


def point(post_id: str, text: str, at: int = 0) -> Point:
    payload = {
        "post_id": post_id,
        "kind": "text",
        "window": 0,
        "text": text,
        "content_hash": text,
        "indexed_at": f"2026-01-01T00:00:00.{at:06d}+00:00",
    }
    return Point(text_point_id(post_id, 0), {"text": np.ones(DIM, np.float32)}, payload)


def reencoded(points: Sequence[Point]) -> Reencoded:
    vector = {"text": np.arange(1, DIM + 1, dtype=np.float32)}
    return Reencoded(tuple(replace(item, vectors=vector) for item in points), {})


def test_a_take_down_while_a_post_is_copied_is_not_undone(two: Two) -> None:
    two.write(point("a", "one"), point("b", "two"), sides=[0])
    two.backfill(lambda: two.take_down("a"))
    assert two.texts() == {"b": "two"}


def test_what_a_worker_wrote_meanwhile_is_not_overwritten(two: Two) -> None:
    two.write(point("a", "one"), sides=[0])
    two.backfill(lambda: two.write(point("a", "edited", at=1)))
    assert two.texts() == {"a": "edited"}


def test_an_edit_that_reached_only_the_served_collection_yet_is_copied(two: Two) -> None:
    two.write(point("a", "one"), sides=[0])
    two.backfill(lambda: two.write(point("a", "edited", at=1), sides=[0]))
    assert two.texts() == {"a": "edited"}


def test_a_post_of_an_older_version_is_replaced(two: Two) -> None:
    two.write(point("a", "one"))
    two.write(point("a", "edited", at=1), sides=[0])  # by a worker that writes one collection only
    two.backfill()
    assert two.texts() == {"a": "edited"}


def test_what_a_killed_run_left_of_a_post_that_is_gone_is_deleted(two: Two) -> None:
    two.write(point("a", "one"))
    two.take_down("a", sides=[0])
    assert two.backfill().report.removed == 1
    assert two.texts() == {}


def test_a_second_run_finds_everything_there(two: Two) -> None:
    two.write(point("a", "one"), point("b", "two"), sides=[0])
    assert two.backfill().report.inserted == 2
    report = two.backfill().report
    assert (report.inserted, report.present, report.removed) == (0, 2, 0)


def test_a_cutover_meanwhile_ends_the_run_and_costs_nothing_that_is_written_to_the_new_collection_first(
    two: Two,
) -> None:
    two.write(point("a", "one"), sides=[0])
    moved: list[bool] = []

    def cutover() -> None:
        moved.append(True)
        two.write(point("b", "two"), sides=[1])  # a worker is on its way to the old collection

    with pytest.raises(FatalError, match="moved"):
        two.backfill(cutover, lambda: not moved)
    assert two.texts() == {"a": "one", "b": "two"}


def test_what_is_gone_from_the_served_collection_alone_keeps_the_alias_where_it_is(two: Two) -> None:
    two.write(point("a", "one"), point("b", "two"))
    two.take_down("a", sides=[0])  # by a worker that writes one collection only
    found = readiness(two.route, find_gap(two.source, two.target, 0), lambda: WRITES_BOTH, lambda: reencoded)
    assert "1 are to be deleted" in found.objections[0]


def test_workers_are_asked_last_for_one_may_start_while_points_are_compared(two: Two) -> None:
    two.write(point("a", "one"), sides=[0])
    workers = list(WRITES_BOTH)

    def fails(points: Sequence[Point]) -> Reencoded:
        workers.append(LiveWorker("h:2", ("old",), 1.0))
        return Reencoded((), {item.id: Unencodable.NOT_KEPT for item in points})

    gap = find_gap(two.source, two.target, 0)
    found = readiness(two.route, gap, lambda: workers, lambda: fails, allow_missing=True)
    assert "the worker h:2 writes old only" in found.objections[0]


WRITES_BOTH = [LiveWorker("h:1", ("old", "new"), 1.0)]


def test_points_without_a_vector_need_a_word(two: Two) -> None:
    two.write(point("a", "one"), sides=[0])

    def fails(points: Sequence[Point]) -> Reencoded:
        return Reencoded((), {item.id: Unencodable.NOT_KEPT for item in points})

    run = Backfill(two.source, two.target, fails, lambda: True)
    assert run.run().failed == {Unencodable.NOT_KEPT: 1}
    gap = find_gap(two.source, two.target, 0)
    found = readiness(two.route, gap, lambda: WRITES_BOTH, lambda: fails)
    assert [line for line in found.objections if "not in the media store" in line]
    assert not readiness(two.route, gap, lambda: WRITES_BOTH, lambda: fails, allow_missing=True).objections


def test_missing_points_that_could_be_encoded_are_never_waived(two: Two) -> None:
    two.write(point("a", "one"), sides=[0])
    gap = find_gap(two.source, two.target, 0)
    found = readiness(two.route, gap, lambda: WRITES_BOTH, lambda: reencoded, allow_missing=True, force=True)
    assert "1 points are missing" in found.objections[0]


def test_outdated_points_keep_the_alias_where_it_is(two: Two) -> None:
    two.write(point("a", "one"))
    two.write(point("a", "edited", at=1), sides=[0])
    found = readiness(two.route, find_gap(two.source, two.target, 0), lambda: WRITES_BOTH, lambda: reencoded)
    assert "1 are outdated" in found.objections[0]


@pytest.mark.parametrize(
    ("workers", "objection"),
    [
        ([], "no worker is alive"),
        ([*WRITES_BOTH, LiveWorker("h:2", ("old",), 1.0)], "the worker h:2 writes old only"),
    ],
)
def test_every_live_worker_must_write_both(two: Two, workers: list[LiveWorker], objection: str) -> None:
    found = readiness(two.route, Gap(), lambda: workers, lambda: reencoded)
    assert objection in found.objections[0]
    assert not readiness(two.route, Gap(), lambda: workers, lambda: reencoded, force=True).objections

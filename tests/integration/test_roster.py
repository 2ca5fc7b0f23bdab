"""The roster of workers on the real embedded store."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.fakes import record
from tests.migration import until
from worker.errors import FatalError
from worker.index import VectorIndex
from worker.migrate.roster import GONE_S, Announcement, live_workers
from worker.stages.index import Index
from worker.store.client import Store, open_store
from worker.types import TakeDown


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(str(tmp_path_factory.mktemp("store") / "store")) as opened:
        yield opened


def test_a_worker_is_on_the_roster_for_as_long_as_it_runs(store: Store) -> None:
    with Announcement(store, "alias", ["a", "b"]):
        assert [worker.models for worker in live_workers(store, "alias")] == [("a", "b")]
    assert live_workers(store, "alias") == []


def test_who_was_not_heard_of_for_a_minute_is_gone(store: Store) -> None:
    with Announcement(store, "alias", ["a"]):
        assert live_workers(store, "alias", time.time() + GONE_S + 1) == []


def test_what_a_worker_of_one_model_writes_after_the_alias_moved_is_not_acknowledged(store: Store) -> None:
    """A worker that hung longer than the roster remembers may come back after the cutover."""
    index, other = (VectorIndex(store, "hung", model, 4) for model in ("a", "b"))
    index.open_or_create()
    step = Index(index, lambda record: True, index.check_served)
    assert len(step([TakeDown(record(0), "p")])) == 1
    other.create_collection()
    other.take_alias()
    with pytest.raises(FatalError, match="another model"):
        step([TakeDown(record(1), "p")])


def test_a_worker_stops_where_the_alias_moves_to_a_model_that_it_does_not_write(store: Store) -> None:
    with Announcement(store, "alias", ["a"], beat_s=0.01) as announcement:
        announcement.check()
        VectorIndex(store, "alias", "c", 4).open_or_create()

        def refused() -> bool:
            try:
                announcement.check()
            except FatalError as error:
                return "moved to 'alias-c'" in str(error)
            return False

        until(refused)

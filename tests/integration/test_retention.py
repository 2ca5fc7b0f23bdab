"""Retention on a real embedded store and a real folder of pictures."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.ports import free_port
from worker.errors import FatalError, TransientError
from worker.index import Point, VectorIndex
from worker.media import MediaStore
from worker.observe.metrics import Metrics
from worker.store.client import Store, open_store
from worker.upkeep.retention import Retention

DAYS = 90.0
NOW = datetime(2026, 5, 1, tzinfo=UTC)
OLD, YOUNG = NOW - timedelta(days=91), NOW - timedelta(days=89)
HASH = "ab" * 32


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(str(tmp_path_factory.mktemp("store"))) as opened:
        yield opened


@pytest.fixture
def index(store: Store) -> VectorIndex:
    opened = VectorIndex(store, f"test-{uuid.uuid4().hex}", "model1", 4)
    opened.open_or_create()
    return opened


def point(post_id: str, published_at: datetime | None, indexed_at: datetime | None) -> Point:
    payload = {"post_id": post_id, "published_at": published_at}
    if indexed_at is not None:
        payload["indexed_at"] = indexed_at.isoformat()
    return Point(str(uuid.uuid4()), {"text": np.ones(4, np.float32)}, payload)


def kept(index: VectorIndex) -> set[object]:
    return {found.payload["post_id"] for found in index.scroll()}


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 30 s"
        time.sleep(0.01)


def test_a_post_that_is_too_old_goes_whenever_it_was_stored(index: VectorIndex) -> None:
    index.upsert([point("old", OLD, YOUNG), point("young", YOUNG, OLD)])
    assert Retention(index, DAYS, Metrics()).sweep(NOW) == 1
    assert kept(index) == {"young"}


def test_a_post_without_a_date_goes_by_when_it_was_stored(index: VectorIndex) -> None:
    index.upsert([point("old", None, OLD), point("young", None, YOUNG)])
    assert Retention(index, DAYS, Metrics()).sweep(NOW) == 1
    assert kept(index) == {"young"}


def test_a_point_without_any_date_is_kept(index: VectorIndex) -> None:
    index.upsert([point("dateless", None, None)])
    assert Retention(index, DAYS, Metrics()).sweep(NOW) == 0
    assert kept(index) == {"dateless"}


def test_a_sweep_that_deletes_is_counted_and_one_that_does_not_is_not(index: VectorIndex) -> None:
    metrics = Metrics()
    index.upsert([point("old", OLD, OLD)])
    retention = Retention(index, DAYS, metrics)
    for _ in range(3):
        retention.sweep(NOW)
    assert metrics.registry.get_sample_value("entityclip_retention_deletions_total") == 1


def test_it_sweeps_as_soon_as_it_is_open_and_then_again(index: VectorIndex) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=DAYS + 1)
    index.upsert([point("first", long_ago, None)])
    with Retention(index, DAYS, Metrics(), interval_s=0.05) as retention:
        wait_until(lambda: index.count() == 0)
        index.upsert([point("second", long_ago, None)])
        wait_until(lambda: index.count() == 0)
        retention.check()


def test_a_store_that_is_away_is_tried_again() -> None:
    with closing(VectorIndex(open_store(f"http://127.0.0.1:{free_port()}"), "a", "m", 4)) as away:
        retention = Retention(away, DAYS, Metrics(), interval_s=0.01)
        with capture_logs() as logs, retention:
            wait_until(lambda: [line["event"] for line in logs].count("retention is put off") > 1)
            retention.check()


def test_a_store_that_refuses_ends_it_and_the_check_says_so(store: Store) -> None:
    missing = VectorIndex(store, "no-such-collection", "m", 4)
    with Retention(missing, DAYS, Metrics()) as retention:

        def has_failed() -> bool:
            try:
                retention.check()
            except FatalError:
                return True
            return False

        wait_until(has_failed)
        with pytest.raises(FatalError, match=r"retention: .*404"):
            retention.check()


# -- pictures ---------------------------------------------------------------------------------------


def aged(path: Path, moment: datetime) -> Path:
    os.utime(path, (moment.timestamp(), moment.timestamp()))
    return path


def test_old_pictures_go_and_young_ones_stay(index: VectorIndex, tmp_path: Path) -> None:
    media = MediaStore(tmp_path)
    for content_hash, moment in (("aa" * 32, OLD), ("bb" * 32, YOUNG)):
        media.put(content_hash, b"jpeg")
        aged(tmp_path / content_hash[:2] / f"{content_hash}.jpg", moment)
    Retention(index, DAYS, Metrics(), media).sweep(NOW)
    assert (media.get("aa" * 32), media.get("bb" * 32)) == (None, b"jpeg")


def test_a_picture_that_is_put_again_is_young_again(tmp_path: Path) -> None:
    media = MediaStore(tmp_path)
    media.put(HASH, b"jpeg")
    aged(tmp_path / "ab" / f"{HASH}.jpg", OLD)
    media.put(HASH, b"jpeg")
    assert media.prune(NOW) == 0
    assert media.get(HASH) == b"jpeg"


def test_what_a_killed_worker_left_half_written_goes_too(tmp_path: Path) -> None:
    media = MediaStore(tmp_path)
    (tmp_path / "ab").mkdir()
    part = tmp_path / "ab" / f"{HASH}.12-34.part"
    part.write_bytes(b"half")
    aged(part, OLD)
    assert media.prune(NOW) == 1
    assert not part.exists()


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    media = MediaStore(tmp_path)
    for name in ("notes.txt", "ab/notes.txt", "letters/aa.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
        aged(tmp_path / name, OLD)
    assert media.prune(NOW) == 0
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3


def test_a_media_store_that_is_away_is_transient(tmp_path: Path) -> None:
    media = MediaStore(tmp_path / "media")
    (tmp_path / "media").rmdir()
    with pytest.raises(TransientError, match="media"):
        media.prune(NOW)

"""A store that refuses, hangs and hangs up, under the index stage: what is repeated, how soon, what is lost.

The store is the real engine, behind a server that misbehaves.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import structlog

from tests.fakes import prepared
from tests.ports import free_port
from tests.store_proxy import Fault, StoreProxy
from worker.index import VectorIndex
from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.sections import HealthConfig
from worker.stages.index import Index
from worker.stages.points import post_points
from worker.stages.stage import Batching, Stage
from worker.store.client import Refused, open_store
from worker.types import DeadLettered, Dropped, Encoded, TakeDown, Unmatched

DIM = 8
DEADLINE_S = 60.0
Stored = Encoded | Unmatched | DeadLettered | Dropped


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProxy]:
    with StoreProxy(tmp_path_factory.mktemp("store")) as proxy:
        yield proxy


@pytest.fixture
def proxy(serving: StoreProxy) -> Iterator[StoreProxy]:
    """One that behaves; each test has a collection of its own."""
    yield serving
    assert serving.next_fault() is None, "a fault that the test told of was never met"


def post(name: str) -> Encoded:
    """A post with a picture and a text."""
    ready = prepared(name, images=1, windows=("a text",))
    vector = np.eye(DIM, dtype=np.float32)[len(name) % DIM]
    return Encoded(ready, post_points(ready, [vector], [vector], "model1"))


class Indexing:
    """The index stage on a store, running for as long as the context is open."""

    def __init__(self, url: str) -> None:
        self.metrics = Metrics(["index"])
        self.failures: queue.Queue[BaseException] = queue.Queue()
        self._results: queue.Queue[Stored] = queue.Queue()
        self._abandon = threading.Event()
        self.index = VectorIndex(open_store(url, timeout_s=1.0), f"test-{uuid.uuid4().hex}", "model1", DIM)
        self._stage: Stage[Encoded | TakeDown, Stored] = Stage(
            "index",
            Index(self.index, lambda record: True),
            hand_on=self._results.put,
            failed=lambda stage, error: self.failures.put(error),
            capacity=16,
            metrics=self.metrics,
            health=Health(HealthConfig()),
            abandon=self._abandon,
            batching=Batching(size=4),
            done=lambda item, seconds: None,
        )

    def __enter__(self) -> Indexing:
        self._stage.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._abandon.set()
        assert self._stage.join(DEADLINE_S)
        self.index.close()

    def put(self, *posts: Encoded) -> None:
        for item in posts:
            self._stage.put(item)

    def results(self, count: int) -> list[Stored]:
        return [self._results.get(timeout=DEADLINE_S) for _ in range(count)]

    def wait_for_a_retry(self) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not self.retries:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)

    @property
    def retries(self) -> float | None:
        return self.metrics.registry.get_sample_value("entityclip_stage_retries_total", {"stage": "index"})


@pytest.fixture
def indexing(proxy: StoreProxy) -> Iterator[Indexing]:
    running = Indexing(proxy.url)
    running.index.open_or_create()
    with running:
        yield running


def test_a_store_that_fails_in_every_way_loses_no_post(proxy: StoreProxy, indexing: Indexing) -> None:
    posts = [post(f"p{number}") for number in range(10)]
    proxy.fail(
        Fault("status", 429, retry_after="1"),
        Fault("status", 503),
        Fault("hang"),
        Fault("cut"),
        Fault("drop"),
    )
    indexing.put(*posts)
    assert indexing.results(len(posts)) == posts
    assert indexing.retries == 5
    stored = {point.id for point in indexing.index.scroll()}
    assert stored == {point.id for item in posts for point in item.points}
    assert indexing.index.count() == 2 * len(posts)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", 408),
        Fault("status", 429),
        Fault("status", 429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"),
        Fault("status", 500),
        Fault("status", 502),
        Fault("status", 503, retry_after="0"),
        Fault("status", 504),
        Fault("hang"),
        Fault("cut"),
        Fault("drop"),
    ],
)
def test_a_write_is_repeated_until_it_is_acknowledged(
    proxy: StoreProxy, indexing: Indexing, fault: Fault
) -> None:
    item = post("p")
    proxy.fail(fault)
    indexing.put(item)
    assert indexing.results(1) == [item]
    assert indexing.retries == 1
    assert {point.id for point in indexing.index.scroll()} == {point.id for point in item.points}


@pytest.mark.parametrize("status", [429, 503])
def test_the_pause_that_the_store_asks_for_is_kept(
    proxy: StoreProxy, indexing: Indexing, status: int
) -> None:
    proxy.fail(Fault("status", status, retry_after="2"))
    with structlog.testing.capture_logs() as events:
        indexing.put(post("p"))
        indexing.results(1)
    pauses_s = [event["retry_in_s"] for event in events if event["event"] == "dependency away"]
    assert pauses_s == [2.0]


@pytest.mark.parametrize("status", [401, 403, 404, 501])
def test_a_refusal_ends_the_stage_and_is_not_repeated(
    proxy: StoreProxy, indexing: Indexing, status: int
) -> None:
    proxy.fail(Fault("status", status))
    indexing.put(post("p"))
    failure = indexing.failures.get(timeout=DEADLINE_S)
    assert isinstance(failure, Refused)
    assert failure.status == status
    assert indexing.retries == 0


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_post_whose_content_is_refused_is_a_dead_letter_and_leaves_nothing(
    proxy: StoreProxy, indexing: Indexing, status: int
) -> None:
    proxy.fail(*[Fault("status", status)] * 3)  # both points, then each alone
    indexing.put(post("p"))
    (refused,) = indexing.results(1)
    assert isinstance(refused, DeadLettered)
    assert indexing.index.count() == 0


def test_a_store_that_nobody_serves_is_waited_for(tmp_path: Path) -> None:
    port, folder, item = free_port(), tmp_path / "store", post("p")
    indexing = Indexing(f"http://127.0.0.1:{port}")
    with StoreProxy(folder, port):
        indexing.index.open_or_create()
    with indexing:
        indexing.put(item)
        indexing.wait_for_a_retry()
        with StoreProxy(folder, port):
            assert indexing.results(1) == [item]
            assert len(indexing.index.get([point.id for point in item.points])) == 2

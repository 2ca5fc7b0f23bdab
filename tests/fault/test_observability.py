"""What a person who watches the worker sees: metrics that move, and readiness that tells of a stall."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fault.cluster import Cluster, Worker, until
from tests.fault.deadly_worker import HANG
from tests.fault.planted import planted_pairs
from tests.fault.streams import texts
from tests.fault.test_outages import store_pid
from tests.image_server import ImageServer
from worker.observe.metrics import Metrics
from worker.stages.chain import STAGES

pytestmark = pytest.mark.chaos

# Metrics that this run cannot move, each with its reason; at most five.
STILL: dict[str, str] = {}

SETTINGS = """
store_timeout_s = 2
retention_days = 1
llm.usd_per_million_prompt_tokens = 1
llm.usd_per_million_completion_tokens = 2
fetch.allow_networks = ["127.0.0.1/32"]
limits.in_flight_posts = 64
"""


class Watch:
    """Scrapes workers until it is left; keeps the largest value of each sample."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self.largest: defaultdict[str, float] = defaultdict(float)
        self._stop = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        yield
        self._stop.set()
        thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for worker in list(self.workers):
                if worker.process.poll() is None:
                    for name, value in worker.metrics().items():
                        self.largest[name] = max(self.largest[name], value)


def test_every_declared_metric_moves(real_data: Path, tmp_path: Path) -> None:
    pairs = planted_pairs(20)
    noise = texts(real_data, 6000)
    watch = Watch()
    with ImageServer() as host, Cluster(tmp_path, settings=SETTINGS) as cluster:
        assert cluster.redis is not None
        assert cluster.llm is not None
        first = cluster.start_worker()
        watch.workers.append(first)
        with watch.watching():
            first.wait_ready()
            produced = cluster.produce([post for pair in pairs for post in (pair.text, pair.picture)])
            produced += cluster.produce(
                [
                    {"id": "again", "text": pairs[0].text["text"], "published_at": "2026-11-20T00:00:00Z"},
                    {"id": "fetched", "images": [{"url": host.url("/image.jpg")}]},
                    pairs[1].text | {"id": "swapped", "images": pairs[2].picture["images"]},
                    (b"bad", b"not json"),
                ]
            )
            produced += cluster.produce([pair.text for pair in pairs])  # known matches
            cluster.wait_for_outcomes(produced, 120)

            pid = store_pid(cluster)
            os.kill(pid, signal.SIGSTOP)
            cluster.redis.kill()
            produced += cluster.produce(noise[:200], spread=True)
            time.sleep(5)
            os.kill(pid, signal.SIGCONT)
            cluster.redis.start()
            cluster.wait_for_outcomes(produced, 120)

            produced += cluster.produce(noise[200:2000], spread=True)
            cluster.broker.stop()
            time.sleep(35)  # what a producer tries before it gives up
            cluster.broker.start()
            cluster.wait_for_outcomes(produced, 120)

            cluster.llm.behave("slow", seconds=3.0)  # so that they still wait when the second worker is there
            produced += cluster.produce(noise[2000:3500], spread=True)
            second = cluster.start_worker()  # joins while posts wait for the LLM: their partitions move
            watch.workers.append(second)
            second.wait_ready()
            until(lambda: watch.largest["entityclip_posts_dropped_total"], 60, "nothing was dropped")
            cluster.llm.behave("ok")
            produced += cluster.produce(noise[3500:], spread=True)
            until(lambda: second.metrics().get("entityclip_in_flight_posts", 0) > 10, 60, "no load")
            first.kill()
            cluster.wait_for_outcomes(produced, 300)
    moved = {name for name, value in watch.largest.items() if value > 0}
    still = [
        family.name for family in Metrics(STAGES).registry.collect() if not _has_moved(family.name, moved)
    ]
    print(f"{len(list(Metrics(STAGES).registry.collect()))} metrics declared, still: {still}")
    assert len(STILL) <= 5
    assert set(still) == set(STILL)


def test_a_worker_whose_encoder_hangs_stops_being_ready_and_then_alive(tmp_path: Path) -> None:
    settings = "health.stalled_s = 3\nhealth.dead_s = 8"
    with Cluster(tmp_path, llm=False, redis=False, settings=settings) as cluster:
        worker = cluster.start_worker(module="tests.fault.deadly_worker")
        worker.wait_ready()
        assert worker.get("/livez")[0] == 200
        cluster.produce([{"id": "hang", "text": HANG}])
        until(lambda: worker.get("/readyz")[0] == 503, 30, "still ready")
        print(worker.get("/readyz"))
        assert "encode" in worker.get("/readyz")[1]
        assert worker.get("/livez")[0] == 200
        until(lambda: worker.get("/livez")[0] == 503, 30, "still alive")


def _has_moved(family: str, moved: set[str]) -> bool:
    return any(f"{family}{ending}" in moved for ending in ("", "_total", "_count"))

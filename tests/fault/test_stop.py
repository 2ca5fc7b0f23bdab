"""SIGTERM under load: readiness drops first, what is in flight is finished, nothing is lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.fault.cluster import DEAD, Cluster, Worker, repeats, until
from tests.fault.planted import planted_pairs
from tests.fault.streams import texts, with_pairs

pytestmark = pytest.mark.chaos
POSTS, PAIRS = 1500, 20


def test_sigterm_under_load(real_data: Path, tmp_path: Path) -> None:
    pairs = planted_pairs(PAIRS)
    stream = with_pairs(texts(real_data, POSTS - 2 * PAIRS), pairs)
    with Cluster(tmp_path) as cluster:
        assert cluster.llm is not None
        cluster.llm.behave("slow", seconds=1.0)
        worker = cluster.start_worker()
        worker.wait_ready()
        cluster.produce(stream, spread=True)
        until(lambda: worker.metrics()["entityclip_in_flight_posts"] > 50, 60, "no load")
        seen: list[tuple[float, int]] = []
        begun = time.monotonic()
        watcher = threading.Thread(target=_watch, args=(worker, begun, seen))
        watcher.start()
        status = worker.terminate(timeout_s=25)
        took_s = time.monotonic() - begun
        watcher.join()
        outcomes = cluster.outcomes()
        drained = sum(1 for _, code in seen if code == 503)
        print(f"exit status {status} after {took_s:.1f} s; /readyz said 503 {drained} times meanwhile")
        assert status == 0
        assert drained > 0
        assert sum(cluster.committed().values()) == len({(o["partition"], o["offset"]) for o in outcomes})
        second = cluster.start_worker()
        outcomes = cluster.wait_for_outcomes(POSTS, timeout_s=180)
        second.check()
        print(f"repeats {repeats(outcomes)}")
        assert repeats(outcomes) == 0
        assert {pair.match_id for pair in pairs} <= set(cluster.match_ids())
        assert cluster.records(DEAD) == []


def _watch(worker: Worker, begun: float, seen: list[tuple[float, int]]) -> None:
    while (code := worker.get("/readyz")[0]) != 0:
        seen.append((time.monotonic() - begun, code))
        time.sleep(0.02)

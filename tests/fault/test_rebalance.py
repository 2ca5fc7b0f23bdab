"""A worker joins under load: what the others keep goes on, and what is handed over is finished once."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.fault.cluster import DEAD, PARTITIONS, Cluster, repeats, until
from tests.fault.planted import Post
from tests.fault.streams import texts

pytestmark = pytest.mark.chaos
_BEAT_S = 0.2


def test_a_worker_joins_under_load(real_data: Path, tmp_path: Path) -> None:
    with Cluster(tmp_path, llm=False) as cluster:
        workers = [cluster.start_worker() for _ in range(2)]
        for worker in workers:
            worker.wait_ready()
        until(lambda: sum(len(worker.partitions()) for worker in workers) == PARTITIONS, 30, "not assigned")
        with steady_load(cluster, texts(real_data, 6000)) as produced:
            time.sleep(5)
            before = [worker.partitions() for worker in workers]
            begun = time.time()
            joined = cluster.start_worker()
            joined.wait_ready()
            until(joined.partitions, 30, "the third one got nothing")
            time.sleep(5)
            ended = time.time()
            kept = [old & worker.partitions() for old, worker in zip(before, workers, strict=True)]
        outcomes = cluster.wait_for_outcomes(produced[0], timeout_s=60)
        gaps = {number: gap(outcomes, number, begun, ended) for each in kept for number in each}
        print(f"partitions kept {sorted(gaps)}; longest gap of each, in seconds: ", end="")
        print({number: round(seconds, 2) for number, seconds in sorted(gaps.items())})
        dropped = sum(worker.metrics()["entityclip_posts_dropped_total"] for worker in workers)
        print(f"dropped because their partition moved {dropped:.0f}, outcomes repeated {repeats(outcomes)}")
        assert len(gaps) == PARTITIONS - len(joined.partitions())
        assert cluster.records(DEAD) == []
        until(lambda: sum(cluster.committed().values()) == produced[0], 30, "not all is committed")


@contextmanager
def steady_load(cluster: Cluster, posts: list[Post]) -> Iterator[list[int]]:
    """One post to each partition every 0.2 s; yields how many so far."""
    produced, stop = [0], threading.Event()

    def run() -> None:
        with cluster.producer() as send:
            for start in range(0, len(posts), PARTITIONS):
                for number, post in enumerate(posts[start : start + PARTITIONS]):
                    send(post, number)
                    produced[0] += 1
                if stop.wait(_BEAT_S):
                    return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield produced
    finally:
        stop.set()
        thread.join()


def gap(outcomes: list[dict[str, Any]], partition: int, begun: float, ended: float) -> float:
    """The longest time between two outcomes of a partition, seconds."""
    moments: dict[int, list[float]] = defaultdict(list)
    for outcome in outcomes:
        moments[outcome["partition"]].append(datetime.fromisoformat(outcome["finished_at"]).timestamp())
    inside = sorted(moment for moment in moments[partition] if begun <= moment <= ended)
    return max(after - before for before, after in pairwise([begun, *inside, ended]))

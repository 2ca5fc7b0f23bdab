"""Memory stays bounded behind a slow LLM, and does not creep over a hundred thousand posts."""

from __future__ import annotations

import base64
import io
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fault.cluster import Cluster, Worker
from tests.fault.planted import Post
from tests.fault.streams import pictures, texts

QUEUED, IMAGE_BYTES = 20_000, 200_000
IN_FLIGHT = 64 << 20
SOAK, SAMPLES = 100_000, 500

pytestmark = pytest.mark.soak


def heavy_posts(start: int, count: int) -> Iterator[Post]:
    """Posts with a picture of about 200 KB each, every text another, so that no cache answers."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(8):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (420, 420, 3), np.uint8)).save(file, "JPEG", quality=95)
        files.append(base64.b64encode(file.getvalue().ljust(IMAGE_BYTES, b"\0")).decode())
    for number in range(start, start + count):
        yield {
            "id": f"heavy-{number}",
            "text": f"Report {number} from the harbour",
            "images": [{"data": files[number % 8]}],
        }


def test_a_backlog_of_big_posts_ahead_of_a_slow_llm(tmp_path: Path) -> None:
    """The bound: what it needs idle, twice what may be in flight, and what Kafka's client may hold."""
    settings = f"limits.in_flight_bytes = {IN_FLIGHT}\nllm.concurrency = 8"
    with Cluster(tmp_path, settings=settings) as cluster:
        assert cluster.llm is not None
        cluster.llm.behave("slow", seconds=1.0)
        worker = cluster.start_worker()
        worker.wait_ready()
        base = worker.rss_bytes()
        bound = base + 2 * IN_FLIGHT + 2 * cluster.kafka.fetch_bytes + (64 << 20)
        for start in range(0, QUEUED, 1000):
            cluster.produce(heavy_posts(start, 1000), spread=True)
        peak, deadline = 0, time.monotonic() + 240
        while time.monotonic() < deadline:
            peak = max(peak, worker.rss_bytes())
            worker.check()
            time.sleep(0.2)
        lag = worker.metrics()["entityclip_consumer_lag_records"]
        print(
            f"base {base >> 20} MiB, peak {peak >> 20} MiB, bound {bound >> 20} MiB, still queued {lag:.0f}"
        )
        assert lag > QUEUED / 2, "the backlog must outlast the measurement"
        assert peak < bound


def test_memory_does_not_creep(real_data: Path, tmp_path: Path) -> None:
    images = pictures(real_data, 1_000)
    posts = texts(real_data, SOAK - len(images)) + images
    random.Random(0).shuffle(posts)
    with Cluster(tmp_path, llm=False, media_root=real_data) as cluster:
        worker = cluster.start_worker()
        worker.wait_ready()
        for start in range(0, len(posts), 10_000):
            cluster.produce(posts[start : start + 10_000], spread=True)
        samples = _sampled(worker, len(posts))
        fifth = len(samples) // 5
        second, last = statistics.median(samples[fifth : 2 * fifth]), statistics.median(samples[-fifth:])
        print(f"resident: second fifth {second / 2**20:.0f} MiB, last fifth {last / 2**20:.0f} MiB, ", end="")
        print(f"{100 * (last / second - 1):+.1f} %")
        assert last < 1.05 * second


def _sampled(worker: Worker, posts: int) -> list[int]:
    """Resident memory, each time that another 1/500 of the posts has its outcome."""
    samples: list[int] = []
    deadline = time.monotonic() + 3600
    while (done := worker.metrics()["entityclip_outcomes_total"]) < posts:
        assert time.monotonic() < deadline
        worker.check()
        if done >= len(samples) * posts / SAMPLES:
            samples.append(worker.rss_bytes())
        time.sleep(0.2)
    return samples

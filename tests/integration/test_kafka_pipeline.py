"""The worker as a process: topic to topic over real Kafka, Redis, LLM endpoint, image host and store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.cluster import DEAD, MATCHES, Cluster, Worker, repeats, until
from tests.fault.planted import Pair, Post, planted_pairs
from tests.image_server import ImageServer
from tests.kafka.broker import Broker
from tests.redis_server import RedisServer

PAIRS = 12


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return planted_pairs(PAIRS, seed=1)


@pytest.fixture
def cluster(kafka: Broker, redis_server: RedisServer, tmp_path: Path) -> Iterator[Cluster]:
    """With a broker of its own; the fixtures named only say whether there can be one."""
    with Cluster(tmp_path, settings='fetch.allow_networks = ["127.0.0.1/32"]') as cluster:
        yield cluster


def stream(pairs: list[Pair], host: ImageServer) -> list[Post | tuple[bytes, bytes | None]]:
    """The pairs, a text to be explained, a picture by address, one that is not there, and what is no post."""
    posts: list[Post | tuple[bytes, bytes | None]] = [
        post for pair in pairs for post in (pair.text, pair.picture)
    ]
    posts.append({"id": "asked", "text": "Parliament meets", "published_at": "1900-01-01T00:00:00Z"})
    posts.append({"id": "fetched", "images": [{"url": host.url("/image.jpg")}]})
    posts.append({"id": "gone", "images": [{"url": host.url("/none.jpg")}]})
    return [*posts, (b"bad", b"not json")]


def test_every_pair_comes_out_once_and_every_post_has_one_outcome(
    cluster: Cluster, pairs: list[Pair]
) -> None:
    with ImageServer() as host:
        workers: list[Worker] = [cluster.start_worker() for _ in range(2)]
        for worker in workers:
            worker.wait_ready()
        until(lambda: [len(worker.partitions()) for worker in workers] == [3, 3], 30, "not settled")
        records = stream(pairs, host)
        cluster.produce(records, spread=True)
        outcomes = cluster.wait_for_outcomes(len(records), timeout_s=120)
        assert [worker.terminate() for worker in workers] == [0, 0]
    assert repeats(outcomes) == 0
    assert set(cluster.match_ids()) == {pair.match_id for pair in pairs}
    reasons = sorted(dict(record.headers)["reason"] for record in cluster.records(DEAD))
    assert reasons == [b"image_unavailable", b"invalid_json"]
    statuses = {outcome.get("explanation_status") for outcome in outcomes if outcome.get("points")}
    assert statuses == {"given", "generated", "none"}  # of the pairs' texts, of the other one, of pictures
    assert all(record.key and record.value for record in cluster.records(MATCHES))
    assert sum(cluster.committed().values()) == len(records)

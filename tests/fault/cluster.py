"""A whole installation on loopback: Kafka, Redis, an LLM endpoint, an embedded store, and workers to kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from tests.fault.planted import WINDOW_DAYS, Post
from tests.kafka.broker import Broker
from tests.llm_server import LlmServer
from tests.ports import free_port
from tests.redis_server import RedisServer
from worker.index import VectorIndex
from worker.sections import KafkaConfig
from worker.store.client import open_store
from worker.transport.base import Record
from worker.transport.kafka.clients import read_topic
from worker.transport.kafka.topics import ensure_topic

POSTS, MATCHES, OUTCOMES, DEAD = "news.posts", "news.matches", "news.outcomes", "news.posts.dead"
PARTITIONS = 6


class Cluster:
    """Everything that a worker talks to, and the workers. Use it as a context manager.

    Args:
        folder: of all data and logs.
        llm: whether workers ask the LLM endpoint for explanations.
        redis: whether they share a Redis.
        media_root: below which posts' image paths lie.
        settings: further lines of the workers' configuration, in TOML.
    """

    def __init__(
        self,
        folder: Path,
        *,
        llm: bool = True,
        redis: bool = True,
        media_root: Path | None = None,
        settings: str = "",
    ) -> None:
        self.folder = folder
        self.broker = Broker(folder / "kafka")
        self.redis = RedisServer() if redis else None
        self.llm = LlmServer() if llm else None
        self.store = folder / "store"
        self.workers: list[Worker] = []
        self._media_root, self._settings = media_root, settings
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.broker)
        for server in (self.redis, self.llm):
            if server is not None:
                self._stack.enter_context(server)
        for topic in (POSTS, MATCHES, OUTCOMES, DEAD):
            ensure_topic(self.kafka, topic)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.kill()
        self._stack.close()

    @property
    def kafka(self) -> KafkaConfig:
        """How to reach the broker."""
        return KafkaConfig(bootstrap_servers=self.broker.bootstrap, partitions=PARTITIONS)

    # -- workers ------------------------------------------------------------------------------

    def start_worker(self, settings: str = "", module: str = "worker.cli.main") -> Worker:
        """Start one; it joins the others' group."""
        worker = Worker(self.folder / f"worker-{len(self.workers)}", self._config(settings), module)
        self.workers.append(worker)
        return worker

    def _config(self, settings: str) -> str:
        lines = [
            f'source = "kafka:{POSTS}"',
            f'sink = "kafka:{MATCHES}"',
            f'outcomes = "kafka:{OUTCOMES}"',
            f"store = {json.dumps(str(self.store))}",
            'log_level = "info"',
            self._settings,
            settings,
        ]
        if self._media_root is not None:
            lines.append(f"media_root = {json.dumps(str(self._media_root))}")
        lines += [
            f"match.window_days = {WINDOW_DAYS}",
            f'kafka.bootstrap_servers = "{self.broker.bootstrap}"',
            f"kafka.partitions = {PARTITIONS}",
            "kafka.session_timeout_s = 6",
        ]
        if self.redis is not None:
            lines.append(f'redis.url = "{self.redis.url}"')
        if self.llm is not None:
            lines.append(f'llm.base_url = "{self.llm.url}"')
        return "\n".join(lines) + "\n"

    # -- topics -------------------------------------------------------------------------------

    @contextmanager
    def producer(self) -> Iterator[Callable[[Post | tuple[bytes, bytes | None], int | None], None]]:
        """What sends a post, or a raw (key, value), to a partition; at the end all are acknowledged."""
        producer = KafkaProducer(
            bootstrap_servers=self.broker.bootstrap, acks="all", linger_ms=5, max_request_size=8 << 20
        )
        futures = []

        def send(post: Post | tuple[bytes, bytes | None], partition: int | None) -> None:
            key, value = post if isinstance(post, tuple) else (post["id"].encode(), json.dumps(post).encode())
            futures.append(producer.send(POSTS, value, key=key, partition=partition))

        try:
            yield send
            producer.flush(120)
            for future in futures:
                future.get(timeout=30)
        finally:
            producer.close(timeout=10)

    def produce(self, posts: Iterable[Post | tuple[bytes, bytes | None]], *, spread: bool = False) -> int:
        """Write posts, or raw (key, value) records; returns how many, once all are acknowledged.

        Args:
            spread: give each record the partition after that of the one before, instead of by key.
        """
        count = 0
        with self.producer() as send:
            for count, post in enumerate(posts, start=1):
                send(post, count % PARTITIONS if spread else None)
        return count

    def records(self, topic: str) -> list[Record]:
        """All records of a topic."""
        return list(read_topic(self.kafka, topic))

    def outcomes(self) -> list[dict[str, Any]]:
        """Every outcome record, repeats included."""
        return [json.loads(record.value or b"") for record in self.records(OUTCOMES)]

    def match_ids(self) -> Counter[str]:
        """How often each match id was written."""
        return Counter((record.key or b"").decode() for record in self.records(MATCHES))

    def committed(self) -> dict[int, int]:
        """What the workers' group has committed, by partition."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.broker.bootstrap, group_id=self.kafka.group, enable_auto_commit=False
        )
        try:
            places = {number: TopicPartition(POSTS, number) for number in range(PARTITIONS)}
            return {number: consumer.committed(place) or 0 for number, place in places.items()}
        finally:
            consumer.close()

    def wait_for_outcomes(self, posts: int, timeout_s: float, poll_s: float = 1.0) -> list[dict[str, Any]]:
        """Wait until so many records of the posts' topic have an outcome; returns all outcome records.

        Raises:
            AssertionError: not in time, or a worker that was not killed has ended.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            outcomes = self.outcomes()
            places = {(outcome["partition"], outcome["offset"]) for outcome in outcomes}
            if len(places) >= posts:
                return outcomes
            for worker in self.workers:
                worker.check()
            assert time.monotonic() < deadline, f"{len(places)} of {posts} outcomes after {timeout_s} s"
            time.sleep(poll_s)

    # -- the store ----------------------------------------------------------------------------

    def points(self, model_id: str, dim: int) -> Iterator[dict[str, object]]:
        """The payload of every point, beside its id."""
        index = VectorIndex(open_store(str(self.store)), "entityclip", model_id, dim)
        try:
            index.open_existing()
            for point in index.scroll():
                yield {"id": point.id, **point.payload}
        finally:
            index.close()


class Worker:
    """One `entityclip run` as a process of its own."""

    def __init__(self, folder: Path, config: str, module: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.port = free_port()
        path = folder / "worker.toml"
        path.write_text(config + f"metrics.port = {self.port}\n")
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "run", "--config", str(path)],
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
            )
        self._ended_by_us = False

    def has_ended(self) -> bool:
        """Whether the process is gone, however."""
        self._ended_by_us = self._ended_by_us or self.process.poll() is not None
        return self.process.poll() is not None

    def check(self) -> None:
        """AssertionError where it has ended by itself."""
        if not self._ended_by_us and self.process.poll() is not None:
            raise AssertionError(f"a worker ended with {self.process.returncode}: {self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        self._ended_by_us = True
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)

    def terminate(self, timeout_s: float = 60.0) -> int:
        """SIGTERM, and its exit status."""
        self._ended_by_us = True
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def expect_end(self, timeout_s: float) -> int:
        """The exit status of a worker that is to end by itself."""
        self._ended_by_us = True
        return self.process.wait(timeout_s)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of its pages; (0, reason) where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def is_ready(self) -> bool:
        """What `/readyz` says."""
        return self.get("/readyz")[0] == 200

    def wait_ready(self, timeout_s: float = 90.0) -> None:
        """Wait until it is ready."""

        def ready() -> bool:
            self.check()
            return self.is_ready()

        until(ready, timeout_s, "the worker is never ready")

    def metrics(self) -> dict[str, float]:
        """All samples; a sample with labels as `name{label="value"}`, and their sum as `name`.

        Empty while nobody answers.
        """
        status, text = self.get("/metrics")
        if status != 200:
            return {}
        values: defaultdict[str, float] = defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                values[sample.name] += sample.value
                if sample.labels:
                    labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                    values[f"{sample.name}{{{labels}}}"] += sample.value
        return dict(values)

    def partitions(self) -> set[int]:
        """Those that it tells the lag of, which are its own."""
        label = 'entityclip_consumer_lag_records{partition="'
        names = [name for name in self.metrics() if name.startswith(label)]
        return {int(name.removeprefix(label).split('"')[0]) for name in names}

    def rss_bytes(self) -> int:
        """Resident memory of the process now."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")


def until(condition: Callable[[], object], timeout_s: float, message: str) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, message
        time.sleep(0.05)


def repeats(outcomes: Sequence[dict[str, Any]]) -> int:
    """Outcome records beyond the first of each record of the source."""
    return len(outcomes) - len({(outcome["partition"], outcome["offset"]) for outcome in outcomes})

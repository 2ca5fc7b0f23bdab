"""What the tests on the real broker share: names of their own, topics with something in them, patience."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import uuid4

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.kafka.broker import Broker
from worker.errors import TransientError
from worker.observe.metrics import Metrics
from worker.sections import KafkaConfig
from worker.transport.base import Message, Record
from worker.transport.kafka.connection import Client
from worker.transport.kafka.sink import KafkaSink
from worker.transport.kafka.source import KafkaSource

PATIENCE_S = 30.0


def settings(broker: Broker, **changes: Any) -> KafkaConfig:
    """A configuration with a group of its own; sessions are short."""
    values = {"group": f"group-{uuid4().hex[:8]}", "partitions": 2, "session_timeout_s": 6.0, **changes}
    return KafkaConfig(bootstrap_servers=broker.bootstrap, **values)


def new_topic() -> str:
    """A name that no other test uses."""
    return f"posts-{uuid4().hex[:8]}"


def numbered(count: int, first: int = 0) -> list[Message]:
    """Messages with different keys."""
    return [Message(f"key{number}".encode(), str(number).encode()) for number in range(first, first + count)]


def fill(config: KafkaConfig, topic: str, messages: Sequence[Message]) -> None:
    """Write messages; the topic is made if need be."""
    sink = KafkaSink(config, topic, Metrics())
    sink.write(messages)
    sink.close()


def take(source: KafkaSource, count: int) -> list[Record]:
    """Poll until so many records came."""
    records: list[Record] = []
    poll_until(lambda: len(records) >= count, [source], records)
    return records


def poll_until(
    condition: Callable[[], bool], sources: Iterable[KafkaSource], records: list[Record] | None = None
) -> None:
    """Poll the sources in turn until the condition holds; what they deliver goes to `records`."""
    sources = list(sources)
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        for source in sources:
            try:
                polled = source.poll(0.05)
            except TransientError as error:
                time.sleep(min(0.5, error.retry_after_s or 0.05))
                continue
            if records is not None:
                records.extend(polled)


def next_offsets(records: Iterable[Record]) -> dict[Any, int]:
    """What to commit once these are done."""
    return {record.partition: record.offset + 1 for record in records}


def committed(config: KafkaConfig, topic: str, partition: int) -> tuple[int, str] | None:
    """Offset and note that the group has for a partition."""
    client = Client(KafkaConsumer, config, group_id=config.group, enable_auto_commit=False)
    try:
        found = client.api.committed(TopicPartition(topic, partition), metadata=True, timeout_ms=10_000)
    finally:
        client.drop()
    return (found.offset, found.metadata) if found else None


def raw_producer(config: KafkaConfig, **changes: Any) -> KafkaProducer:
    """The library's producer, for what our sink never writes. Close it."""
    return KafkaProducer(bootstrap_servers=config.bootstrap_servers, metrics_enabled=False, **changes)

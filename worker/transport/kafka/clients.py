"""What the rest of the worker asks of Kafka beside source and sink: is it there, and what a topic holds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from worker.errors import ConfigError, TransientError
from worker.sections import KafkaConfig
from worker.transport.base import Partition, Record
from worker.transport.kafka.connection import REQUEST_S, Client, admin
from worker.transport.kafka.errors import is_unreadable, mapped
from worker.transport.kafka.topics import partition_numbers

_PARTITION_BYTES = 1 << 20  # of one partition in a broker's answer; a larger batch comes whole
_POLL_MS = 500
_SILENCE_S = 30.0  # after which a topic that should go on is given up
_MAX_RECORDS = 500


def check(config: KafkaConfig) -> str:
    """Connect and say in one line what was found; blocks for at most about 20 s.

    Raises:
        ConfigError: credentials, certificates or settings that cannot work.
        TransientError: no broker answered.
    """
    with admin(config, "describing the cluster") as client:
        brokers = client.describe_cluster()["brokers"]
        version = client.get_broker_version_data(brokers[0]["broker_id"]).broker_version
    places = ", ".join(f"{broker['host']}:{broker['port']}" for broker in brokers)
    return f"{len(brokers)} broker(s) of Kafka {'.'.join(map(str, version))} or newer: {places}"


def fetch_settings(config: KafkaConfig) -> dict[str, Any]:
    """What every consumer of ours has in common: committed records only, bytes bounded, no decoding."""
    return {
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
        # Where the offset that was committed is gone, nothing that is still there is skipped.
        "auto_offset_reset": "earliest",
        "allow_auto_create_topics": False,
        "fetch_max_bytes": config.fetch_bytes,
        "max_partition_fetch_bytes": min(config.fetch_bytes, _PARTITION_BYTES),
        "metrics_enabled": False,
    }


def to_record(record: ConsumerRecord, epoch: int = 0) -> Record:
    """The library's record as the worker's; a header without a value has an empty one."""
    return Record(
        partition=Partition(record.topic, record.partition),
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=tuple((name, value or b"") for name, value in record.headers),
        epoch=epoch,
        timestamp=_timestamp(record.timestamp),
    )


def read_topic(config: KafkaConfig, topic: str, *, until_end: bool = True) -> Iterator[Record]:
    """Every record from the beginning, in order within a partition; no group, nothing is committed.

    Args:
        until_end: end with what was there at the start; otherwise go on for ever.

    Raises:
        ConfigError: there is no such topic, or it must not be read.
        TransientError: no broker answered, or none for 30 s.
        FatalError: a record cannot be read.
    """
    numbers = partition_numbers(config, topic)
    if not numbers:
        raise ConfigError(f"Kafka has no topic {topic}")
    partitions = [TopicPartition(topic, number) for number in numbers]
    with _consumer(config, topic) as consumer:
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(partitions, timeout_ms=REQUEST_S * 1000)
        heard = time.monotonic()
        while not until_end or not _is_at(consumer, ends):
            records = consumer.poll(timeout_ms=_POLL_MS, max_records=_MAX_RECORDS)
            for partition, batch in records.items():
                for record in batch:
                    if not until_end or record.offset < ends[partition]:
                        yield to_record(record)
            if records:
                heard = time.monotonic()
            elif until_end and time.monotonic() > heard + _SILENCE_S:
                raise TransientError(f"Kafka: reading topic {topic}: nothing came for {_SILENCE_S:g} s")


def read_at(config: KafkaConfig, partition: Partition, offset: int) -> Record | None:
    """One record; None if it is there no more. Errors as `read_topic`."""
    numbers = partition_numbers(config, partition.topic)
    if not numbers:
        raise ConfigError(f"Kafka has no topic {partition.topic}")
    if partition.number not in numbers:
        return None
    place = TopicPartition(partition.topic, partition.number)
    with _consumer(config, partition.topic) as consumer:
        consumer.assign([place])
        first = consumer.beginning_offsets([place], timeout_ms=REQUEST_S * 1000)[place]
        end = consumer.end_offsets([place], timeout_ms=REQUEST_S * 1000)[place]
        if not first <= offset < end:
            return None
        consumer.seek(place, offset)
        deadline = time.monotonic() + _SILENCE_S
        while time.monotonic() < deadline:
            for record in consumer.poll(timeout_ms=_POLL_MS, max_records=1).get(place, []):
                return to_record(record) if record.offset == offset else None
            if _is_at(consumer, {place: offset + 1}):
                return None  # compacted away, or part of a transaction that was aborted
        raise TransientError(f"Kafka: reading {partition.topic}: nothing came for {_SILENCE_S:g} s")


def find_unreadable(config: KafkaConfig, positions: Mapping[Partition, int]) -> Partition | None:
    """Which partition has a record at its position that cannot be read; blocks for some seconds at most.

    Args:
        positions: the next offset to read, by partition.
    """
    for partition, offset in positions.items():
        client = Client(KafkaConsumer, config, group_id=None, **fetch_settings(config))
        try:
            place = TopicPartition(partition.topic, partition.number)
            client.api.assign([place])
            client.api.seek(place, offset)
            client.api.poll(timeout_ms=2 * _POLL_MS, max_records=1)
        except Exception as error:  # of whatever kind: that a record makes the client raise it is the answer
            if is_unreadable(error):
                return partition
        finally:
            client.drop()
    return None


@contextmanager
def _consumer(config: KafkaConfig, topic: str) -> Iterator[KafkaConsumer]:
    client = Client(KafkaConsumer, config, group_id=None, **fetch_settings(config))
    try:
        yield client.api
    except KafkaError as error:
        raise mapped(error, f"reading topic {topic}") from error
    finally:
        client.drop()


def _is_at(consumer: KafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    """Whether every position is there; control records count, so offsets of records alone do not say."""
    positions = {place: consumer.position(place, timeout_ms=_POLL_MS) for place in ends}
    return all(position is not None and position >= ends[place] for place, position in positions.items())


def _timestamp(milliseconds: int | None) -> datetime | None:
    """None for one that no clock can have set: a producer may write anything."""
    if milliseconds is None or milliseconds < 0:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None

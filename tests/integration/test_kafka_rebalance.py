"""Several members of one group, on a real Apache Kafka: who has what, and what is committed."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from tests.kafka.broker import Broker
from tests.kafka.helpers import (
    committed,
    fill,
    new_topic,
    next_offsets,
    numbered,
    poll_until,
    raw_producer,
    settings,
    take,
)
from worker.errors import TransientError
from worker.observe.metrics import Metrics
from worker.sections import KafkaConfig
from worker.transport.base import Partition, Record
from worker.transport.kafka.clients import read_topic
from worker.transport.kafka.source import KafkaSource


def test_partitions_that_a_member_keeps_go_on_while_another_joins(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=6), new_topic()
    first = KafkaSource(config, topic, Metrics())
    poll_until(lambda: len(_owned(first, topic, 6)) == 6, [first])
    epochs = {partition: first.epoch(partition) for partition in _owned(first, topic, 6)}
    arrivals: list[tuple[float, Partition]] = []
    with _steady_writer(config, topic, 6), _joining(config, topic) as joined:
        deadline = time.monotonic() + 30
        while not joined.is_set() or len(_owned(first, topic, 6)) != 3:
            assert time.monotonic() < deadline, "the second member got nothing"
            arrivals += [(time.monotonic(), record.partition) for record in first.poll(0.02)]
        settled = time.monotonic() + 1.0
        while time.monotonic() < settled:
            arrivals += [(time.monotonic(), record.partition) for record in first.poll(0.02)]
        kept = _owned(first, topic, 6)
        gap = max(_longest_gap(arrivals, partition) for partition in kept)
        print(f"longest gap of {len(kept)} kept partitions while a member joined: {gap:.2f} s")
    assert {first.epoch(partition) for partition in kept} == {epochs[partition] for partition in kept}
    first.close()
    assert len(kept) == 3


def test_a_batch_whose_partition_was_revoked_is_not_committed(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=2), new_topic()
    fill(config, topic, numbered(40))
    first = KafkaSource(config, topic, Metrics())
    records = take(first, 40)
    second = KafkaSource(config, topic, Metrics())
    theirs: list[Record] = []
    poll_until(lambda: bool(theirs) and len(_owned(first, topic, 2)) == 1, [first, second], theirs)
    (kept,) = _owned(first, topic, 2)
    _commit(first, next_offsets(records), second)
    last = {record.partition.number: record.offset for record in records}
    (lost,) = {0, 1} - {kept.number}
    assert committed(config, topic, kept.number) == (last[kept.number] + 1, "")
    assert committed(config, topic, lost) is None
    first.close()
    second.close()


def test_what_was_not_committed_is_delivered_to_the_next_owner(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=2), new_topic()
    fill(config, topic, numbered(40))
    first = KafkaSource(config, topic, Metrics())
    take(first, 40)
    second = KafkaSource(config, topic, Metrics())
    theirs: list[Record] = []
    poll_until(lambda: len(_owned(second, topic, 2)) == 1, [first, second], theirs)
    (moved,) = _owned(second, topic, 2)
    poll_until(lambda: len(theirs) >= _count(config, topic, moved), [first, second], theirs)
    assert {record.partition for record in theirs} == {moved}
    assert [record.offset for record in theirs] == list(range(len(theirs)))
    first.close()
    second.close()


def test_a_partition_that_is_handed_over_in_order_carries_no_note(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=2), new_topic()
    fill(config, topic, numbered(40))
    first = KafkaSource(config, topic, Metrics())
    take(first, 40)
    first.mark({Partition(topic, number): "in flight" for number in (0, 1)})
    second = KafkaSource(config, topic, Metrics())
    theirs: list[Record] = []
    poll_until(lambda: bool(theirs), [first, second], theirs)
    moved = theirs[0].partition
    (kept,) = {0, 1} - {moved.number}
    assert second.note(moved) == ""
    assert committed(config, topic, kept) == (0, "in flight")
    first.close()
    second.close()


def test_a_member_that_leaves_hands_its_partitions_over_at_once(kafka: Broker) -> None:
    config, topic, metrics = settings(kafka, partitions=2, session_timeout_s=60.0), new_topic(), Metrics()
    fill(config, topic, numbered(10))
    first, second = KafkaSource(config, topic, Metrics()), KafkaSource(config, topic, metrics)
    both = [first, second]
    poll_until(lambda: [len(_owned(source, topic, 2)) for source in both] == [1, 1], both)
    first.close()
    poll_until(lambda: len(_owned(second, topic, 2)) == 2, [second])  # well within the session
    second.close()
    assert metrics.rebalances.labels("assigned")._value.get() >= 2


def test_a_commit_during_a_rebalance_is_recorded_once_that_is_over(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=2), new_topic()
    fill(config, topic, numbered(20))
    first = KafkaSource(config, topic, Metrics())
    records = take(first, 20)
    second = KafkaSource(config, topic, Metrics())
    with _polling(second):
        for _ in range(40):  # whatever state the join is in at each of them
            first.commit(next_offsets(records))
            first.poll(0.0)
    kept = _owned(first, topic, 2)
    for partition in kept:
        assert committed(config, topic, partition.number) == (next_offsets(records)[partition], "")
    first.close()
    second.close()


def _commit(source: KafkaSource, offsets: Mapping[Partition, int], other: KafkaSource) -> None:
    """Commit once the group has settled, which it does while all its members poll."""
    done = False

    def commits() -> bool:
        nonlocal done
        with suppress(TransientError):
            source.commit(offsets)
            done = True
        return done

    with _polling(other):
        poll_until(commits, [source])


@contextmanager
def _polling(source: KafkaSource) -> Iterator[None]:
    """A source polled on a thread of its own meanwhile."""
    end = threading.Event()

    def poll() -> None:
        while not end.is_set():
            source.poll(0.05)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _owned(source: KafkaSource, topic: str, partitions: int) -> list[Partition]:
    every = [Partition(topic, number) for number in range(partitions)]
    return [partition for partition in every if source.epoch(partition) is not None]


def _count(config: KafkaConfig, topic: str, partition: Partition) -> int:
    return sum(record.partition == partition for record in read_topic(config, topic))


def _longest_gap(arrivals: list[tuple[float, Partition]], partition: Partition) -> float:
    times = [at for at, where in arrivals if where == partition]
    return max(later - earlier for earlier, later in itertools.pairwise(times))


@contextmanager
def _steady_writer(config: KafkaConfig, topic: str, partitions: int) -> Iterator[None]:
    """A record to every partition each 20 ms."""
    end = threading.Event()
    producer = raw_producer(config)

    def write() -> None:
        while not end.wait(0.02):
            for number in range(partitions):
                producer.send(topic, b"value", partition=number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
        producer.close()


@contextmanager
def _joining(config: KafkaConfig, topic: str) -> Iterator[threading.Event]:
    """Another member, on a thread of its own; the event is set once it has records."""
    end, has_records = threading.Event(), threading.Event()

    def run() -> None:
        source = KafkaSource(config, topic, Metrics())
        while not end.is_set():
            if source.poll(0.02):
                has_records.set()
        source.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield has_records
    finally:
        end.set()
        thread.join()

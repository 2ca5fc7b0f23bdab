"""KafkaSource against a real Apache Kafka."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaTimeoutError

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
from worker.errors import ConfigError, FatalError, TransientError
from worker.observe.metrics import Metrics
from worker.transport.base import Partition, Record
from worker.transport.kafka.connection import admin
from worker.transport.kafka.source import KafkaSource
from worker.transport.kafka.topics import ensure_topic, partition_numbers


def test_a_record_is_delivered_as_it_was_produced(kafka: Broker) -> None:
    config, topic = settings(kafka), new_topic()
    ensure_topic(config, topic)
    producer = raw_producer(config)
    headers = [("b", b"\xff"), ("a", b""), ("b", b"2")]
    producer.send(topic, b"value", b"key", headers, timestamp_ms=1_700_000_000_123).get(timeout=10)
    producer.close()
    source = KafkaSource(config, topic, Metrics())
    (record,) = take(source, 1)
    source.close()
    assert (record.key, record.value, record.headers) == (b"key", b"value", tuple(headers))
    assert record.timestamp == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)


def test_a_tombstone_is_told_from_an_empty_value(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=1), new_topic()
    ensure_topic(config, topic)
    producer = raw_producer(config)
    producer.send(topic, None, b"gone")
    producer.send(topic, b"", b"empty").get(timeout=10)
    producer.close()
    source = KafkaSource(config, topic, Metrics())
    values = [record.value for record in take(source, 2)]
    source.close()
    assert values == [None, b""]


def test_a_timestamp_that_no_clock_has_set_is_left_out(kafka: Broker) -> None:
    config, topic = settings(kafka), new_topic()
    with admin(config, "making a topic") as client:
        client.create_topics({topic: {"configs": {"message.timestamp.after.max.ms": str(2**63 - 1)}}})
    producer = raw_producer(config)
    producer.send(topic, b"value", b"key", timestamp_ms=2**60).get(timeout=10)
    producer.close()
    source = KafkaSource(config, topic, Metrics())
    (record,) = take(source, 1)
    source.close()
    assert record.timestamp is None


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_is_read_back(kafka: Broker, compression: str) -> None:
    config, topic = settings(kafka, compression=compression), new_topic()
    fill(config, topic, numbered(50))
    source = KafkaSource(config, topic, Metrics())
    values = {record.value for record in take(source, 50)}
    source.close()
    assert values == {message.value for message in numbered(50)}


def test_the_next_member_begins_where_the_last_committed(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=1), new_topic()
    fill(config, topic, numbered(10))
    first = KafkaSource(config, topic, Metrics())
    records = take(first, 10)
    first.commit(next_offsets(records[:4]))
    first.close()
    second = KafkaSource(config, topic, Metrics())
    again = take(second, 6)
    second.close()
    assert [record.offset for record in again] == [4, 5, 6, 7, 8, 9]


def test_records_of_an_aborted_transaction_are_not_delivered_and_leave_no_lag(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=1), new_topic()
    ensure_topic(config, topic)
    producer = raw_producer(config, transactional_id=topic)
    producer.init_transactions()
    for value, end in ((b"no", producer.abort_transaction), (b"yes", producer.commit_transaction)):
        producer.begin_transaction()
        producer.send(topic, value, b"key")
        producer.flush(10)
        end()
    producer.close()
    source = KafkaSource(config, topic, Metrics())
    records = take(source, 1)
    poll_until(lambda: source.lag() == {Partition(topic, 0): 0}, [source])
    source.close()
    assert [record.value for record in records] == [b"yes"]


# -- notes ----------------------------------------------------------------------------------------


def test_a_note_stays_beside_later_commits(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=1), new_topic()
    fill(config, topic, numbered(3))
    source = KafkaSource(config, topic, Metrics())
    records = take(source, 3)
    source.mark({Partition(topic, 0): "in flight"})
    assert committed(config, topic, 0) == (0, "in flight")
    source.commit(next_offsets(records))
    assert committed(config, topic, 0) == (3, "in flight")
    source.close()


def test_closing_clears_the_note_and_keeps_the_offset(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=1), new_topic()
    fill(config, topic, numbered(3))
    source = KafkaSource(config, topic, Metrics())
    records = take(source, 3)
    source.commit(next_offsets(records[:2]))
    source.mark({Partition(topic, 0): "in flight"})
    source.close()
    assert committed(config, topic, 0) == (2, "")


def test_what_a_note_becomes_when_its_partition_is_left_can_be_chosen(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=1), new_topic()
    fill(config, topic, numbered(1))
    source = KafkaSource(config, topic, Metrics(), released=lambda note: note.removeprefix("in flight;"))
    take(source, 1)
    source.mark({Partition(topic, 0): "in flight;attempts=1"})
    source.close()
    assert committed(config, topic, 0) == (0, "attempts=1")


def test_the_note_of_a_killed_member_is_found_by_the_next(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=1), new_topic()
    fill(config, topic, numbered(1))
    command = [sys.executable, "-m", "tests.kafka.member", kafka.bootstrap, config.group, topic, "mine"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as member:
        assert member.stdout is not None
        assert member.stdout.readline() == "marked 0\n"
        member.kill()
    source = KafkaSource(config, topic, Metrics())
    (record,) = take(source, 1)
    note = source.note(record.partition)
    source.close()
    assert note == "mine"


def test_a_note_too_long_for_the_broker_does_not_spoil_later_commits(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=1), new_topic()
    fill(config, topic, numbered(1))
    source = KafkaSource(config, topic, Metrics())
    records = take(source, 1)
    with pytest.raises(TransientError, match="OffsetMetadataTooLarge"):
        source.mark({Partition(topic, 0): "x" * 5000})
    source.commit(next_offsets(records))
    source.close()
    assert committed(config, topic, 0) == (1, "")


# -- pause and membership -------------------------------------------------------------------------


def test_a_paused_source_delivers_nothing_and_stays_a_member(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=1, max_poll_interval_s=2.0), new_topic()
    fill(config, topic, numbered(5))
    source = KafkaSource(config, topic, Metrics())
    take(source, 5)
    epoch = source.epoch(Partition(topic, 0))
    source.pause()
    fill(config, topic, numbered(5, 5))
    until = time.monotonic() + 2 * config.max_poll_interval_s
    while time.monotonic() < until:
        assert source.poll(0.05) == []
    source.resume()
    records = take(source, 5)
    source.close()
    assert {record.epoch for record in records} == {epoch}


def test_partitions_assigned_while_paused_rest_too(kafka: Broker) -> None:
    config, topic = settings(kafka), new_topic()
    fill(config, topic, numbered(20))
    source = KafkaSource(config, topic, Metrics())
    source.pause()
    early: list[Record] = []
    poll_until(lambda: len(source.lag()) == 2, [source])
    for _ in range(10):
        early += source.poll(0.05)
    source.resume()
    records = take(source, 20)
    source.close()
    assert early == []
    assert len(records) == 20


def test_lag_is_told_while_paused(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=1), new_topic()
    fill(config, topic, numbered(5))
    source = KafkaSource(config, topic, Metrics())
    take(source, 5)
    source.pause()
    fill(config, topic, numbered(7))
    poll_until(lambda: source.lag() == {Partition(topic, 0): 7}, [source])
    source.close()


def test_a_member_that_did_not_poll_in_time_gets_its_records_again_under_a_new_epoch(kafka: Broker) -> None:
    config, topic, metrics = settings(kafka, partitions=1, max_poll_interval_s=1.0), new_topic(), Metrics()
    fill(config, topic, numbered(3))
    source = KafkaSource(config, topic, metrics)
    old = take(source, 3)
    time.sleep(2.5)  # as a main thread that hangs: the client leaves the group for it
    source.commit(next_offsets(old))  # brings on that the partition is lost, and commits nothing
    again = take(source, 3)
    source.close()
    assert [record.offset for record in again] == [0, 1, 2]
    assert {record.epoch for record in again} == {old[0].epoch + 1}
    assert committed(config, topic, 0) in {None, (0, "")}
    assert metrics.rebalances.labels("lost")._value.get() == 1


# -- where it begins and ends ---------------------------------------------------------------------


def test_latest_begins_at_the_end_and_holds_on_to_it(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=1, auto_offset_reset="latest"), new_topic()
    fill(config, topic, numbered(5))
    first = KafkaSource(config, topic, Metrics())
    poll_until(lambda: bool(first.lag()), [first])
    first.close()
    fill(config, topic, numbered(2, 5))  # while nobody is there
    second = KafkaSource(config, topic, Metrics())
    values = [record.value for record in take(second, 2)]
    second.close()
    assert values == [b"5", b"6"]


def test_where_the_committed_offset_is_gone_nothing_that_is_left_is_skipped(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=1, auto_offset_reset="latest"), new_topic()
    ensure_topic(config, topic)
    first = KafkaSource(config, topic, Metrics())
    poll_until(lambda: bool(first.lag()), [first])
    first.close()
    fill(config, topic, numbered(6))
    with admin(config, "trimming a topic") as client:
        client.delete_records({TopicPartition(topic, 0): 4})
    second = KafkaSource(config, topic, Metrics())
    values = [record.value for record in take(second, 2)]
    second.close()
    assert values == [b"4", b"5"]


def _fill_by_hours(broker: Broker, topic: str, count: int) -> datetime:
    """Records an hour apart; returns the time of the first."""
    first = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=count)
    producer = raw_producer(settings(broker))
    for hour in range(count):
        at = first + timedelta(hours=hour)
        producer.send(topic, str(hour).encode(), b"key", timestamp_ms=int(at.timestamp() * 1000))
    producer.flush(10)
    producer.close()
    return first


def test_start_at_and_until_deliver_what_lies_between(kafka: Broker) -> None:
    config, topic = settings(kafka), new_topic()
    ensure_topic(config, topic)
    first = _fill_by_hours(kafka, topic, 8)
    start_at, until = first + timedelta(hours=2), first + timedelta(hours=5)
    source = KafkaSource(config, topic, Metrics(), start_at=start_at, until=until)
    records: list[Record] = []
    poll_until(source.exhausted, [source], records)
    source.close()
    assert sorted(record.value or b"" for record in records) == [b"2", b"3", b"4"]


def test_a_source_with_an_end_is_exhausted_where_partitions_are_empty(kafka: Broker) -> None:
    config, topic = settings(kafka), new_topic()
    ensure_topic(config, topic)
    source = KafkaSource(config, topic, Metrics(), until=datetime.now(UTC) + timedelta(seconds=1))
    assert not source.exhausted()
    poll_until(source.exhausted, [source])
    source.close()


def test_a_source_without_an_end_is_never_exhausted(kafka: Broker) -> None:
    config, topic = settings(kafka), new_topic()
    fill(config, topic, numbered(1))
    source = KafkaSource(config, topic, Metrics())
    take(source, 1)
    assert not source.exhausted()
    source.close()


# -- topics ---------------------------------------------------------------------------------------


def test_a_missing_topic_is_made_with_the_configured_partitions(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=3), new_topic()
    source = KafkaSource(config, topic, Metrics())
    poll_until(lambda: len(source.lag()) == 3, [source])
    source.close()


def test_a_missing_topic_that_must_not_be_made_is_named(kafka: Broker) -> None:
    config, topic = settings(kafka, create_topics=False), new_topic()
    with pytest.raises(ConfigError, match=topic):
        KafkaSource(config, topic, Metrics())
    assert partition_numbers(config, topic) == []


def test_a_topic_that_cannot_be_replicated_so_often_is_an_error_of_configuration(kafka: Broker) -> None:
    with pytest.raises(ConfigError, match="InvalidReplicationFactor"):
        ensure_topic(settings(kafka, replication_factor=3), new_topic())


def test_a_topic_that_another_worker_makes_first_is_used(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, topic = settings(kafka, partitions=1), new_topic()
    create = KafkaAdminClient.create_topics

    def create_twice(client: KafkaAdminClient, *args: object, **kwargs: object) -> object:
        create(client, *args, **kwargs)
        return create(client, *args, **kwargs)

    monkeypatch.setattr(KafkaAdminClient, "create_topics", create_twice)
    ensure_topic(config, topic)
    assert partition_numbers(config, topic) == [0]


# -- broken clients and records -------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_client_whose_thread_died_is_built_anew_under_new_epochs(kafka: Broker) -> None:
    config, topic, metrics = settings(kafka, partitions=1), new_topic(), Metrics()
    fill(config, topic, numbered(3))
    source = KafkaSource(config, topic, metrics)
    old = take(source, 3)
    consumer = source._member.current
    assert consumer is not None
    loop = consumer._net
    loop._ready.append("no task")  # as a fault of the library: its loop ends with an exception
    loop.wakeup()
    again = take(source, 3)
    source.commit(next_offsets(again))
    source.close()
    assert again[0].epoch > old[0].epoch
    assert committed(config, topic, 0) == (3, "")
    assert metrics.rebuilds.labels("consumer")._value.get() >= 1


class _Latin(str):
    """A header's name that is not UTF-8: other clients can write one, the library's cannot."""

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        return b"caf\xe9"


def test_a_record_that_cannot_be_read_is_named_and_nothing_is_skipped(kafka: Broker) -> None:
    config, topic = settings(kafka), new_topic()
    ensure_topic(config, topic)
    producer = raw_producer(config)
    for number in range(3):
        producer.send(topic, str(number).encode(), partition=1).get(timeout=10)
    producer.send(topic, b"3", headers=[(_Latin("x"), b"")], partition=1).get(timeout=10)
    producer.close()
    source = KafkaSource(config, topic, Metrics())
    with pytest.raises(FatalError, match=r"partition 1, offset 3.*move group"):
        take(source, 1000)
    source.close()


def test_a_batch_that_was_damaged_on_the_brokers_disk_is_named(own_kafka: Broker) -> None:
    config, topic = settings(own_kafka, partitions=1, compression="none"), new_topic()
    fill(config, topic, numbered(1))
    fill(config, topic, numbered(1, 1))
    own_kafka.stop()
    (segment,) = (own_kafka.folder / "data" / f"{topic}-0").glob("*.log")
    damaged = bytearray(segment.read_bytes())
    damaged[-3] ^= 0xFF
    segment.write_bytes(damaged)
    own_kafka.start()
    source = KafkaSource(config, topic, Metrics())
    with pytest.raises(FatalError, match=r"partition 0, offset 1.*crc"):
        take(source, 1000)
    source.close()


# -- a broker that goes away ----------------------------------------------------------------------


@pytest.mark.parametrize("how", [pytest.param("stop", marks=pytest.mark.slow), "kill"])
def test_nothing_is_lost_when_the_broker_goes_and_comes_back(own_kafka: Broker, how: str) -> None:
    config, topic = settings(own_kafka, poll_records=20), new_topic()
    fill(config, topic, numbered(200))
    source = KafkaSource(config, topic, Metrics())
    records = take(source, 60)
    source.commit(next_offsets(records))
    getattr(own_kafka, how)()
    with pytest.raises(TransientError):
        source.commit(next_offsets(records))
    for _ in range(10):
        try:
            records += source.poll(0.05)
        except TransientError:
            time.sleep(0.05)
    own_kafka.start()
    fill(config, topic, numbered(50, 200))
    poll_until(lambda: len({record.value for record in records}) == 250, [source], records)
    source.close()


def test_a_broker_that_hangs_holds_up_neither_poll_nor_close(own_kafka: Broker) -> None:
    config, topic = settings(own_kafka), new_topic()
    fill(config, topic, numbered(5))
    source = KafkaSource(config, topic, Metrics())
    records = take(source, 5)
    source.mark(dict.fromkeys(next_offsets(records), "in flight"))
    own_kafka.freeze()
    begun = time.monotonic()
    for _ in range(5):
        source.poll(0.05)
    polled = time.monotonic()
    with pytest.raises(TransientError):
        source.commit(next_offsets(records))
    committed_at = time.monotonic()
    source.close()
    seconds = polled - begun, committed_at - polled, time.monotonic() - committed_at
    print("5 polls {:.2f} s, a commit {:.2f} s, close {:.2f} s".format(*seconds))
    own_kafka.thaw()
    assert source.epoch(records[0].partition) is None


def test_brokers_that_went_silent_are_noticed_and_their_return_too(
    own_kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.transport.kafka.source._SILENT_S", 1.0)
    config, topic = settings(own_kafka), new_topic()
    fill(config, topic, numbered(5))
    source = KafkaSource(config, topic, Metrics())
    records = take(source, 5)
    assert source.away() == ""
    for go, come_back in ((own_kafka.freeze, own_kafka.thaw), (own_kafka.kill, own_kafka.start)):
        go()
        poll_until(lambda: topic in source.away(), [source], records)
        come_back()
        poll_until(lambda: not source.away(), [source], records)
    source.close()


def test_brokers_that_deliver_are_not_away_though_the_ends_of_partitions_cannot_be_had(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_leader(*args: object, **kwargs: object) -> None:
        raise KafkaTimeoutError("one of the partitions has no leader")

    monkeypatch.setattr("worker.transport.kafka.source._SILENT_S", 0.0)
    config, topic = settings(kafka), new_topic()
    source = KafkaSource(config, topic, Metrics())
    poll_until(lambda: bool(source.lag()), [source])
    consumer = source._member.current
    assert consumer is not None
    monkeypatch.setattr(consumer, "end_offsets", no_leader)
    poll_until(lambda: source.away() != "", [source])
    fill(config, topic, numbered(5))
    polled = 0
    while not polled:
        polled = len(source.poll(0.5))
        assert not (polled and source.away())
    source.close()


def test_no_broker_at_all_is_said_so(own_kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.transport.kafka.connection._CONNECT_S", 2.0)
    config = settings(own_kafka)
    own_kafka.kill()
    with pytest.raises(TransientError, match=r"cannot be reached: .*refused"):
        KafkaSource(config, new_topic(), Metrics())

"""KafkaSink and Producer against a real Apache Kafka."""

from __future__ import annotations

import time

import pytest

from tests.kafka.broker import Broker
from tests.kafka.helpers import fill, new_topic, numbered, settings
from worker.errors import ConfigError, TransientError
from worker.observe.metrics import Metrics
from worker.transport.base import Message, Partition
from worker.transport.kafka.clients import check, read_at, read_topic
from worker.transport.kafka.connection import admin
from worker.transport.kafka.errors import TooLarge
from worker.transport.kafka.sink import KafkaSink, Producer
from worker.transport.kafka.topics import ensure_topic, max_request_bytes


def test_what_is_written_is_there_once_write_returns(kafka: Broker) -> None:
    config, topic = settings(kafka), new_topic()
    sink = KafkaSink(config, topic, Metrics())
    headers = (("reason", b"\xff"), ("reason", b"again"))
    sink.write([Message(b"key", b"value", headers), *numbered(100)])
    records = list(read_topic(config, topic))
    sink.close()
    assert len(records) == 101
    assert next(record.headers for record in records if record.key == b"key") == headers


def test_messages_of_one_key_stay_in_order(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=4), new_topic()
    fill(config, topic, [Message(b"key", str(number).encode()) for number in range(300)])
    assert [record.value for record in read_topic(config, topic)] == [str(n).encode() for n in range(300)]


def test_a_message_over_the_configured_size_is_told_and_the_others_are_written(kafka: Broker) -> None:
    config, topic = settings(kafka, request_bytes=10_000), new_topic()
    sink = KafkaSink(config, topic, Metrics())
    messages = [Message(b"a", b"1"), Message(b"b", b"x" * 20_000), Message(b"c", b"3")]
    with pytest.raises(TooLarge, match="20001 bytes") as caught:
        sink.write(messages)
    sink.close()
    assert caught.value.indices == (1,)
    assert {record.key for record in read_topic(config, topic)} == {b"a", b"c"}


def test_a_message_over_the_topics_own_size_is_told_and_the_others_are_written(kafka: Broker) -> None:
    config, topic = settings(kafka, compression="none"), new_topic()
    _make_small_topic(kafka, topic)
    sink = KafkaSink(config, topic, Metrics())
    messages = [Message(b"a", b"1"), Message(b"b", b"x" * 5000), Message(b"c", b"3")]
    with pytest.raises(TooLarge) as caught:
        sink.write(messages)
    sink.close()
    assert caught.value.indices == (1,)
    assert {record.key for record in read_topic(config, topic)} == {b"a", b"c"}


def test_the_smaller_of_both_sizes_is_what_a_record_may_have(kafka: Broker) -> None:
    config, topic = settings(kafka, request_bytes=500_000), new_topic()
    small = new_topic()
    ensure_topic(config, topic)
    _make_small_topic(kafka, small)
    assert (max_request_bytes(config, topic), max_request_bytes(config, small)) == (500_000, 2000)


def test_a_message_of_megabytes_goes_through(kafka: Broker) -> None:
    config, topic = settings(kafka, request_bytes=9 << 20, compression="none"), new_topic()
    with admin(config, "making a topic") as client:
        client.create_topics({topic: {"configs": {"max.message.bytes": str(10 << 20)}}})
    fill(config, topic, [Message(b"key", bytes(8 << 20))])
    (record,) = read_topic(config, topic)
    assert len(record.value or b"") == 8 << 20


def test_a_sink_leaves_a_shared_producer_open(kafka: Broker) -> None:
    config, metrics = settings(kafka), Metrics()
    producer = Producer(config, metrics)
    first, second = (KafkaSink(config, new_topic(), metrics, producer=producer) for _ in range(2))
    first.close()
    second.write(numbered(1))
    producer.close()
    with pytest.raises(TransientError, match="closed"):
        first.write(numbered(1))


def test_a_broker_that_is_away_is_transient_and_the_next_write_uses_a_new_producer(own_kafka: Broker) -> None:
    config, topic, metrics = settings(own_kafka), new_topic(), Metrics()
    producer = Producer(config, metrics, delivery_s=12.0)
    sink = KafkaSink(config, topic, metrics, producer=producer)
    sink.write(numbered(1))
    own_kafka.kill()
    with pytest.raises(TransientError, match=topic):
        sink.write(numbered(1, 1))
    own_kafka.start()
    sink.write(numbered(1, 1))
    producer.close()
    assert {record.value for record in read_topic(config, topic)} == {b"0", b"1"}
    assert metrics.rebuilds.labels("producer")._value.get() == 1


def test_a_broker_that_hangs_does_not_hold_up_close(own_kafka: Broker) -> None:
    config, topic = settings(own_kafka), new_topic()
    sink = KafkaSink(config, topic, Metrics())
    own_kafka.freeze()
    begun = time.monotonic()
    sink.close()
    print(f"closed in {time.monotonic() - begun:.2f} s")
    own_kafka.thaw()
    assert list(read_topic(config, topic)) == []


# -- what the rest of the worker asks -------------------------------------------------------------


def test_check_says_what_it_found(kafka: Broker) -> None:
    assert check(settings(kafka)).endswith(kafka.bootstrap)


def test_a_topic_is_read_up_to_where_it_ended_at_the_start(kafka: Broker) -> None:
    config, topic = settings(kafka), new_topic()
    fill(config, topic, numbered(5))
    records = read_topic(config, topic)
    first = next(records)
    fill(config, topic, numbered(5, 5))
    assert {first.value, *(record.value for record in records)} == {b"0", b"1", b"2", b"3", b"4"}


def test_reading_a_topic_that_is_missing_is_said_so_and_makes_none(kafka: Broker) -> None:
    topic = new_topic()
    with pytest.raises(ConfigError, match=topic):
        list(read_topic(settings(kafka), topic))
    with pytest.raises(ConfigError, match=topic):
        list(read_topic(settings(kafka), topic))


def test_one_record_is_read_by_its_place(kafka: Broker) -> None:
    config, topic = settings(kafka, partitions=1), new_topic()
    fill(config, topic, numbered(5))
    record = read_at(config, Partition(topic, 0), 3)
    assert record is not None
    assert record.value == b"3"


@pytest.mark.parametrize(("number", "offset"), [(0, 5), (0, 10**9), (7, 0)])
def test_a_record_that_is_not_there_is_none(kafka: Broker, number: int, offset: int) -> None:
    config, topic = settings(kafka, partitions=1), new_topic()
    fill(config, topic, numbered(5))
    assert read_at(config, Partition(topic, number), offset) is None


def _make_small_topic(kafka: Broker, topic: str) -> None:
    with admin(settings(kafka), "making a topic") as client:
        client.create_topics({topic: {"configs": {"max.message.bytes": "2000"}}}, wait_for_metadata=True)

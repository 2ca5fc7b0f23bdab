"""Messages to a topic: `write` returns once every one is acknowledged by all in-sync replicas."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

import structlog
from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.producer.future import FutureRecordMetadata

from worker.errors import TransientError
from worker.observe.metrics import Metrics
from worker.sections import KafkaConfig
from worker.transport.base import Message
from worker.transport.kafka.connection import Client
from worker.transport.kafka.errors import TooLarge, describe, is_too_large, mapped
from worker.transport.kafka.topics import ensure_topic

_MARGIN_S = 5.0  # that the client has to report a record it gave up
_CLOSE_S = 2.0

log = structlog.stdlib.get_logger("worker.kafka")


class Producer:
    """One idempotent producer for several sinks. Thread-safe.

    A producer that failed to deliver is closed and the next call builds another, so that nothing it still
    holds goes out behind what is written later.

    Args:
        delivery_s: after which a record that is not acknowledged is given up; 10 s at least.

    Raises:
        ConfigError, TransientError: it cannot be opened; see `Client`.
    """

    def __init__(self, config: KafkaConfig, metrics: Metrics, *, delivery_s: float = 25.0) -> None:
        self._delivery_s = delivery_s
        self._config = config
        self._metrics = metrics
        self._lock = threading.Lock()
        self._client: Client[KafkaProducer] | None = self._open()

    def send(self, topic: str, messages: Sequence[Message]) -> None:
        """Send all and wait for all; blocks for `delivery_s` and about 10 s more at most, unless some are
        too large, which are then found one by one.

        Raises:
            TransientError: some may be unwritten.
            ConfigError: the topic must not be written.
            TooLarge: some are too large; the others are written.
        """
        too_large, suspects = self._attempt(topic, messages)
        for index in suspects:
            # Refused for its size, or for that of another: after one the library fails all it holds.
            if any(self._attempt(topic, [messages[index]])):
                too_large.append(index)
        if too_large:
            raise TooLarge(topic, sorted(too_large), [_size(messages[index]) for index in too_large])

    def close(self) -> None:
        """Let go of it within about 3 s; never raises."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            _close(client)

    def _attempt(self, topic: str, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        """Send and wait; the indices that the client refused for their size, and that the broker did."""
        client = self._ready()
        too_large: list[int] = []
        suspects: list[int] = []
        try:
            futures = self._enqueue(client.api, topic, messages, too_large)
            self._wait(futures, suspects)
        except KafkaError as error:
            self._discard(client)
            raise mapped(error, f"writing to topic {topic}") from error
        if suspects:
            self._discard(client)
        return too_large, suspects

    def _enqueue(
        self, api: KafkaProducer, topic: str, messages: Sequence[Message], too_large: list[int]
    ) -> dict[int, FutureRecordMetadata]:
        futures: dict[int, FutureRecordMetadata] = {}
        for index, message in enumerate(messages):
            try:
                futures[index] = api.send(topic, message.value, message.key, list(message.headers))
            except KafkaError as error:
                if not is_too_large(error):
                    raise
                too_large.append(index)
        return futures

    def _wait(self, futures: Mapping[int, FutureRecordMetadata], suspects: list[int]) -> None:
        deadline = time.monotonic() + self._delivery_s + _MARGIN_S
        for index, future in futures.items():
            try:
                future.get(timeout=max(0.0, deadline - time.monotonic()))
            except KafkaError as error:
                if not is_too_large(error):
                    raise
                suspects.append(index)

    def _ready(self) -> Client[KafkaProducer]:
        with self._lock:
            if self._client is None:
                self._client = self._open()
                self._metrics.rebuilds.labels("producer").inc()
            return self._client

    def _discard(self, client: Client[KafkaProducer]) -> None:
        with self._lock:
            if self._client is not client:
                return  # another thread did
            self._client = None
        _close(client, 0.0)

    def _open(self) -> Client[KafkaProducer]:
        compression = self._config.compression
        return Client(
            KafkaProducer,
            self._config,
            acks="all",
            enable_idempotence=True,
            compression_type=None if compression == "none" else compression,
            max_request_size=self._config.request_bytes,
            delivery_timeout_ms=int(self._delivery_s * 1000),
            max_block_ms=int(self._delivery_s * 1000),
            linger_ms=2,
            batch_size=256 << 10,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )


class KafkaSink:
    """A `Sink` over one topic, which is made if it is missing. Thread-safe; see `Producer.send`.

    Args:
        producer: shared with other sinks, and then closed by whoever made it; None for one of its own.

    Raises:
        ConfigError: the topic cannot be used.
        TransientError: no broker answered.
    """

    def __init__(
        self, config: KafkaConfig, topic: str, metrics: Metrics, *, producer: Producer | None = None
    ) -> None:
        ensure_topic(config, topic)
        self._topic = topic
        self._own = None if producer else Producer(config, metrics)
        self._producer = producer or self._own

    def write(self, messages: Sequence[Message]) -> None:
        """Write all and return once all are acknowledged; see `Producer.send`."""
        if self._producer is None:
            raise TransientError(f"the sink of topic {self._topic} is closed")
        if messages:
            self._producer.send(self._topic, messages)

    def close(self) -> None:
        """Release its own producer within about 3 s; never raises."""
        self._producer = None
        if self._own is not None:
            self._own.close()


def _close(client: Client[KafkaProducer], timeout_s: float = _CLOSE_S) -> None:
    """The library raises where something is unsent, and then leaves its thread running."""
    try:
        client.api.close(timeout=timeout_s)
    except KafkaError as error:
        log.warning("producer closed with unsent records", error=describe(error))
    sender = client.api._sender
    sender.force_close()
    sender.join(_CLOSE_S)
    if not sender.is_alive():
        client.drop()


def _size(message: Message) -> int:
    return len(message.value) + len(message.key)

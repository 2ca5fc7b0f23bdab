"""The group member behind a source: opened, supervised, and built anew where it breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import structlog
import tenacity
from kafka import KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError

from worker.errors import FatalError, TransientError, WorkerError
from worker.observe.metrics import Metrics
from worker.sections import KafkaConfig
from worker.transport.base import Partition
from worker.transport.kafka.assignment import Assignment, Listener, Offsets, released_offsets
from worker.transport.kafka.clients import fetch_settings, find_unreadable
from worker.transport.kafka.connection import Client
from worker.transport.kafka.errors import describe, is_unreadable, mapped

_LEARN_S = 5.0
_LEAVE_S = 1.0
_HEARTBEAT_S = 0.5  # how soon a member hears that another joins, during which nobody gets records
_LONGEST_PAUSE_S = 10.0

log = structlog.stdlib.get_logger("worker.kafka")


class GroupConsumer:
    """The library's consumer as a member of a group. One thread.

    Args:
        assignment: kept up to date with what the member has.
        released: see `KafkaSource`.

    Raises:
        ConfigError: credentials or settings that cannot work.
        TransientError: no broker answered.
    """

    def __init__(
        self,
        config: KafkaConfig,
        topic: str,
        metrics: Metrics,
        assignment: Assignment,
        released: Callable[[str], str],
    ) -> None:
        self._config, self._topic, self._metrics = config, topic, metrics
        self._assignment, self._released = assignment, released
        self._failures = 0
        self._retry_at_s = 0.0
        self._last_unreadable = ""
        self._client: Client[KafkaConsumer] | None = self._open()

    @property
    def current(self) -> KafkaConsumer | None:
        """The consumer; None after it broke, until it is built anew."""
        return self._client.api if self._client else None

    def get(self) -> KafkaConsumer:
        """The consumer, built anew if need be, which blocks for at most about 20 s.

        Raises:
            TransientError: not yet, or no broker answered.
            ConfigError: it can no longer be built.
        """
        if self._client is None:
            wait_s = self._retry_at_s - time.monotonic()
            if wait_s > 0:
                raise TransientError(f"Kafka: the client is built anew in {wait_s:.1f} s", wait_s)
            self._client = self._open()
            self._metrics.rebuilds.labels("consumer").inc()
        return self._client.api

    def works(self) -> None:
        """It delivered something: the next failure is a first one."""
        self._failures = 0

    def leave(self, event: str) -> None:
        """Leave the group and close; blocks for a second at most and never raises.

        Args:
            event: how its partitions went, as `Assignment.gone` counts it.
        """
        if self._client is None:
            return
        client, self._client = self._client, None
        self._assignment.clear(event)
        try:
            client.api.close(autocommit=False, timeout_ms=_LEAVE_S * 1000)
        except Exception as error:  # a client that is broken may raise anything here too
            log.info("consumer not closed in order", error=describe(error))
        finally:
            client.drop()

    def broke(self, error: Exception) -> WorkerError:
        """What to raise for an error out of the client.

        Unless it only asks for patience or cannot be helped, the client is closed, to be built anew.
        """
        if isinstance(error, WorkerError):
            return error
        unreadable = is_unreadable(error)
        if isinstance(error, KafkaError) and not unreadable:
            failure = mapped(error, f"reading topic {self._topic}")
            if error.retriable or not isinstance(failure, TransientError):
                return failure
        positions = {partition: owned.position for partition, owned in self._assignment.items()}
        self.leave("lost")
        if unreadable and describe(error) == self._last_unreadable:
            return self._unreadable(error, positions)  # no accident on the way here: it comes again
        self._last_unreadable = describe(error) if unreadable else ""
        self._failures += 1
        pause_s = min(_LONGEST_PAUSE_S, 0.1 * 2**self._failures)
        self._retry_at_s = time.monotonic() + pause_s
        log.warning("consumer broke; it is built anew", error=describe(error), in_s=pause_s)
        return TransientError(f"Kafka: the client broke: {describe(error)}", pause_s)

    def _unreadable(self, error: Exception, positions: Mapping[Partition, int]) -> FatalError:
        found = find_unreadable(self._config, positions)
        if found is None:
            return FatalError(f"Kafka: the client breaks again and again: {describe(error)}")
        return FatalError(
            f"topic {self._topic} cannot be read at partition {found.number}, offset {positions[found]}: "
            f"{describe(error)}. To go on without this record, move group {self._config.group} past it."
        )

    def _open(self) -> Client[KafkaConsumer]:
        config = self._config
        client = Client(
            KafkaConsumer,
            config,
            group_id=config.group,
            partition_assignment_strategy=[CooperativeStickyAssignor()],
            max_poll_records=config.poll_records,
            session_timeout_ms=int(config.session_timeout_s * 1000),
            heartbeat_interval_ms=int(min(_HEARTBEAT_S, config.session_timeout_s / 4) * 1000),
            max_poll_interval_ms=int(config.max_poll_interval_s * 1000),
            **fetch_settings(config),
        )
        consumer = client.api

        def release(places: Iterable[TopicPartition]) -> None:
            if offsets := released_offsets(self._assignment, places, self._released):
                consumer.commit_async(offsets, callback=_log_release)

        listener = Listener(self._assignment, lambda places: consumer.pause(*places), release)
        consumer.subscribe([self._topic], listener=listener)
        _learn(consumer, self._topic)
        return client


def _learn(consumer: KafkaConsumer, topic: str) -> None:
    """Wait until the client knows the topic's partitions, at most 5 s.

    Its subscription asks for them, but an answer that was under way just then makes it forget that. As the
    leader of the group it would assign nothing to anybody, until its metadata are old enough.
    """

    def known() -> bool:
        if consumer._cluster.partitions_for_topic(topic) is not None:
            return True
        consumer._cluster.request_update()
        return False

    tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda is_known: not is_known),
        wait=tenacity.wait_fixed(0.02),
        stop=tenacity.stop_after_delay(_LEARN_S),
        retry_error_callback=lambda state: False,
    )(known)


def _log_release(offsets: Offsets, outcome: object) -> None:
    if isinstance(outcome, Exception):
        log.info("notes not cleared", error=describe(outcome))

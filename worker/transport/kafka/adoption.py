"""A partition that is newly ours: where it begins, and the note its last owner left."""

from __future__ import annotations

import time
from datetime import datetime

import structlog
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError

from worker.transport.kafka.assignment import Assignment, Owned, to_place
from worker.transport.kafka.errors import describe

log = structlog.stdlib.get_logger("worker.kafka")


def adopt(
    consumer: KafkaConsumer,
    assignment: Assignment,
    *,
    latest: bool,
    start_at: datetime | None,
    timeout_s: float,
) -> None:
    """Find the start of what is newly ours; until then the client must not fetch it. Blocks for at most
    `timeout_s`, and does nothing where nothing is new.

    Args:
        latest: partitions without commits begin at their end instead of their beginning.
        start_at: they begin with the first record of this time or later, or else at their end.

    Raises:
        KafkaError: not all was found out; those that were are adopted.
    """
    deadline = time.monotonic() + timeout_s
    for partition, owned in assignment.items():
        if not owned.adopted:
            _adopt(consumer, to_place(partition), owned, latest, start_at, deadline)


def _adopt(
    consumer: KafkaConsumer,
    place: TopicPartition,
    owned: Owned,
    latest: bool,
    start_at: datetime | None,
    deadline: float,
) -> None:
    committed = consumer.committed(place, metadata=True, timeout_ms=_left_ms(deadline))
    if committed is not None:
        owned.committed, owned.note = committed.offset, committed.metadata or ""
        if start_at is not None:
            log.warning("the group goes on where it was, not at --from", partition=place.partition)
    else:
        owned.committed = _start(consumer, place, latest, start_at, _left_ms(deadline))
        if latest or start_at is not None:
            _pin(consumer, place, owned.committed, _left_ms(deadline))
    owned.position = owned.committed
    consumer.seek(place, owned.committed)
    owned.adopted = True


def _start(
    consumer: KafkaConsumer,
    place: TopicPartition,
    latest: bool,
    start_at: datetime | None,
    timeout_ms: float,
) -> int:
    """Where a partition without commits begins."""
    if start_at is not None:
        wanted = {place: int(start_at.timestamp() * 1000)}
        found = consumer.offsets_for_times(wanted, timeout_ms=timeout_ms)[place]
        if found is not None and found.offset >= 0:
            return int(found.offset)
    if latest or start_at is not None:
        return int(consumer.end_offsets([place], timeout_ms=timeout_ms)[place])
    return int(consumer.beginning_offsets([place], timeout_ms=timeout_ms)[place])


def _pin(consumer: KafkaConsumer, place: TopicPartition, offset: int, timeout_ms: float) -> None:
    """Commit the start, so that whoever comes next does not begin at an end that has moved on."""
    try:
        consumer.commit({place: OffsetAndMetadata(offset, "", -1)}, timeout_ms=timeout_ms)
    except KafkaError as error:
        log.info("start of a partition not committed", partition=place.partition, error=describe(error))


def _left_ms(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise KafkaTimeoutError("the start of the partitions was not found in time")
    return left_s * 1000

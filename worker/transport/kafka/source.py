"""Records from a topic, as a member of a consumer group.

The client's own thread heartbeats and hears of rebalances; everything else happens on the thread that
calls. A client that breaks is closed and built anew, under new epochs, so nothing delivered by the old
one is committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import structlog
import tenacity
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError, OffsetMetadataTooLargeError

from worker.errors import TransientError, WorkerError
from worker.observe.metrics import Metrics
from worker.sections import KafkaConfig
from worker.transport.base import Partition, Record
from worker.transport.kafka.adoption import adopt
from worker.transport.kafka.assignment import (
    Assignment,
    Offsets,
    Owned,
    noted,
    released_offsets,
    to_partition,
    to_place,
)
from worker.transport.kafka.clients import to_record
from worker.transport.kafka.consumer import GroupConsumer
from worker.transport.kafka.errors import asks_for_poll, describe, mapped
from worker.transport.kafka.topics import ensure_topic

_COMMIT_S = 5.0
_ADOPT_S = 5.0
_MEASURE_S = 1.0
_SILENT_S = 10.0  # a partition that changes its leader is silent for less
_CLEAN_S = 1.5

log = structlog.stdlib.get_logger("worker.kafka")


class KafkaSource:
    """A `Source` over one topic, which is made if it is missing. One thread; `epoch` may be asked by any.

    Args:
        start_at: where partitions without commits begin, instead of where the configuration says.
        until: records of this time and later are not delivered; with it the source can be exhausted.
        released: what a note becomes when its partition is left in order; by default nothing stays.

    Raises:
        ConfigError: credentials, topic or settings that cannot work.
        TransientError: no broker answered.
    """

    def __init__(
        self,
        config: KafkaConfig,
        topic: str,
        metrics: Metrics,
        *,
        start_at: datetime | None = None,
        until: datetime | None = None,
        released: Callable[[str], str] = lambda note: "",
    ) -> None:
        ensure_topic(config, topic)
        self._group, self._topic = config.group, topic
        self._latest = config.auto_offset_reset == "latest"
        self._start_at, self._until, self._released = start_at, until, released
        self._assignment = Assignment(metrics)
        self._paused = False
        self._measure_at_s = 0.0
        self._silent_since_s: float | None = None  # since when no broker has said where partitions end
        self._member = GroupConsumer(config, topic, metrics, self._assignment, released)

    # -- delivery -----------------------------------------------------------------------------

    def poll(self, timeout_s: float) -> Sequence[Record]:
        """Return the next records, at most after `timeout_s`; empty when there are none or when paused.

        May block for 5 s more after a rebalance, and for 20 s where the client is built anew.

        Raises:
            TransientError: the client broke or the broker is away; poll again.
            ConfigError: credentials, permissions or the group do not allow it any more.
            FatalError: a record cannot be read; it says which.
        """
        consumer = self._member.get()
        try:
            adopt(
                consumer,
                self._assignment,
                latest=self._latest,
                start_at=self._start_at,
                timeout_s=_ADOPT_S,
            )
            self._measure(consumer)
            self._rest()
            # Nothing that asks the broker may come after this: its failure would lose what was polled.
            polled = consumer.poll(timeout_ms=timeout_s * 1000)
            if polled:
                self._silent_since_s = None  # one partition without a leader hides the ends of all of them
            self._reconcile(consumer)
        except Exception as error:  # whatever broke in the client's thread, or killed it, is raised here
            raise self._member.broke(error) from error
        return [record for place, batch in polled.items() for record in self._delivered(place, batch)]

    def pause(self) -> None:
        """Deliver nothing until `resume`, keeping the membership; `poll` must still be called."""
        self._paused = True
        self._rest()

    def resume(self) -> None:
        """Deliver again."""
        self._paused = False
        self._rest()

    def epoch(self, partition: Partition) -> int | None:
        """The assignment of this partition as of now; None if it is not ours any more. Any thread."""
        return self._assignment.epoch(partition)

    def lag(self) -> Mapping[Partition, int]:
        """Records that are there and not yet delivered, as of at most a second ago. Does not block."""
        return {
            partition: max(0, owned.end - owned.position)
            for partition, owned in self._assignment.items()
            if owned.end is not None
        }

    def away(self) -> str:
        """Whether no broker has answered for a while: the client itself waits for ever, and says nothing."""
        if self._silent_since_s is None or time.monotonic() - self._silent_since_s < _SILENT_S:
            return ""
        return f"Kafka: nobody has told for {_SILENT_S:g} s or longer where topic {self._topic} ends"

    def exhausted(self) -> bool:
        """True once all partitions of ours were delivered up to `until`; never without it."""
        if self._until is None or not self._assignment.was_assigned:
            return False
        owned = self._assignment.items()
        return bool(owned) and all(state.done for _, state in owned)

    # -- commits ------------------------------------------------------------------------------

    def commit(self, next_offsets: Mapping[Partition, int]) -> None:
        """Record that everything below these offsets is done; what is not ours any more is left out.

        Blocks for at most about 5 s. It may bring on a rebalance, after which epochs have changed.

        Raises:
            TransientError: not recorded; poll, and make the same call again.
        """
        epochs = self._epochs(next_offsets)
        self._commit(lambda: noted(self._assignment, next_offsets, epochs), _COMMIT_S)

    def mark(self, notes: Mapping[Partition, str]) -> None:
        """Keep a note with each partition; see `commit`. A note that failed goes with the next commit.

        Raises:
            TransientError: not recorded now; or never, where it is too long for the broker.
        """
        epochs = self._epochs(notes)
        before: dict[Partition, str] = {}
        offsets: dict[Partition, int] = {}
        for partition, note in notes.items():
            if (owned := self._assignment.get(partition)) is not None:
                before[partition], offsets[partition] = owned.note, owned.committed
                owned.note = note
        try:
            self._commit(lambda: noted(self._assignment, offsets, epochs), _COMMIT_S)
        except TransientError as error:
            if isinstance(error.__cause__, OffsetMetadataTooLargeError):
                self._restore(before)
            raise

    def note(self, partition: Partition) -> str:
        """The note that was left with a partition of ours; empty if none. Does not block: it is read when
        the partition is assigned, before any record of it is delivered.
        """
        owned = self._assignment.get(partition)
        return owned.note if owned else ""

    def close(self, *, clean: bool = True) -> None:
        """Clear the notes and leave the group; blocks for about 3 s at most and never raises.

        Args:
            clean: False leaves the notes as they stand.
        """
        places = [to_place(partition) for partition, _ in self._assignment.items() if clean]
        try:
            self._commit(lambda: released_offsets(self._assignment, places, self._released), _CLEAN_S)
        except WorkerError as error:
            log.info("notes not cleared", error=str(error))
        self._member.leave("revoked")

    def _epochs(self, partitions: Iterable[Partition]) -> dict[Partition, int | None]:
        return {partition: self._assignment.epoch(partition) for partition in partitions}

    def _restore(self, notes: Mapping[Partition, str]) -> None:
        for partition, note in notes.items():
            if (owned := self._assignment.get(partition)) is not None:
                owned.note = note

    def _commit(self, offsets_now: Callable[[], Offsets], timeout_s: float) -> None:
        """Commit what is ours, by then, at each attempt; between them a rebalance is brought on."""
        consumer = self._member.current
        if consumer is None:
            raise TransientError("Kafka: committing: the client is being built anew")
        deadline = time.monotonic() + timeout_s
        try:
            tenacity.Retrying(
                retry=tenacity.retry_if_exception(asks_for_poll),
                stop=tenacity.stop_after_delay(timeout_s),
                before_sleep=lambda state: self._bring_on_rebalance(consumer),
                reraise=True,
            )(lambda: self._commit_once(consumer, offsets_now(), deadline))
        except KafkaError as error:
            raise mapped(error, f"committing to group {self._group}") from error
        except Exception as error:  # as in `poll`
            raise self._member.broke(error) from error

    def _commit_once(self, consumer: KafkaConsumer, offsets: Offsets, deadline: float) -> None:
        if not offsets:
            return
        consumer.commit(offsets, timeout_ms=max(100.0, (deadline - time.monotonic()) * 1000))
        for place, committed in offsets.items():
            if (owned := self._assignment.get(to_partition(place))) is not None:
                owned.committed = committed.offset

    def _bring_on_rebalance(self, consumer: KafkaConsumer) -> None:
        """Only a poll does that. Everything rests meanwhile, so it delivers nothing."""
        consumer.pause(*consumer.assignment())
        for place, batch in consumer.poll(timeout_ms=100).items():
            consumer.seek(place, batch[0].offset)  # not expected; all the same nothing may be passed over
        self._reconcile(consumer)
        self._rest()

    # -- bookkeeping --------------------------------------------------------------------------

    def _delivered(self, place: TopicPartition, batch: Sequence[ConsumerRecord]) -> Iterable[Record]:
        owned = self._assignment.get(to_partition(place))
        if owned is None or not owned.adopted:
            return []
        records = []
        for raw in batch:
            record = to_record(raw, owned.epoch)
            if self._is_past(record, owned):
                owned.done = True
                self._rest()
                break
            records.append(record)
            owned.position = record.offset + 1
        if records:
            self._member.works()
        return records

    def _is_past(self, record: Record, owned: Owned) -> bool:
        if owned.done or (owned.stop_at is not None and record.offset >= owned.stop_at):
            return True
        return self._until is not None and record.timestamp is not None and record.timestamp >= self._until

    def _rest(self) -> None:
        """Fetch from what is adopted and not done, unless all is paused."""
        consumer = self._member.current
        if consumer is None:
            return
        assigned = consumer.assignment()
        for partition, owned in self._assignment.items():
            place = to_place(partition)
            if place not in assigned:
                continue
            if self._paused or owned.done or not owned.adopted:
                consumer.pause(place)
            else:
                consumer.resume(place)

    def _reconcile(self, consumer: KafkaConsumer) -> None:
        """What the client has and what we know are the same, whatever the listener was told."""
        assigned = consumer.assignment()
        ours = {to_place(partition) for partition, _ in self._assignment.items()}
        if ours - assigned:
            self._assignment.gone(ours - assigned, "lost")
        if assigned - ours:
            consumer.pause(*(assigned - ours))
            self._assignment.assigned(assigned - ours)

    def _measure(self, consumer: KafkaConsumer) -> None:
        """Look up where the partitions end; where it cannot be had in time, the old figures stay."""
        now = time.monotonic()
        adopted = {
            to_place(partition): owned for partition, owned in self._assignment.items() if owned.adopted
        }
        if not adopted:
            self._silent_since_s = None
        if now < self._measure_at_s or not adopted:
            return
        self._measure_at_s = now + _MEASURE_S
        try:
            ends = consumer.end_offsets(list(adopted), timeout_ms=_MEASURE_S * 500)
        except KafkaError as error:
            log.debug("ends of partitions not known", error=describe(error))
            self._silent_since_s = self._silent_since_s or now
            return
        self._silent_since_s = None
        over = self._until is not None and datetime.now(UTC) >= self._until
        for place, owned in adopted.items():
            owned.end = ends[place]
            # Ahead of the last record where transactions left their markers.
            owned.position = max(owned.position, consumer.position(place, timeout_ms=0) or 0)
            if over and owned.stop_at is None:
                owned.stop_at = owned.end
            if owned.stop_at is not None and owned.position >= owned.stop_at:
                owned.done = True

"""Which partitions are ours: their epochs, what is committed for them, and the notes beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog
from kafka import OffsetAndMetadata, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import KafkaError

from worker.observe.metrics import Metrics
from worker.transport.base import Partition
from worker.transport.kafka.errors import describe

log = structlog.stdlib.get_logger("worker.kafka")

Offsets = dict[TopicPartition, OffsetAndMetadata]


@dataclass(slots=True)
class Owned:
    """A partition under one assignment.

    Args:
        epoch: of the assignment.
        adopted: whether its start is known; before, nothing is delivered.
        committed: what a new owner would begin with.
        note: what stands beside it.
        position: next offset to deliver.
        end: end of the partition when it was last looked at.
        stop_at: where delivery ends; None for nowhere.
        done: whether it ended.
    """

    epoch: int
    adopted: bool = False
    committed: int = 0
    note: str = ""
    position: int = 0
    end: int | None = None
    stop_at: int | None = None
    done: bool = False


class Assignment:
    """The partitions that are ours.

    Changed by the thread that owns the consumer and, while that waits in a call, by the client's own;
    so they never change it at once. `epoch` may be asked from any thread.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._epochs: dict[Partition, int] = {}  # the newest ever, over assignments
        self._owned: dict[Partition, Owned] = {}
        self.was_assigned = False

    def epoch(self, partition: Partition) -> int | None:
        """The current assignment of a partition; None if it is not ours."""
        owned = self._owned.get(partition)
        return owned.epoch if owned else None

    def get(self, partition: Partition) -> Owned | None:
        """A partition of ours."""
        return self._owned.get(partition)

    def items(self) -> list[tuple[Partition, Owned]]:
        """All of ours, as of now."""
        return list(self._owned.items())

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """They are ours from now on, under a new epoch each."""
        for place in partitions:
            partition = to_partition(place)
            self._epochs[partition] = self._epochs.get(partition, 0) + 1
            self._owned[partition] = Owned(self._epochs[partition])
            self._metrics.rebalances.labels("assigned").inc()
            log.info("partition assigned", partition=place.partition)
        self.was_assigned = self.was_assigned or bool(self._owned)

    def gone(self, partitions: Iterable[TopicPartition], event: str) -> None:
        """They are not ours any more."""
        for place in partitions:
            if self._owned.pop(to_partition(place), None) is not None:
                self._metrics.rebalances.labels(event).inc()
                log.info("partition gone", partition=place.partition, why=event)

    def clear(self, event: str) -> None:
        """None is ours: the client is gone."""
        self.gone([to_place(partition) for partition in self._owned], event)


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Told of rebalances on the client's own thread, which heartbeats wait for: it does nothing slow.

    Args:
        pause: keeps the client from fetching partitions; what is new rests until it is adopted.
        release: starts a commit, and does not wait for it; told of the partitions that are leaving.
    """

    def __init__(
        self,
        assignment: Assignment,
        pause: Callable[[Iterable[TopicPartition]], None],
        release: Callable[[Iterable[TopicPartition]], None],
    ) -> None:
        self._assignment = assignment
        self._pause = pause
        self._release = release

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """New partitions of ours."""
        self._pause(assigned)
        self._assignment.assigned(assigned)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Partitions that go to another member in order; it gets them after our next request."""
        try:
            self._release(revoked)
        except KafkaError as error:  # the notes stay: somebody will be more careful than need be
            log.info("notes not cleared", error=describe(error))
        self._assignment.gone(revoked, "revoked")

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """Partitions that others have already."""
        self._assignment.gone(lost, "lost")


def released_offsets(
    assignment: Assignment, places: Iterable[TopicPartition], released: Callable[[str], str]
) -> Offsets:
    """What to commit for partitions that are left in order: the same offsets, their notes cleaned."""
    offsets: Offsets = {}
    for place in places:
        owned = assignment.get(to_partition(place))
        if owned is not None and owned.adopted and (clean := released(owned.note)) != owned.note:
            offsets[place] = OffsetAndMetadata(owned.committed, clean, -1)
    return offsets


def to_partition(place: TopicPartition) -> Partition:
    """The library's partition as ours."""
    return Partition(place.topic, place.partition)


def to_place(partition: Partition) -> TopicPartition:
    """Our partition as the library's."""
    return TopicPartition(partition.topic, partition.number)


def noted(
    assignment: Assignment, next_offsets: Mapping[Partition, int], epochs: Mapping[Partition, int | None]
) -> Offsets:
    """What to commit for the partitions that are still ours as they were, with the notes they have."""
    offsets: Offsets = {}
    for partition, offset in next_offsets.items():
        owned = assignment.get(partition)
        if owned is not None and owned.adopted and owned.epoch == epochs[partition]:
            offsets[to_place(partition)] = OffsetAndMetadata(offset, owned.note, -1)
    return offsets

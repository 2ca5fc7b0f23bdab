"""Epochs, notes and metrics of the partitions that are ours."""

from __future__ import annotations

from kafka import OffsetAndMetadata, TopicPartition

from worker.observe.metrics import Metrics
from worker.transport.base import Partition
from worker.transport.kafka.assignment import Assignment, noted, released_offsets

PLACE, OTHER = TopicPartition("posts", 0), TopicPartition("posts", 1)
PARTITION = Partition("posts", 0)


def _owning(*places: TopicPartition, note: str = "") -> Assignment:
    assignment = Assignment(Metrics())
    assignment.assigned(places)
    for _, owned in assignment.items():
        owned.adopted, owned.committed, owned.note = True, 5, note
    return assignment


def test_each_assignment_of_a_partition_has_a_higher_epoch() -> None:
    assignment = _owning(PLACE)
    first = assignment.epoch(PARTITION)
    assignment.gone([PLACE], "revoked")
    between = assignment.epoch(PARTITION)
    assignment.assigned([PLACE])
    assert (first, between, assignment.epoch(PARTITION)) == (1, None, 2)


def test_epochs_go_on_after_the_client_was_built_anew() -> None:
    assignment = _owning(PLACE)
    assignment.clear("lost")
    assignment.assigned([PLACE])
    assert assignment.epoch(PARTITION) == 2


def test_a_partition_that_was_lost_is_not_committed() -> None:
    assignment = _owning(PLACE, OTHER)
    epochs = {PARTITION: assignment.epoch(PARTITION), Partition("posts", 1): 1}
    assignment.gone([PLACE], "lost")
    assert noted(assignment, {PARTITION: 9, Partition("posts", 1): 7}, epochs) == {
        OTHER: OffsetAndMetadata(7, "", -1)
    }


def test_a_partition_that_was_lost_and_came_back_is_not_committed() -> None:
    assignment = _owning(PLACE)
    epochs = {PARTITION: assignment.epoch(PARTITION)}
    assignment.clear("lost")
    assignment.assigned([PLACE])
    for _, owned in assignment.items():
        owned.adopted = True
    assert noted(assignment, {PARTITION: 9}, epochs) == {}


def test_leaving_a_partition_cleans_its_note_at_the_offset_it_has() -> None:
    assignment = _owning(PLACE, OTHER, note="in flight")
    assert released_offsets(assignment, [PLACE], lambda note: "") == {PLACE: OffsetAndMetadata(5, "", -1)}


def test_leaving_a_partition_without_a_note_commits_nothing() -> None:
    assert released_offsets(_owning(PLACE), [PLACE], lambda note: "") == {}


def test_a_partition_whose_note_was_not_read_yet_keeps_it() -> None:
    assignment = Assignment(Metrics())
    assignment.assigned([PLACE])
    assert released_offsets(assignment, [PLACE], lambda note: "cleaned") == {}


def test_rebalances_are_counted_by_partition_and_event() -> None:
    metrics = Metrics()
    assignment = Assignment(metrics)
    assignment.assigned([PLACE, OTHER])
    assignment.gone([PLACE], "revoked")
    assignment.clear("lost")
    counts = {
        event: metrics.rebalances.labels(event)._value.get() for event in ("assigned", "revoked", "lost")
    }
    assert counts == {"assigned": 2, "revoked": 1, "lost": 1}

"""The commit tracker, the sequencer and the budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import POSTS, record
from worker.flow.budget import Budget
from worker.flow.commits import CommitTracker
from worker.flow.sequencing import KeySequencer
from worker.transport.base import Partition

OTHER = Partition("posts", 1)


@given(data=st.data())
def test_committable_is_the_finished_prefix_of_what_was_delivered(data: st.DataObject) -> None:
    offsets = sorted(data.draw(st.sets(st.integers(0, 10_000), min_size=1, max_size=40)))
    order = data.draw(st.permutations(offsets))
    tracker = CommitTracker()
    for offset in offsets:
        tracker.delivered(record(offset))
    finished: set[int] = set()
    for offset in order:
        tracker.finished(record(offset))
        finished.add(offset)
        unfinished = [place for place in offsets if place not in finished]
        prefix = [place for place in offsets if not unfinished or place < unfinished[0]]
        # naive reference: one past the last record before the first unfinished one, gaps left as they are
        assert tracker.committable() == ({POSTS: prefix[-1] + 1} if prefix else {})
        assert tracker.span == len(offsets) - len(prefix)
    tracker.committed(tracker.committable())
    assert tracker.committable() == {}


def test_partitions_are_committed_apart() -> None:
    tracker = CommitTracker()
    for item in (record(5), record(3, partition=OTHER), record(9)):
        tracker.delivered(item)
    tracker.finished(record(3, partition=OTHER))
    tracker.finished(record(9))
    assert tracker.committable() == {OTHER: 4}


def test_newer_epoch_forgets_the_older_ones_work() -> None:
    tracker = CommitTracker()
    tracker.delivered(record(5))
    tracker.delivered(record(5, epoch=1))
    tracker.finished(record(5))
    assert tracker.committable() == {}
    tracker.finished(record(5, epoch=1))
    assert tracker.committable() == {POSTS: 6}


def test_revoked_partition_is_not_committed() -> None:
    tracker = CommitTracker()
    tracker.delivered(record(5))
    tracker.finished(record(5))
    tracker.revoked(POSTS)
    assert tracker.committable() == {}
    tracker.finished(record(5))  # late work of a partition that is gone


def test_offset_that_does_not_rise_is_a_defect_of_the_source() -> None:
    tracker = CommitTracker()
    tracker.delivered(record(5))
    with pytest.raises(ValueError, match="offset 5 after 5"):
        tracker.delivered(record(5))


def test_age_is_that_of_the_oldest_record_that_is_not_committed() -> None:
    now = [100.0]
    tracker = CommitTracker(lambda: now[0])
    assert tracker.oldest_uncommitted_s() == 0
    tracker.delivered(record(1))
    now[0] = 103.0
    tracker.delivered(record(2))
    now[0] = 110.0
    assert tracker.oldest_uncommitted_s() == 10
    tracker.finished(record(1))
    assert tracker.oldest_uncommitted_s() == 10  # a commit that fails for hours must be seen
    tracker.committed({POSTS: 2})
    assert tracker.oldest_uncommitted_s() == 7
    tracker.finished(record(2))
    tracker.committed({POSTS: 3})
    assert tracker.oldest_uncommitted_s() == 0


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_items_of_a_key_run_one_at_a_time_in_their_order(keys: list[str]) -> None:
    sequencer: KeySequencer[int] = KeySequencer()
    running = {key: place for place, key in enumerate(keys) if sequencer.admit(key, place)}
    assert len(running) == len(set(keys))
    done: dict[str, list[int]] = {key: [] for key in running}
    while running:
        key, place = running.popitem()
        done[key].append(place)
        following = sequencer.release(key)
        if following is not None:
            running[key] = following
    assert done == {key: [place for place, other in enumerate(keys) if other == key] for key in done}
    assert len(sequencer) == 0


def test_release_of_a_key_that_does_not_run_is_refused() -> None:
    with pytest.raises(KeyError):
        KeySequencer[int]().release("a")


def test_budget_admits_until_bytes_or_posts_are_used_up() -> None:
    budget = Budget(limit_bytes=100, limit_posts=3)
    assert budget.try_take(60)
    assert not budget.try_take(41)
    assert budget.try_take(20)
    assert budget.try_take(20)
    assert not budget.try_take(0)
    budget.give_back(60)
    assert budget.try_take(60)
    assert (budget.used_bytes, budget.used_posts) == (100, 3)


def test_post_larger_than_the_budget_runs_alone() -> None:
    budget = Budget(limit_bytes=100, limit_posts=3)
    assert budget.try_take(500)
    assert not budget.try_take(1)
    budget.give_back(500)
    assert budget.try_take(1)


def test_budget_refuses_what_was_never_taken() -> None:
    with pytest.raises(ValueError, match="never taken"):
        Budget(100, 3).give_back(1)

"""What was in flight when a worker died runs alone, and only what is alone is charged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.fakes import POSTS, MemorySource, record
from worker.coordination.attempts import NoAttempts
from worker.flow.budget import Budget
from worker.flow.intake import Decoded, Intake, Work
from worker.flow.quarantine import Quarantine, released
from worker.observe.metrics import Metrics
from worker.posts import PostLimits
from worker.transport.base import Partition, Record
from worker.types import DeadLettered


class CountedAttempts:
    """Charges that outlive the worker, as Redis keeps them."""

    def __init__(self) -> None:
        self.charges: Counter[int] = Counter()

    def counts(self, partition: Partition) -> dict[int, int]:
        return dict(self.charges)

    def charge(self, partition: Partition, offset: int) -> bool:
        self.charges[offset] += 1
        return True

    def clear(self, partition: Partition, offset: int) -> None:
        del self.charges[offset]


class Worker:
    """An intake over a source whose notes outlive it; `dies` leaves everything as it stands."""

    def __init__(
        self,
        notes: dict[Partition, str],
        attempts: CountedAttempts | None = None,
        *,
        epoch: int = 0,
        trial: Callable[[Record], str] | None = None,
    ) -> None:
        source = MemorySource([])
        source.notes = notes
        self.metrics = Metrics()
        self.source = source
        self.quarantine = quarantine = Quarantine(source, attempts or NoAttempts(), 2, self.metrics, trial)
        self.intake = Intake(Budget(1 << 20, 100), 0, PostLimits(), lambda _: True, quarantine)
        self._epoch = epoch

    def deliver(self, *offsets: int) -> list[Work]:
        self.intake.offer([record(offset, epoch=self._epoch) for offset in offsets])
        return self.intake.start()

    def finish(self, work: Work) -> list[Work]:
        self.intake.finished(work.record)
        return self.intake.start()


def offsets(works: list[Work]) -> list[int]:
    return [work.record.offset for work in works]


@pytest.fixture
def notes() -> dict[Partition, str]:
    return {}


def test_without_an_unclean_end_everything_runs_side_by_side(notes: dict[Partition, str]) -> None:
    assert offsets(Worker(notes).deliver(0, 1, 2)) == [0, 1, 2]


def test_after_an_unclean_end_what_was_in_flight_runs_one_at_a_time(notes: dict[Partition, str]) -> None:
    Worker(notes).deliver(0, 1, 2)
    survivor = Worker(notes)
    (first,) = survivor.deliver(0, 1, 2)
    assert first.record.offset == 0
    (second,) = survivor.finish(first)
    (third,) = survivor.finish(second)
    assert offsets([second, third]) == [1, 2]
    assert survivor.metrics.registry.get_sample_value("entityclip_posts_alone_total") == 3


def test_what_is_surely_newer_than_the_end_runs_side_by_side_again(notes: dict[Partition, str]) -> None:
    Worker(notes).deliver(0)
    survivor = Worker(notes)
    (first,) = survivor.deliver(0, 500, 501)
    assert offsets(survivor.finish(first)) == [500, 501]


def test_a_suspect_waits_until_nothing_else_is_in_flight(notes: dict[Partition, str]) -> None:
    Worker(notes).deliver(0)
    survivor = Worker(notes)
    other = Partition("posts", 1)
    survivor.intake.offer([record(7, "another", partition=other), record(0)])
    (beside,) = survivor.intake.start()
    assert beside.record.partition == other
    assert offsets(survivor.finish(beside)) == [0]


@pytest.mark.parametrize("attempts", [None, CountedAttempts()], ids=["in the note", "in Redis"])
def test_the_one_that_kills_is_a_dead_letter_after_two_deaths_alone(
    notes: dict[Partition, str], attempts: CountedAttempts | None
) -> None:
    Worker(notes, attempts).deliver(0, 1, 2)  # dies in company: nobody is charged
    for _ in range(2):
        worker = Worker(notes, attempts)
        (first,) = worker.deliver(0, 1, 2)
        assert isinstance(first, Decoded)
        (killer,) = worker.finish(first)
        assert killer.record.offset == 1  # … and dies
    last = Worker(notes, attempts)
    (first,) = last.deliver(0, 1, 2)
    (letter,) = last.finish(first)
    assert isinstance(letter, DeadLettered)
    assert (letter.record.offset, letter.reason.value, letter.attempts) == (1, "killed_worker", 2)
    (neighbour,) = last.finish(letter)
    assert isinstance(neighbour, Decoded)
    assert neighbour.record.offset == 2


@pytest.mark.parametrize("attempts", [None, CountedAttempts()], ids=["in the note", "in Redis"])
def test_one_that_finished_before_the_worker_died_is_charged_anew(
    notes: dict[Partition, str], attempts: CountedAttempts | None
) -> None:
    Worker(notes, attempts).deliver(0, 1)
    for _ in range(3):
        worker = Worker(notes, attempts)
        (first,) = worker.deliver(0, 1)
        assert isinstance(first, Decoded), "a good post must not pay for its neighbour"
        (second,) = worker.finish(first)  # its end is not committed before the next death
        assert isinstance(second, Decoded | DeadLettered)


def test_a_note_that_cannot_be_kept_holds_nothing_up(notes: dict[Partition, str]) -> None:
    worker = Worker(notes)
    worker.source.mark_failures = 1
    assert offsets(worker.deliver(0, 1)) == [0, 1]


def test_a_note_of_another_program_is_ignored(notes: dict[Partition, str]) -> None:
    notes[POSTS] = "not ours"
    assert offsets(Worker(notes).deliver(0, 1)) == [0, 1]


def test_a_worker_whose_own_client_broke_suspects_nothing(notes: dict[Partition, str]) -> None:
    worker = Worker(notes)
    for work in worker.deliver(0, 1):
        worker.finish(work)
    worker._epoch = 1
    assert offsets(worker.deliver(0, 1)) == [0, 1]


def test_a_new_assignment_reads_the_note_again(notes: dict[Partition, str]) -> None:
    worker = Worker(notes)
    (work,) = worker.deliver(0)
    worker.finish(work)
    Worker(notes, epoch=1).deliver(40, 41)  # another member had it meanwhile, and died
    worker._epoch = 2
    assert offsets(worker.deliver(40, 41)) == [40]


@pytest.mark.parametrize("attempts", [None, CountedAttempts()], ids=["in the note", "in Redis"])
def test_killers_in_a_row_cost_two_deaths_each(
    notes: dict[Partition, str], attempts: CountedAttempts | None
) -> None:
    """A given-up record may die again with the next one before it is committed: it stays given up."""
    killers, deaths = 4, 0
    Worker(notes, attempts).deliver(*range(killers))  # dies in company
    while not _survives(Worker(notes, attempts), killers):
        deaths += 1
        assert deaths <= 2 * killers
    assert deaths == 2 * killers


def _survives(worker: Worker, killers: int) -> bool:
    """Whether it gives up all of them, without a commit in between."""
    works = worker.deliver(*range(killers))
    while works:
        if not all(isinstance(work, DeadLettered) for work in works):
            return False
        works = worker.finish(works[0])
    return True


def test_a_partition_left_in_order_keeps_charges_and_suspects_nobody(notes: dict[Partition, str]) -> None:
    Worker(notes).deliver(0)
    Worker(notes).deliver(0)  # charged in the note, and dies
    notes[POSTS] = released(notes[POSTS])
    next_one = Worker(notes)
    assert offsets(next_one.deliver(0, 1)) == [0, 1]
    assert next_one.quarantine.deaths(record(0)) == 1


@pytest.mark.parametrize("note", ["", "not ours", '{"worker":"w","upto":7}'])
def test_nothing_stays_of_a_note_without_charges(note: str) -> None:
    assert released(note) == ""


@pytest.mark.parametrize("attempts", [None, CountedAttempts()], ids=["in the note", "in Redis"])
def test_a_run_that_ends_for_another_reason_charges_nobody(
    notes: dict[Partition, str], attempts: CountedAttempts | None
) -> None:
    Worker(notes, attempts).deliver(0, 1)
    for _ in range(3):
        worker = Worker(notes, attempts)
        (first,) = worker.deliver(0, 1)
        assert isinstance(first, Decoded)
        worker.intake.forgive()


def test_a_suspect_whose_partition_moved_is_not_charged(notes: dict[Partition, str]) -> None:
    attempts = CountedAttempts()
    Worker(notes, attempts).deliver(0)
    worker = Worker(notes, attempts)
    (alone,) = worker.deliver(0)
    worker._epoch = 1
    worker.deliver(5)  # under a newer assignment
    worker.finish(alone)
    assert attempts.charges[0] == 0


def die_alone(notes: dict[Partition, str], times: int) -> None:
    """A record that was in company when the worker died, and so often alone since."""
    for _ in range(times + 1):
        Worker(notes, trial=lambda _: "").deliver(0)


def test_two_deaths_by_accident_do_not_condemn_a_record_that_passes_its_trial(
    notes: dict[Partition, str],
) -> None:
    die_alone(notes, 2)
    (work,) = Worker(notes, trial=lambda _: "").deliver(0)
    assert isinstance(work, Decoded)


def test_a_record_that_kills_its_trial_too_is_a_dead_letter_that_says_how(
    notes: dict[Partition, str],
) -> None:
    die_alone(notes, 2)
    (letter,) = Worker(notes, trial=lambda _: "signal 11").deliver(0)
    assert isinstance(letter, DeadLettered)
    assert letter.detail.endswith("so did a process that tried it (signal 11)")


def test_a_record_that_passes_every_trial_and_kills_all_the_same_is_given_up_in_the_end(
    notes: dict[Partition, str],
) -> None:
    die_alone(notes, 4)
    (letter,) = Worker(notes, trial=lambda _: "").deliver(0)
    assert isinstance(letter, DeadLettered)
    assert letter.attempts == 4

"""Refused records back to where they came from, or to another place, as they were.

At least once: who repeats a replay repeats its records, which is harmless for posts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from worker.dead_letters.letter import DeadLetterLine
from worker.errors import ConfigError
from worker.transport.base import Partition, Record
from worker.transport.spec import Spec

HEADER = "replayed_from"
_BATCH_RECORDS = 100
_BATCH_BYTES = 4 << 20


class Obstacle(StrEnum):
    """Why a record could not be replayed."""

    GONE = "too large for its letter, and no longer in its topic"
    CHANGED = "too large for its letter, and another record has its place now"
    UNREADABLE = "too large for its letter, and its topic cannot be read"
    FROM_FILE = "from a file, not from a topic: say where to with --to"
    NO_LINE = "not one line of a file: a take-down, empty, or with line breaks and not JSON"
    TOO_LARGE = "too large for the topic"
    NO_KEY = "a take-down without a key, which no topic takes"


class Target(Protocol):
    """Where records are replayed to. One thread only."""

    def obstacle(self, record: Record) -> Obstacle | None:
        """What keeps this record from being written."""

    def write(self, destination: Spec, records: Sequence[Record]) -> int:
        """Write all and return once they are acknowledged.

        Returns:
            How many were refused for their size; the others are written.

        Raises:
            TransientError: some may be unwritten.
        """


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the letters.

    Args:
        replayed: records, by where they went.
        failed: letters, by what kept them.
    """

    replayed: Counter[Spec] = field(default_factory=Counter)
    failed: Counter[Obstacle] = field(default_factory=Counter)


class Replay:
    """One replay. One thread only; blocks for reading and writing as long as that takes.

    Args:
        target: writes.
        to: where all records go; None for the topic that each one came from.
        read_at: the record at an offset, for those that are too large for their letter; None where it is
            gone, ConfigError where there is no such topic.
    """

    def __init__(
        self, target: Target, to: Spec | None, read_at: Callable[[Partition, int], Record | None]
    ) -> None:
        self.report = Report()
        self._target = target
        self._to = to
        self._read_at = read_at
        self._batches: defaultdict[Spec, list[Record]] = defaultdict(list)
        self._bytes = 0

    def run(self, letters: Iterable[DeadLetterLine]) -> Report:
        """Replay the letters, each topic's in the order in which they come.

        Raises:
            TransientError: the broker or the disk is away; `report` says how far it came.
        """
        for letter in letters:
            record = self._deliverable(letter)
            if isinstance(record, Obstacle):
                self.report.failed[record] += 1
            else:
                self._take(letter, record)
        self._flush()
        return Report(+self.report.replayed, +self.report.failed)  # without zeros

    def _deliverable(self, letter: DeadLetterLine) -> Record | Obstacle:
        if self._to is None and letter.record_timestamp is None:  # the records of a topic have one
            return Obstacle.FROM_FILE
        record = self._whole(letter) if letter.is_pointer else letter.record()
        return record if isinstance(record, Obstacle) else self._target.obstacle(record) or record

    def _whole(self, letter: DeadLetterLine) -> Record | Obstacle:
        """The record that a pointer names, from its own topic."""
        try:
            record = self._read_at(Partition(letter.topic, letter.partition), letter.offset)
        except ConfigError:
            return Obstacle.UNREADABLE
        if record is None:
            return Obstacle.GONE
        return record if letter.is_of(record) else Obstacle.CHANGED

    def _take(self, letter: DeadLetterLine, record: Record) -> None:
        destination = self._to or Spec("kafka", letter.topic)
        self._batches[destination].append(_marked(record, letter.key))
        self._bytes += len(record.value or b"")
        if len(self._batches[destination]) >= _BATCH_RECORDS or self._bytes >= _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        for destination, records in self._batches.items():
            refused = self._target.write(destination, records)
            self.report.replayed[destination] += len(records) - refused
            self.report.failed[Obstacle.TOO_LARGE] += refused
        self._batches.clear()
        self._bytes = 0


def _marked(record: Record, key: str) -> Record:
    """The record with the header that says which letter it comes from, instead of an earlier one."""
    own = tuple(header for header in record.headers if header[0] != HEADER)
    return replace(record, headers=(*own, (HEADER, key.encode())))

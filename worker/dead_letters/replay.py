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
from worker.transport.base import Record
from worker.transport.spec import Spec

HEADER = "replayed_from"
_BATCH_RECORDS = 100
_BATCH_BYTES = 4 << 20


class Obstacle(StrEnum):
    """Why a record could not be replayed."""

    GONE = "too large for its letter, and no longer in its topic"
    CHANGED = "too large for its letter, and another record has its place now"
    UNREADABLE = "too large for its letter, and its topic cannot be read"
    NO_LINE = "not one line of a file: a take-down, empty, or with line breaks and not JSON"
    NO_KEY = "a take-down without a key, which no topic takes"


class Target(Protocol):
    """Where records are replayed to. One thread only."""

    def obstacle(self, record: Record) -> Obstacle | None:
        """What keeps this record from being written."""

    def write(self, destination: Spec, records: Sequence[Record]) -> None:
        """Write all and return once they are acknowledged.

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
        read_topic: every record of a topic, for those that are too large for their letter; ConfigError
            where there is no such topic.
    """

    def __init__(
        self, target: Target, to: Spec | None, read_topic: Callable[[str], Iterable[Record]]
    ) -> None:
        self.report = Report()
        self._target = target
        self._to = to
        self._read_topic = read_topic
        self._batches: defaultdict[Spec, list[Record]] = defaultdict(list)
        self._bytes = 0

    def run(self, letters: Iterable[DeadLetterLine]) -> Report:
        """Replay the letters; those whose records must be looked up come last.

        Raises:
            TransientError: the broker or the disk is away; `report` says how far it came.
        """
        pointers: defaultdict[str, dict[tuple[int, int], DeadLetterLine]] = defaultdict(dict)
        for letter in letters:
            if letter.is_pointer:
                pointers[letter.topic][letter.partition, letter.offset] = letter
            else:
                self._take(letter, letter.record())
        for topic, wanted in pointers.items():
            self._look_up(topic, wanted)
        self._flush()
        return self.report

    def _look_up(self, topic: str, wanted: dict[tuple[int, int], DeadLetterLine]) -> None:
        """One pass over the topic finds all of them, or as many as are left."""
        try:
            for record in self._read_topic(topic):
                letter = wanted.pop((record.partition.number, record.offset), None)
                if letter is not None and letter.is_of(record):
                    self._take(letter, record)
                elif letter is not None:
                    self.report.failed[Obstacle.CHANGED] += 1
                if not wanted:
                    break
        except ConfigError:
            self.report.failed[Obstacle.UNREADABLE] += len(wanted)
        else:
            self.report.failed[Obstacle.GONE] += len(wanted)

    def _take(self, letter: DeadLetterLine, record: Record) -> None:
        obstacle = self._target.obstacle(record)
        if obstacle is not None:
            self.report.failed[obstacle] += 1
            return
        destination = self._to or Spec("kafka", letter.topic)
        self._batches[destination].append(_marked(record, letter.key))
        self._bytes += len(record.value or b"")
        if len(self._batches[destination]) >= _BATCH_RECORDS or self._bytes >= _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        for destination, records in self._batches.items():
            self._target.write(destination, records)
            self.report.replayed[destination] += len(records)
        self._batches.clear()
        self._bytes = 0


def _marked(record: Record, key: str) -> Record:
    """The record with the header that says which letter it comes from, instead of an earlier one."""
    own = tuple(header for header in record.headers if header[0] != HEADER)
    return replace(record, headers=(*own, (HEADER, key.encode())))

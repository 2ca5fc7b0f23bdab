"""The letters of a file or a topic, the last one of each key, and which of them are meant."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from worker.dead_letters.letter import DeadLetterLine, letter_of
from worker.errors import ConfigError
from worker.sections import KafkaConfig
from worker.transport.base import Message, Record
from worker.transport.spec import Spec

Place = tuple[int, int]  # partition and offset; in a file 0 and the line's number
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are meant: those that agree with everything that is given.

    Args:
        reasons: any of these; empty for all.
        since, until: when the letter was written or, where it does not say (in a file), its record was
            produced; a letter without either time is not meant. `until` is exclusive.
        source_topic: the refused record's.
        key: the refused record's, as text.
        offsets: of the refused records, first and last.
    """

    reasons: frozenset[str] = frozenset()
    stage: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    source_topic: str | None = None
    key: str | None = None
    offsets: tuple[int, int] | None = None

    def takes(self, letter: DeadLetterLine) -> bool:
        """Whether this letter is meant."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and self.stage in (None, letter.stage)
            and self.source_topic in (None, letter.topic)
            and self.key in (None, letter.record_key)
            and (self.offsets is None or self.offsets[0] <= letter.offset <= self.offsets[1])
            and self._is_of_the_time(letter)
        )

    def _is_of_the_time(self, letter: DeadLetterLine) -> bool:
        if self.since is None and self.until is None:
            return True
        when = letter.written_at or letter.record_timestamp
        return (
            when is not None
            and (self.since is None or self.since <= when)
            and (self.until is None or when < self.until)
        )


def read_letters(where: Spec, config: KafkaConfig) -> Iterator[DeadLetterLine]:
    """The letters of a file or a topic, one at a time, each as it was last written.

    A letter that was deleted from its topic is none, and neither is one that is just being written.
    Reads the place twice: only keys are held in memory.

    Raises:
        ConfigError: it cannot be read, or holds something else; one line.
        TransientError: the broker is away.
    """
    if where.kind == "kafka":
        return read_dead_letter_topic(config, where.name)
    return read_dead_letters(Path(where.name))


def read_dead_letters(path: Path) -> Iterator[DeadLetterLine]:
    """The letters of a file, as `read_letters`."""
    return _last_of_each(lambda: _lines(path))


def read_dead_letter_topic(config: KafkaConfig, topic: str) -> Iterator[DeadLetterLine]:
    """The letters of a topic, as `read_letters`."""
    from worker.transport.kafka.clients import read_topic

    return _last_of_each(lambda: _records(read_topic(config, topic)))


def _last_of_each(
    read: Callable[[], Iterable[tuple[Place, bytes, DeadLetterLine | None]]],
) -> Iterator[DeadLetterLine]:
    last = {_digest(key): place for place, key, _ in read()}
    return (letter for place, key, letter in read() if letter is not None and last.get(_digest(key)) == place)


def _lines(path: Path) -> Iterator[tuple[Place, bytes, DeadLetterLine | None]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                letter = _parse(line, f"{path}:{number}")
                yield (0, number), letter.key.encode(), letter
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _records(records: Iterable[Record]) -> Iterator[tuple[Place, bytes, DeadLetterLine | None]]:
    for record in records:
        key = record.key or b""
        letter = None
        if record.value is not None:
            message = Message(key, record.value, record.headers)
            try:
                letter = letter_of(message, record.timestamp)
            except ValueError as error:
                place = f"{record.partition.topic}-{record.partition.number}-{record.offset}"
                raise ConfigError(f"{place} is no dead letter: {error}") from error
        yield (record.partition.number, record.offset), key, letter


def _parse(line: bytes, where: str) -> DeadLetterLine:
    try:
        return msgspec.json.decode(line, type=DeadLetterLine)
    except ValueError as error:
        raise ConfigError(f"{where} is no dead letter: {error}") from error


def _digest(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=_DIGEST_BYTES).digest()

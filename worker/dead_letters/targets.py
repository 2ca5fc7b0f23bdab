"""Where records are replayed to: topics, a file, or nowhere."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import msgspec

from worker.dead_letters.replay import Obstacle
from worker.errors import ConfigError, TransientError
from worker.observe.metrics import Metrics
from worker.sections import KafkaConfig
from worker.transport.base import Message, Record, Sink
from worker.transport.spec import Spec


class TopicTarget:
    """Topics: key, value and headers as they were. One thread only."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._metrics = Metrics()
        self._sinks: dict[str, Sink] = {}

    def obstacle(self, record: Record) -> Obstacle | None:
        """A record needs a key or a value."""
        return _topic_obstacle(record)

    def write(self, destination: Spec, records: Sequence[Record]) -> int:
        """Write all and wait for the broker; returns how many are too large for the topic.

        Raises:
            TransientError: the broker is away; some may be unwritten.
        """
        from worker.transport.kafka.errors import TooLarge

        try:
            self._sink(destination.name).write([_message(record) for record in records])
        except TooLarge as error:
            return len(error.indices)
        return 0

    def _sink(self, topic: str) -> Sink:
        if topic not in self._sinks:
            from worker.transport.kafka.sink import KafkaSink

            self._sinks[topic] = KafkaSink(self._config, topic, self._metrics)
        return self._sinks[topic]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sink in self._sinks.values():
            sink.close()


class LineTarget:
    """A JSONL file that records are appended to, a value a line; key and headers are left behind.

    JSON that stands on several lines is joined to one. One thread only.

    Raises:
        ConfigError: the file cannot be written, or another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise ConfigError(f"{path} is being written by another process") from error

    def obstacle(self, record: Record) -> Obstacle | None:
        """A record must have a value that fits on a line."""
        return _line_obstacle(record)

    def write(self, destination: Spec, records: Sequence[Record]) -> int:
        """Append all and wait for the disk; returns 0.

        Raises:
            TransientError: nothing of it was written.
        """
        end = os.fstat(self._file.fileno()).st_size
        data = b"".join(line + b"\n" for record in records if (line := _line(record)) is not None)
        try:
            data = b"\n" + data if self._is_torn(end) else data
            written = 0
            while written < len(data):
                written += self._file.write(data[written:]) or 0
            os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), end)
            raise TransientError(f"{self._path} cannot be written: {error.strerror}") from error
        return 0

    def _is_torn(self, end: int) -> bool:
        """Whether the last line lacks its end."""
        return end > 0 and os.pread(self._file.fileno(), 1, end - 1) != b"\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class DryTarget:
    """Writes nothing, and says what would be in the way.

    Args:
        to_file: whether the real target is a file.
    """

    def __init__(self, *, to_file: bool) -> None:
        self._to_file = to_file

    def obstacle(self, record: Record) -> Obstacle | None:
        """As the real target's."""
        return _line_obstacle(record) if self._to_file else _topic_obstacle(record)

    def write(self, destination: Spec, records: Sequence[Record]) -> int:
        """Nothing is written; returns 0."""
        return 0


def _topic_obstacle(record: Record) -> Obstacle | None:
    return Obstacle.NO_KEY if record.key is None and record.value is None else None


def _line_obstacle(record: Record) -> Obstacle | None:
    return Obstacle.NO_LINE if _line(record) is None else None


def _message(record: Record) -> Message:
    # what the worker itself writes has key and value; a producer takes None for either
    return Message(cast(bytes, record.key), cast(bytes, record.value), record.headers)


def _line(record: Record) -> bytes | None:
    if not record.value:
        return None
    if b"\n" not in record.value:
        return record.value
    try:
        return msgspec.json.format(record.value, indent=-1)
    except msgspec.DecodeError:
        return None

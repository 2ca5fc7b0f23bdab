"""Dead letters: the raw bytes of a refused record, with where it came from and why.

Keyed by source topic, partition and offset, so that writing one again replaces it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from worker.errors import ConfigError
from worker.transport.base import Headers, Message
from worker.types import DeadLettered


class DeadLetterLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One dead letter in a file (`schemas/dead_letter.json`).

    Args:
        key: `topic-partition-offset` of the record.
        detail: one line for a person.
        stage: which refused it, after how many attempts.
        topic: the record's; for a file its path.
        value: the record's bytes as text; where they are no UTF-8, `value_base64` holds them.
        headers: the record's own; bytes that are no UTF-8 are shown as U+FFFD.
    """

    key: str
    reason: str
    detail: str
    stage: str
    attempts: int
    topic: str
    partition: int
    offset: int
    worker_version: str
    value: str | None = None
    value_base64: str | None = None
    headers: dict[str, str] = {}

    def raw(self) -> bytes:
        """The record's bytes, unchanged."""
        if self.value_base64 is not None:
            return b64decode(self.value_base64)
        return (self.value or "").encode()


def dead_letter_message(letter: DeadLettered) -> Message:
    """As a record of a topic: raw bytes as the value, the rest in headers."""
    record = letter.record
    ours: Headers = (
        ("reason", letter.reason.encode()),
        ("detail", letter.detail.encode("utf-8", "replace")),
        ("stage", letter.stage.encode()),
        ("attempts", str(letter.attempts).encode()),
        ("source_topic", record.partition.topic.encode()),
        ("source_partition", str(record.partition.number).encode()),
        ("source_offset", str(record.offset).encode()),
        ("worker_version", worker_version().encode()),
    )
    key = f"{record.partition.topic}-{record.partition.number}-{record.offset}"
    return Message(key.encode(), record.value or b"", (*record.headers, *ours))


def as_line(message: Message) -> bytes:
    """The message of `dead_letter_message` as one line of JSON."""
    # ours come last and win where the record has one of the same name
    headers = {name: content.decode("utf-8", "replace") for name, content in message.headers}
    try:
        text, encoded = message.value.decode("utf-8"), None
    except UnicodeDecodeError:
        text, encoded = None, b64encode(message.value).decode()
    line = DeadLetterLine(
        key=message.key.decode(),
        reason=headers.pop("reason"),
        detail=headers.pop("detail"),
        stage=headers.pop("stage"),
        attempts=int(headers.pop("attempts")),
        topic=headers.pop("source_topic"),
        partition=int(headers.pop("source_partition")),
        offset=int(headers.pop("source_offset")),
        worker_version=headers.pop("worker_version"),
        value=text,
        value_base64=encoded,
        headers=headers,
    )
    return msgspec.json.encode(line)


def key_of_line(line: bytes) -> bytes:
    """The key of a letter that `as_line` wrote.

    Raises:
        ValueError: it is none.
    """
    return msgspec.json.decode(line, type=DeadLetterLine).key.encode()


@cache
def worker_version() -> str:
    """The installed version of this package."""
    try:
        return version("entityclip")
    except PackageNotFoundError:  # a checkout that was never installed
        return "unknown"


def read_dead_letters(path: Path) -> Iterator[DeadLetterLine]:
    """The letters of a file, the last one of each key; one that is just being written is left out.

    Raises:
        ConfigError: the file cannot be read, or holds something else; one line.
    """
    letters: dict[str, DeadLetterLine] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                letter = _parse(line, f"{path}:{number}")
                letters[letter.key] = letter
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    return iter(letters.values())


def _parse(line: bytes, where: str) -> DeadLetterLine:
    try:
        return msgspec.json.decode(line, type=DeadLetterLine)
    except ValueError as error:
        raise ConfigError(f"{where} is no dead letter: {error}") from error

"""One dead letter: as a record of a topic, and as a line of a file (`schemas/dead_letter.json`).

As a record: the key is the source's `topic-partition-offset`, the value the raw bytes. The headers are the
record's own and after them ours, from `reason` on:

    reason detail stage attempts source_topic source_partition source_offset
    source_key        where the record had a key
    source_timestamp  where it had one; RFC 3339
    tombstone         `true` where the record's value was null: a null here would delete the letter
    pointer value_bytes value_sha256
                      where the record is too large for the topic: the value is empty, and the record lies
                      where `pointer` says (`topic-partition-offset`) for as long as its topic keeps it
    worker_version
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from datetime import datetime

import msgspec

from worker.transport.base import Headers, Message, Partition, Record
from worker.types import DeadLettered
from worker.version import worker_version

_DETAIL_CHARACTERS = 500
_RECORD_BYTES = 128  # of a record beside its parts: at least what Kafka's own headers take
_PART_BYTES = 5  # the length that stands before each part, at most


class HeaderLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One header; where its content is no UTF-8, `value_base64` holds it."""

    name: str
    value: str | None = None
    value_base64: str | None = None

    def pair(self) -> tuple[str, bytes]:
        """As records have it."""
        return self.name, _bytes(self.value, self.value_base64) or b""


class DeadLetterLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One dead letter.

    Args:
        key: `topic-partition-offset` of the record.
        detail: one line for a person.
        stage: which refused it, after how many attempts.
        topic: the record's; for a file its path.
        value: the record's bytes as text; where they are no UTF-8, `value_base64` holds them.
        tombstone: the record's value was null.
        value_bytes, value_sha256: of a value that was too large to be copied.
        record_key: the record's; where it is no UTF-8, `record_key_base64` holds it; none where it had none.
        record_timestamp: when the record was produced, where it says so.
        headers: the record's own, in order. In old files a mapping of text.
        written_at: when the letter was written to its topic; files do not say.
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
    tombstone: bool = False
    value_bytes: int | None = None
    value_sha256: str | None = None
    record_key: str | None = None
    record_key_base64: str | None = None
    record_timestamp: datetime | None = None
    headers: list[HeaderLine] | dict[str, str] = []
    written_at: datetime | None = None

    @property
    def is_pointer(self) -> bool:
        """Whether the record's value was too large to be copied, and lies in its own topic alone."""
        return self.value_sha256 is not None

    def raw(self) -> bytes:
        """The record's bytes, unchanged; empty for a tombstone and a pointer."""
        return _bytes(self.value, self.value_base64) or b""

    def record(self) -> Record:
        """The record that was refused; of a pointer all but value, key and headers."""
        headers = self.headers
        if isinstance(headers, dict):
            pairs: Headers = tuple((name, text.encode()) for name, text in headers.items())
        else:
            pairs = tuple(header.pair() for header in headers)
        return Record(
            Partition(self.topic, self.partition),
            self.offset,
            _bytes(self.record_key, self.record_key_base64),
            None if self.tombstone else self.raw(),
            pairs,
            timestamp=self.record_timestamp,
        )

    def is_of(self, record: Record) -> bool:
        """Whether this pointer's value is the record's."""
        value = record.value or b""
        is_same = (len(value), _sha256(value)) == (self.value_bytes, self.value_sha256)
        return is_same and (record.value is None) == self.tombstone


def dead_letter_message(letter: DeadLettered, *, limit_bytes: int | None = None) -> Message:
    """As a record of a topic.

    Args:
        limit_bytes: of the whole record, key and headers included (4 KiB at least); a letter that would be
            larger is a pointer, without the record's own key and headers where even they do not fit.
    """
    record = letter.record
    key = f"{record.partition.topic}-{record.partition.number}-{record.offset}".encode()
    source = _source_headers(letter)
    own_key: Headers = () if record.key is None else (("source_key", record.key),)
    last: Headers = (("worker_version", worker_version().encode()),)
    mark: Headers = (("tombstone", b"true"),) if record.value is None else ()
    message = Message(key, record.value or b"", (*record.headers, *source, *own_key, *mark, *last))
    if limit_bytes is None or message_bytes(message) <= limit_bytes:
        return message
    pointer = (*mark, *_pointer_headers(key, record), *last)
    message = Message(key, b"", (*record.headers, *source, *own_key, *pointer))
    if message_bytes(message) <= limit_bytes:
        return message
    return Message(key, b"", (*source, *pointer))


def message_bytes(message: Message) -> int:
    """What the message takes as a record of a topic, at most, uncompressed."""
    parts = [message.key, message.value]
    parts += [part for name, content in message.headers for part in (name.encode(), content)]
    return _RECORD_BYTES + sum(len(part) + _PART_BYTES for part in parts)


def letter_of(message: Message, written_at: datetime | None = None) -> DeadLetterLine:
    """The letter that `dead_letter_message` made a message of.

    Raises:
        ValueError: it is none; one line.
    """
    own, ours = _split(message.headers)
    is_pointer, is_tombstone = "pointer" in ours, "tombstone" in ours
    text, encoded = _text(None if is_pointer or is_tombstone else message.value)
    key_text, key_encoded = _text(ours.get("source_key"))
    timestamp = ours.get("source_timestamp", b"").decode("utf-8", "replace")
    try:
        return DeadLetterLine(
            key=message.key.decode("utf-8", "replace"),
            reason=_shown(ours, "reason"),
            detail=_shown(ours, "detail"),
            stage=_shown(ours, "stage"),
            attempts=int(ours["attempts"]),
            topic=_shown(ours, "source_topic"),
            partition=int(ours["source_partition"]),
            offset=int(ours["source_offset"]),
            worker_version=_shown(ours, "worker_version"),
            value=text,
            value_base64=encoded,
            tombstone=is_tombstone,
            value_bytes=int(ours["value_bytes"]) if is_pointer else None,
            value_sha256=_shown(ours, "value_sha256") if is_pointer else None,
            record_key=key_text,
            record_key_base64=key_encoded,
            record_timestamp=datetime.fromisoformat(timestamp) if timestamp else None,
            headers=[HeaderLine(name, *_text(content)) for name, content in own],
            written_at=written_at,
        )
    except KeyError as error:
        raise ValueError(f"it has no header {error}") from error


def as_line(message: Message) -> bytes:
    """The message of `dead_letter_message` as one line of JSON."""
    return msgspec.json.encode(letter_of(message))


def key_of_line(line: bytes) -> bytes:
    """The key of a letter that `as_line` wrote.

    Raises:
        ValueError: it is none.
    """
    return msgspec.json.decode(line, type=DeadLetterLine).key.encode()


def _source_headers(letter: DeadLettered) -> Headers:
    record = letter.record
    detail = letter.detail[:_DETAIL_CHARACTERS].encode("utf-8", "replace")
    headers: Headers = (
        ("reason", letter.reason.encode()),
        ("detail", detail),
        ("stage", letter.stage.encode()),
        ("attempts", str(letter.attempts).encode()),
        ("source_topic", record.partition.topic.encode()),
        ("source_partition", str(record.partition.number).encode()),
        ("source_offset", str(record.offset).encode()),
    )
    if record.timestamp is None:
        return headers
    return (*headers, ("source_timestamp", record.timestamp.isoformat().encode()))


def _pointer_headers(key: bytes, record: Record) -> Headers:
    value = record.value or b""
    return (
        ("pointer", key),
        ("value_bytes", str(len(value)).encode()),
        ("value_sha256", _sha256(value).encode()),
    )


def _split(headers: Headers) -> tuple[Headers, dict[str, bytes]]:
    """The record's own headers, and ours: from the last `reason` on, whatever the record's own are called."""
    places = [place for place, (name, _) in enumerate(headers) if name == "reason"]
    if not places:
        raise ValueError("it has no header 'reason'")
    return headers[: places[-1]], dict(headers[places[-1] :])


def _shown(headers: dict[str, bytes], name: str) -> str:
    return headers[name].decode("utf-8", "replace")


def _text(content: bytes | None) -> tuple[str | None, str | None]:
    """As text, or else as base64."""
    if content is None:
        return None, None
    try:
        return content.decode("utf-8"), None
    except UnicodeDecodeError:
        return None, b64encode(content).decode()


def _bytes(text: str | None, encoded: str | None) -> bytes | None:
    if encoded is not None:
        return b64decode(encoded)
    return None if text is None else text.encode()


def _sha256(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()

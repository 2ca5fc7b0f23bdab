"""What a transport is: where records come from, where they go, and what an acknowledgement means.

The worker's main thread owns the source: every call below is made on that one thread and none may
block for longer than it says. Sinks may be called from one other thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """A partition of a topic; for a file, the file itself and 0."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it was delivered, undecoded.

    Args:
        partition: where it came from.
        offset: its place there; offsets rise but may leave gaps.
        key: the record's key, None where the producer set none.
        value: raw bytes; None is a tombstone (take-down).
        headers: carried through unchanged.
        epoch: the assignment of the partition under which it was delivered. Work of an older epoch is
            dropped, not committed.
        timestamp: when it was produced, as its producer or broker says; None for files.
    """

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    epoch: int = 0
    timestamp: datetime | None = None


class Source(Protocol):
    """Records in, commits back."""

    def poll(self, timeout_s: float) -> Sequence[Record]:
        """Return the next records, at most after `timeout_s`; empty when there are none or when paused.

        Raises:
            TransientError: the broker is away; poll again.
            FatalError: the source can never deliver again.
        """

    def pause(self) -> None:
        """Deliver nothing until `resume`, keeping the membership; `poll` must still be called."""

    def resume(self) -> None:
        """Deliver again."""

    def commit(self, next_offsets: Mapping[Partition, int]) -> None:
        """Record durably that everything below these offsets is done.

        Raises:
            TransientError: not recorded; the same call may be made again.
        """

    def mark(self, notes: Mapping[Partition, str]) -> None:
        """Keep a short note with each partition, durably, beside what is committed; commits keep it.

        Raises:
            TransientError: not recorded.
        """

    def note(self, partition: Partition) -> str:
        """The note that this or another process left with a partition that is ours; empty if none.

        May block for one request the first time that it is asked under an assignment.
        """

    def epoch(self, partition: Partition) -> int | None:
        """The assignment of this partition as of now; None if it is not ours any more. Any thread."""

    def lag(self) -> Mapping[Partition, int]:
        """Records that are there and not yet delivered, as far as known; empty for files. Does not block."""

    def away(self) -> str:
        """Why nothing can come just now, in one line, where `poll` itself does not fail; empty where it can.

        Does not block.
        """

    def exhausted(self) -> bool:
        """True once everything was delivered and no more can come (files; never a topic)."""

    def close(self, *, clean: bool = True) -> None:
        """Leave; uncommitted records will be delivered again to somebody.

        Args:
            clean: clears the notes; otherwise they stay, as if the process had been killed.
        """


@dataclass(frozen=True, slots=True)
class Message:
    """One record to be written; a later one with the same key replaces it for its readers."""

    key: bytes
    value: bytes
    headers: Headers = ()


class Sink(Protocol):
    """Messages out, acknowledged."""

    def write(self, messages: Sequence[Message]) -> None:
        """Write all and return once all are acknowledged (durable as the sink understands it).

        Raises:
            TransientError: some may be unwritten; writing all again is harmless.
        """

    def close(self) -> None:
        """Release the sink; everything written was acknowledged already."""


def still_ours(source: Source) -> Callable[[Record], bool]:
    """Whether a record's partition is still assigned as it was when the record was delivered. Any thread."""
    return lambda record: source.epoch(record.partition) == record.epoch

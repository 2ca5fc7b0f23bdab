"""What `FileSource` reads from: one partition's records in order, and where it may be resumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

BATCH_RECORDS = 64
BATCH_BYTES = 8 << 20  # a batch ends with the record that passes it


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a partition is to be resumed.

    Args:
        next_offset: first record that is not committed.
        position: what the reader needs to find it: a byte offset, or the record's number.
        fingerprint: of the partition's beginning; another one is another source.
        note: what was left with it (`Source.mark`); empty after a clean end.
    """

    next_offset: int
    position: int
    fingerprint: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """A record as it was read.

    Args:
        position: the place behind it, as in `Place`.
    """

    offset: int
    position: int
    value: bytes


class Reader(Protocol):
    """One partition. One thread only."""

    fingerprint: str

    def seek(self, place: Place) -> bool:
        """Go on from there; False, at the beginning, where the place is none of this file any more."""

    def read(self, timeout_s: float) -> list[Read]:
        """The next few records; empty when none came in time.

        Raises:
            FatalError: it can never be read on.
        """

    def at_end(self) -> bool:
        """Whether all was read."""

    def close(self) -> None:
        """Let go of the file."""

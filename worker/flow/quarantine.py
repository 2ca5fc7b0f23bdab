"""Posts that were in flight when a worker died: they run alone, so that the one at fault is found.

Before records start, the highest offset that may be in flight is noted with their partition. Whoever gets
the partition after an unclean end finds the note; a clean end leaves it empty. Only a record that is alone
in flight is charged an attempt, before it starts; charged too often, it is a dead letter.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import structlog

from worker.coordination.attempts import Attempts
from worker.errors import TransientError
from worker.observe.metrics import Metrics
from worker.transport.base import Partition, Record

# Offsets noted ahead, so that not every record costs a note. At most so many more run alone after a crash.
_AHEAD = 32

log = structlog.stdlib.get_logger("worker.flow.quarantine")


class Notes(Protocol):
    """Where notes are kept: a `Source`."""

    def mark(self, notes: Mapping[Partition, str]) -> None:
        """Keep them durably; TransientError where that failed."""

    def note(self, partition: Partition) -> str:
        """The note of a partition; empty if none."""


class _Note(msgspec.Struct, omit_defaults=True):
    worker: str = ""
    upto: int = -1
    attempts: dict[str, int] = {}  # JSON has no integer keys


def released(note: str) -> str:
    """What stays of a note where its partition is left in order: charges, nothing of what was in flight."""
    try:
        attempts = msgspec.json.decode(note, type=_Note).attempts
    except msgspec.DecodeError:
        return ""
    return msgspec.json.encode(_Note(attempts=attempts)).decode() if attempts else ""


@dataclass(slots=True)
class _Watch:
    """One partition under one assignment.

    Args:
        suspect_upto: records up to here may have been in flight at the end of the one before.
        upto: what our own note says.
        noted: whether charges stand in the note, because they could not be kept elsewhere.
    """

    epoch: int
    suspect_upto: int
    upto: int
    attempts: dict[int, int] = field(default_factory=dict)
    noted: bool = False


class Quarantine:
    """Says which records run alone, and charges them. The main thread only; blocks for a note or a charge.

    Args:
        limit: charges after which a record is tried and, if it kills there too, given up; after twice as many
            it is given up whatever the trial said.
        trial: runs a record in a process of its own; gives how that died, empty if it lived. None: no trial.
    """

    def __init__(
        self,
        notes: Notes,
        attempts: Attempts,
        limit: int,
        metrics: Metrics,
        trial: Callable[[Record], str] | None = None,
    ) -> None:
        self._trial = trial
        self._metrics = metrics
        self._notes = notes
        self._attempts = attempts
        self._limit = limit
        self._watches: dict[Partition, _Watch] = {}
        self._charged: Record | None = None
        self._worker = uuid.uuid4().hex[:12]

    def is_suspect(self, record: Record) -> bool:
        """Whether the record may have been in flight when a worker died."""
        watch = self._watch(record)
        return record.offset <= watch.suspect_upto

    def deaths(self, record: Record) -> int:
        """How often the process died while this record was alone in flight."""
        return self._watch(record).attempts.get(record.offset, 0)

    def verdict(self, record: Record) -> str:
        """Why the record must not run again, empty if it may. Blocks for a trial, if one is due."""
        deaths = self.deaths(record)
        if deaths < self._limit:
            return ""
        found = f"the worker died {deaths} times while this record was alone in flight"
        if self._trial is None or deaths >= 2 * self._limit:
            return found
        how = self._trial(record)  # two deaths may be two accidents
        return f"{found}, and so did a process that tried it ({how})" if how else ""

    def charge(self, record: Record) -> None:
        """Charge a record that is about to run alone."""
        self._metrics.suspects.inc()
        self._charged = record
        watch = self._watch(record)
        watch.attempts[record.offset] = watch.attempts.get(record.offset, 0) + 1
        if not self._attempts.charge(record.partition, record.offset):
            watch.noted = True
            self._mark(record.partition, watch)

    def begin(self, record: Record) -> None:
        """Note that this record is about to start, beside others."""
        watch = self._watch(record)
        if record.offset > watch.upto:
            watch.upto = record.offset + _AHEAD
            self._mark(record.partition, watch)

    def finished(self, record: Record) -> None:
        """A record has its outcome, or was let go without harm: its charges are forgotten."""
        watch = self._watches.get(record.partition)
        if watch is None or watch.epoch != record.epoch:
            if record is self._charged:  # its partition moved meanwhile, and nobody died
                self._attempts.clear(record.partition, record.offset)
            return
        if not watch.attempts.pop(record.offset, 0):
            return
        self._attempts.clear(record.partition, record.offset)
        if watch.noted:
            self._mark(record.partition, watch)

    def _watch(self, record: Record) -> _Watch:
        watch = self._watches.get(record.partition)
        if watch is None or watch.epoch < record.epoch:
            watch = self._watches[record.partition] = self._found(record)
        return watch

    def _found(self, record: Record) -> _Watch:
        note = self._read(record.partition)
        attempts = {int(offset): count for offset, count in note.attempts.items()}
        for offset, count in self._attempts.counts(record.partition).items():
            attempts[offset] = max(count, attempts.get(offset, 0))
        attempts = {offset: count for offset, count in attempts.items() if offset >= record.offset}
        suspect_upto = note.upto if note.worker != self._worker else -1  # we are alive: our client broke
        if suspect_upto >= record.offset:
            log.warning(
                "unclean end found; what was in flight runs one at a time",
                partition=record.partition.number,
                from_offset=record.offset,
                to_offset=suspect_upto,
            )
        return _Watch(record.epoch, suspect_upto, note.upto, attempts, noted=bool(note.attempts))

    def _read(self, partition: Partition) -> _Note:
        text = ""
        try:
            text = self._notes.note(partition)
            return msgspec.json.decode(text, type=_Note) if text else _Note()
        except TransientError as error:
            log.warning("note not read", partition=partition.number, error=str(error))
        except msgspec.DecodeError:
            log.warning("note of another program ignored", partition=partition.number)
        return _Note()

    def _mark(self, partition: Partition, watch: _Watch) -> None:
        """Without the note a crash would go unnoticed: still better than standing still."""
        attempts = {str(offset): count for offset, count in watch.attempts.items()}
        note = msgspec.json.encode(_Note(self._worker, watch.upto, attempts)).decode()
        try:
            self._notes.mark({partition: note})
        except TransientError as error:
            log.warning("in-flight note not kept", partition=partition.number, error=str(error))

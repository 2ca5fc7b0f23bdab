"""How long each stage took for each post, until its outcome tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from worker.flow.intake import Decoded
from worker.transport.base import Record
from worker.types import Encoded, Gathered, Outcome, Prepared, TakeDown

Staged = Decoded | Gathered | Prepared | Encoded | TakeDown | Outcome


class StageTimes:
    """Seconds by stage, of the posts in flight. Any thread: a record is in one stage at a time."""

    def __init__(self) -> None:
        self._times: dict[int, dict[str, float]] = {}

    def noting(self, stage: str) -> Callable[[Staged, float], None]:
        """What a stage calls with each item and the seconds that its batch took."""

        def note(item: Staged, seconds: float) -> None:
            record = item.prepared.record if isinstance(item, Encoded) else item.record
            self._times.setdefault(id(record), {})[stage] = seconds

        return note

    def of(self, record: Record) -> Mapping[str, float]:
        """What was noted so far for a record in flight."""
        return self._times.get(id(record), {})

    def forget(self, record: Record) -> None:
        """The record has its outcome."""
        self._times.pop(id(record), None)

"""Which offsets may be committed: the contiguous finished prefix of the records that were delivered."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from worker.transport.base import Partition, Record


@dataclass(slots=True)
class _Delivered:
    offset: int
    at_s: float
    finished: bool = False


@dataclass(slots=True)
class _Progress:
    """One partition under one assignment."""

    epoch: int
    order: deque[_Delivered] = field(default_factory=deque)
    by_offset: dict[int, _Delivered] = field(default_factory=dict)
    newest: int = -1
    next_offset: int | None = None  # everything delivered below it is finished
    committed: int | None = None
    uncommitted_since_s: float | None = None  # when the oldest finished one that no commit covers came


class CommitTracker:
    """Follows the records from delivery to outcome. One thread only.

    Compaction and transaction markers leave gaps in the offsets, so the prefix is counted over the
    records delivered, not over the integers.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._partitions: dict[Partition, _Progress] = {}

    def delivered(self, record: Record) -> None:
        """Note a record; a newer epoch forgets what the older one left behind.

        Raises:
            ValueError: the offset does not rise within its epoch.
        """
        progress = self._partitions.get(record.partition)
        if progress is None or record.epoch > progress.epoch:
            progress = self._partitions[record.partition] = _Progress(record.epoch)
        if record.epoch < progress.epoch:
            return
        if record.offset <= progress.newest:
            raise ValueError(f"{record.partition} delivered offset {record.offset} after {progress.newest}")
        entry = _Delivered(record.offset, self._clock())
        progress.order.append(entry)
        progress.by_offset[record.offset] = entry
        progress.newest = record.offset

    def finished(self, record: Record) -> None:
        """Note that everything about a record is acknowledged. Work of an older epoch says nothing."""
        progress = self._partitions.get(record.partition)
        if progress is None or progress.epoch != record.epoch:
            return
        progress.by_offset[record.offset].finished = True
        while progress.order and progress.order[0].finished:
            done = progress.order.popleft()
            del progress.by_offset[done.offset]
            progress.next_offset = done.offset + 1
            if progress.uncommitted_since_s is None:
                progress.uncommitted_since_s = done.at_s

    def revoked(self, partition: Partition) -> None:
        """Forget a partition: its uncommitted records belong to somebody else now."""
        self._partitions.pop(partition, None)

    def committable(self) -> dict[Partition, int]:
        """The next offsets that are not committed yet."""
        return {
            partition: progress.next_offset
            for partition, progress in self._partitions.items()
            if progress.next_offset is not None and progress.next_offset != progress.committed
        }

    def committed(self, next_offsets: Mapping[Partition, int]) -> None:
        """Note what the source has recorded."""
        for partition, offset in next_offsets.items():
            progress = self._partitions.get(partition)
            if progress is not None:
                progress.committed = offset
                if offset == progress.next_offset:
                    progress.uncommitted_since_s = None

    def epochs(self) -> dict[Partition, int]:
        """The assignment under which each partition's records were delivered."""
        return {partition: progress.epoch for partition, progress in self._partitions.items()}

    @property
    def span(self) -> int:
        """Records delivered that no commit can cover yet, the finished ones behind a slow one included."""
        return sum(len(progress.order) for progress in self._partitions.values())

    def oldest_uncommitted_s(self) -> float:
        """Age of the oldest record that no commit covers, finished or not; 0 if there is none."""
        waiting = [
            progress.order[0].at_s if progress.uncommitted_since_s is None else progress.uncommitted_since_s
            for progress in self._partitions.values()
            if progress.order or progress.uncommitted_since_s is not None
        ]
        return self._clock() - min(waiting) if waiting else 0.0

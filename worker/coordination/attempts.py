"""How often a record was alone in flight when its worker died, kept where the next worker finds it."""

from __future__ import annotations

from typing import Any, Final, Protocol

from worker.coordination.redis import SharedRedis
from worker.errors import TransientError
from worker.transport.base import Partition

USE: Final = "attempts"
_DAYS = 7


class Attempts(Protocol):
    """Charges by partition and offset. The main thread only; blocks for one call of Redis."""

    def counts(self, partition: Partition) -> dict[int, int]:
        """Charges by offset."""

    def charge(self, partition: Partition, offset: int) -> bool:
        """One more; False if it could not be kept, and the caller must keep it."""

    def clear(self, partition: Partition, offset: int) -> None:
        """Forget a record's charges."""


class NoAttempts:
    """Keeps nothing: without Redis the charges stand in the note beside the commit."""

    def counts(self, partition: Partition) -> dict[int, int]:
        """None."""
        return {}

    def charge(self, partition: Partition, offset: int) -> bool:
        """Never kept."""
        return False

    def clear(self, partition: Partition, offset: int) -> None:
        """Nothing to forget."""


class RedisAttempts:
    """One hash for each partition of a group, forgotten a week after its last charge. Fails open.

    Args:
        group: of consumers, whose members charge together.
    """

    def __init__(self, redis: SharedRedis, group: str) -> None:
        self._redis = redis
        self._group = group

    def counts(self, partition: Partition) -> dict[int, int]:
        """Charges by offset; none while Redis is away."""
        name = self._name(partition)
        try:
            fields = self._redis.call(USE, lambda redis: redis.hgetall(name))
        except TransientError:
            return {}
        return {int(offset): int(count) for offset, count in fields.items()}

    def charge(self, partition: Partition, offset: int) -> bool:
        """One more; False while Redis is away."""
        name = self._name(partition)
        try:
            self._redis.call(USE, lambda redis: _increment(redis, name, offset))
        except TransientError:
            return False
        return True

    def clear(self, partition: Partition, offset: int) -> None:
        """Forget a record's charges; while Redis is away they stay, for a record that is done anyway."""
        name = self._name(partition)
        try:
            self._redis.call(USE, lambda redis: redis.hdel(name, str(offset)))
        except TransientError:
            return

    def _name(self, partition: Partition) -> bytes:
        return self._redis.key(USE, self._group, partition.topic, str(partition.number))


def _increment(redis: Any, name: bytes, offset: int) -> None:
    with redis.pipeline(transaction=True) as pipeline:
        pipeline.hincrby(name, str(offset), 1)
        pipeline.expire(name, _DAYS * 86_400)
        pipeline.execute()

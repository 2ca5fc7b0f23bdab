"""Which pairs were emitted, by the workers together: so that no pair is emitted by both of its posts."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from worker.coordination.redis import SharedRedis
from worker.errors import TransientError

USE: Final = "emitted"
_REMEMBERED = 200_000  # about 35 MB
_DIGEST_BYTES = 16
_CALL_KEYS = 500
_CATCH_UP_CALLS = 4  # of one `record`, for what could not be shared before


class EmittedPairs:
    """Remembers keys of acknowledged matches. One thread only; blocks for a call of Redis or a few.

    Behind a bounded memory of the process's own stands Redis. While Redis is away the memory alone answers,
    so that what another worker emitted may be emitted again, and what is recorded is shared once Redis is
    back.

    Args:
        redis: None for the memory alone.
        days: how long Redis remembers.
        remembered: keys in memory.
    """

    def __init__(self, redis: SharedRedis | None, days: float, remembered: int = _REMEMBERED) -> None:
        self._redis = redis
        self._seconds = max(1, round(days * 86_400))
        self._memory = _Recent(remembered)
        self._unshared: OrderedDict[bytes, None] = OrderedDict()
        self._unshared_most = remembered

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the keys that were recorded."""
        found = {key for key in keys if key in self._memory}
        asked = [key for key in dict.fromkeys(keys) if key not in found]
        for start in range(0, len(asked), _CALL_KEYS):
            shared = self._shared(asked[start : start + _CALL_KEYS])
            self._memory.add(shared)
            found.update(shared)
        return found

    def record(self, keys: Iterable[bytes]) -> None:
        """Remember keys whose matches the sink has acknowledged."""
        keys = list(keys)
        self._memory.add(keys)
        if self._redis is None:
            return
        self._unshared.update(dict.fromkeys(keys))
        while len(self._unshared) > self._unshared_most:
            self._unshared.popitem(last=False)
        for _ in range(_CATCH_UP_CALLS + len(keys) // _CALL_KEYS):
            if not self._unshared or not self._share(self._redis):
                break

    def _shared(self, keys: Sequence[bytes]) -> list[bytes]:
        if self._redis is None:
            return []
        names = [self._redis.key(USE, key) for key in keys]
        try:
            values = self._redis.call(USE, lambda client: client.mget(names))
        except TransientError:
            return []
        return [key for key, value in zip(keys, values, strict=True) if value is not None]

    def _share(self, redis: SharedRedis) -> bool:
        """Hand the oldest of what Redis does not know yet to it; False where that failed."""
        keys = list(islice(self._unshared, _CALL_KEYS))
        names = [redis.key(USE, key) for key in keys]
        try:
            redis.call(USE, lambda client: self._set(client, names))
        except TransientError:
            return False
        for key in keys:
            del self._unshared[key]
        return True

    def _set(self, client: Any, names: Sequence[bytes]) -> None:
        with client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.set(name, b"1", ex=self._seconds)
            pipeline.execute()


class _Recent:
    """The newest keys, as digests."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        return _digest(key) in self._digests

    def add(self, keys: Iterable[bytes]) -> None:
        for digest in map(_digest, keys):
            self._digests[digest] = None
            self._digests.move_to_end(digest)
        while len(self._digests) > self._most:
            self._digests.popitem(last=False)


def _digest(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=_DIGEST_BYTES).digest()

"""Room for downloads: a bound on the bytes held, which cannot deadlock."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class _Waiter:
    lease: Lease
    size: int
    granted: asyncio.Future[None]


class BytePool:
    """Bounds the bytes that all leases hold together.

    One rule keeps a post that holds some images and waits for room for the next from waiting for ever on
    others that do the same: the oldest of the leases that hold or wait is always given what it asks for. So
    the pool holds at most its capacity and one post's images more. The others are served by age.

    Args:
        capacity_bytes: of all leases.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._lock = threading.Lock()
        self._ages = itertools.count()
        self._active: dict[Lease, None] = {}  # hold or wait; the oldest first
        self._waiters: list[_Waiter] = []
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """What the leases hold now."""
        return self._used_bytes

    def lease(self) -> Lease:
        """Room for one post's images; holds nothing yet."""
        return Lease(self)

    def _try_take(self, lease: Lease, size: int) -> bool:
        with self._lock:
            return self._grant(lease, size)

    async def _take(self, lease: Lease, size: int) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._grant(lease, size):
                return
            self._active.setdefault(lease)
            waiter = _Waiter(lease, size, loop.create_future())
            self._waiters.append(waiter)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            with self._lock:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                else:  # granted in the same moment
                    self._return(lease, size)
                self._retire(lease)
                self._serve()
            raise

    def _give_back(self, lease: Lease, size: int | None) -> None:
        with self._lock:
            self._return(lease, lease.held_bytes if size is None else size)
            self._retire(lease)
            self._serve()

    def _grant(self, lease: Lease, size: int) -> bool:
        first = next(iter(self._active), lease) is lease
        # nobody overtakes those that wait, except who already holds: it would only hold for longer
        fits = self._used_bytes + size <= self._capacity_bytes and (
            not self._waiters or lease in self._active
        )
        if not first and not fits:
            return False
        self._active.setdefault(lease)
        lease.held_bytes += size
        self._used_bytes += size
        return True

    def _return(self, lease: Lease, size: int) -> None:
        if not 0 <= size <= lease.held_bytes:
            raise ValueError(f"{size} bytes given back of {lease.held_bytes}")
        lease.held_bytes -= size
        self._used_bytes -= size

    def _retire(self, lease: Lease) -> None:
        """A lease that neither holds nor waits loses its place."""
        if not lease.held_bytes and not any(waiter.lease is lease for waiter in self._waiters):
            self._active.pop(lease, None)

    def _serve(self) -> None:
        """Grant what fits now, by age. Any thread: each future is set on its own loop."""
        places = {lease: place for place, lease in enumerate(self._active)}
        for waiter in sorted(self._waiters, key=lambda waiter: places[waiter.lease]):
            if not self._grant(waiter.lease, waiter.size):
                break
            self._waiters.remove(waiter)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                waiter.granted.get_loop().call_soon_threadsafe(_wake, waiter.granted)


def _wake(granted: asyncio.Future[None]) -> None:
    if not granted.done():
        granted.set_result(None)


class Lease:
    """What the images of one post hold in the pool.

    Args:
        pool: made by `BytePool.lease`.
    """

    def __init__(self, pool: BytePool) -> None:
        self._pool = pool
        self.held_bytes = 0

    def try_take(self, size: int) -> bool:
        """Take room if there is some now. Any thread; does not block."""
        return self._pool._try_take(self, size)

    async def take(self, size: int) -> None:
        """Wait for room, for as long as the leases that are older need theirs. On one event loop."""
        await self._pool._take(self, size)

    def give_back(self, size: int) -> None:
        """Return some of what was taken. Any thread; does not block.

        Raises:
            ValueError: it is more than is held.
        """
        self._pool._give_back(self, size)

    def release(self) -> None:
        """Return everything; more may be taken later.

        Any thread; does not block; harmless when repeated. Not while a fetch for this lease still runs.
        """
        self._pool._give_back(self, None)

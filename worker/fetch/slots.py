"""How many downloads run at once: in all, and from one host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class _Host:
    slots: asyncio.Semaphore
    users: int = 0


class Slots:
    """Slots for requests. One event loop only; hosts that nobody uses are forgotten.

    Args:
        total: requests at once.
        per_host: the same, to one host.
    """

    def __init__(self, total: int, per_host: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._per_host = per_host
        self._hosts: dict[str, _Host] = {}

    @property
    def hosts(self) -> int:
        """How many hosts are in use or waited for."""
        return len(self._hosts)

    @asynccontextmanager
    async def slot(self, host: str) -> AsyncIterator[None]:
        """Hold one; waits its turn for as long as that takes. Never held two at a time by one caller."""
        entry = self._hosts.setdefault(host, _Host(asyncio.Semaphore(self._per_host)))
        entry.users += 1
        try:
            # the host's first: those that wait for a slow host must not hold what others could use
            async with entry.slots, self._total:
                yield
        finally:
            entry.users -= 1
            if not entry.users:
                del self._hosts[host]

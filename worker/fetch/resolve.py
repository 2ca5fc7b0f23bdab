"""Names to addresses, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence

# Addresses of a host, in the order to try them; raises OSError where there are none.
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_THREADS = 64


class SystemResolver:
    """`getaddrinfo` in daemon threads, so that a name server that hangs holds up no exit.

    A look-up that is given up goes on until the system's own time-out; `_THREADS` run at once at most.
    """

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_THREADS)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Resolve. Does not block the loop.

        Raises:
            OSError: the name has no address, or no name server answers.
        """
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str]] = loop.create_future()
        thread = threading.Thread(
            target=self._look_up, args=(host, port, loop, answer), name="resolve", daemon=True
        )
        thread.start()
        return await answer

    def _look_up(
        self, host: str, port: int, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Sequence[str]]
    ) -> None:
        result: Sequence[str] | OSError
        try:
            # as bytes: a str would go through an older IDNA first
            found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
            result = [str(address[0]) for *_, address in found]
        except OSError as error:
            result = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._finish, answer, result)

    def _finish(self, answer: asyncio.Future[Sequence[str]], result: Sequence[str] | OSError) -> None:
        self._slots.release()
        if answer.done():  # the waiter was cancelled
            return
        if isinstance(result, OSError):
            answer.set_exception(result)
        else:
            answer.set_result(result)

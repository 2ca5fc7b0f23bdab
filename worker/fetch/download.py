"""One download: redirects, repeats, and a body that is checked while it arrives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

import httpx2
import tenacity

from worker.errors import InvalidPost, Reason, TransientError
from worker.fetch.away import AwayHosts
from worker.fetch.client import Answer, Client, request_host
from worker.fetch.content import SNIFFED_BYTES, check_image
from worker.fetch.pool import Lease
from worker.fetch.slots import Slots
from worker.fetch.urls import follow, shown
from worker.observe.metrics import Metrics
from worker.sections import FetchConfig

_REDIRECTS = (301, 302, 303, 307, 308)
_BUSY = (408, 425, 429)


class NeedsRoom(Exception):
    """The image is larger than the room it has, and there is no more just now."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class Clock:
    """Seconds that one image may still take; stands still while it waits for our own bounds."""

    def __init__(self, total_s: float) -> None:
        self._start = time.monotonic()
        self._end = self._start + total_s

    @property
    def left_s(self) -> float:
        return self._end - time.monotonic()

    @property
    def used_s(self) -> float:
        return time.monotonic() - self._start

    @contextmanager
    def paused(self) -> Iterator[None]:
        begin = time.monotonic()
        try:
            yield
        finally:
            waited = time.monotonic() - begin
            self._start += waited
            self._end += waited


@dataclass(slots=True)
class Room:
    """What one download holds of its post's lease; given back on exit, but for what is kept.

    Args:
        size: taken already.
    """

    lease: Lease
    size: int
    kept: int = 0

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *error: object) -> None:
        self.lease.give_back(self.size - self.kept)

    def grow(self, size: int) -> None:
        """Hold at least this much.

        Raises:
            NeedsRoom: there is none now; waiting for it must not hold up a slot.
        """
        if size > self.size:
            if not self.lease.try_take(size - self.size):
                raise NeedsRoom(size)
            self.size = size


class Downloader:
    """Downloads over one client. One event loop only.

    Args:
        max_bytes: of one file; larger ones are refused as soon as it is known.
    """

    def __init__(self, client: Client, config: FetchConfig, max_bytes: int, metrics: Metrics) -> None:
        self._client, self._config, self._max_bytes, self._metrics = client, config, max_bytes, metrics
        self._slots = Slots(config.concurrency, config.per_host)
        self._away = AwayHosts()
        self._slow_s = min(config.connect_s, config.total_s) / 2

    async def download(self, url: httpx2.URL, room: Room, clock: Clock) -> bytes:
        """Fetch the image at this address, which was checked by `parse_url`, within what the clock has left.

        Raises:
            InvalidPost: refused, unavailable, too large or no image, with the reason.
            NeedsRoom: to be called again with so much room; nothing is held up meanwhile.
        """
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            wait=_wait,
            stop=lambda state: (
                state.attempt_number >= self._config.attempts or state.upcoming_sleep >= clock.left_s
            ),
            reraise=True,
        )
        try:
            return await retrying(self._attempt, url, room, clock)
        except TransientError as error:
            attempts = retrying.statistics["attempt_number"]
            detail = str(error) if attempts == 1 else f"{error} ({attempts} attempts)"
            raise InvalidPost(Reason.IMAGE_UNAVAILABLE, detail) from error

    async def _attempt(self, url: httpx2.URL, room: Room, clock: Clock) -> bytes:
        first = url
        for _ in range(self._config.max_redirects + 1):
            try:
                result = await self._slotted_hop(url, room, clock)
            except InvalidPost as error:
                if url is first:
                    raise
                raise InvalidPost(error.reason, f"{shown(first)} led elsewhere: {error.detail}") from error
            if isinstance(result, bytes):
                return result
            url = result
        detail = f"{shown(first)}: more than {self._config.max_redirects} redirects"
        raise InvalidPost(Reason.IMAGE_UNAVAILABLE, detail)

    async def _slotted_hop(self, url: httpx2.URL, room: Room, clock: Clock) -> bytes | httpx2.URL:
        host = request_host(url)
        async with AsyncExitStack() as stack:
            with clock.paused():
                await stack.enter_async_context(self._slots.slot(host))
            if self._away.is_away(host):
                detail = f"{shown(url)}: the host did not answer lately and is not asked for a while"
                raise InvalidPost(Reason.IMAGE_UNAVAILABLE, detail)
            begin = clock.left_s
            try:
                async with asyncio.timeout(clock.left_s):
                    result = await self._hop(url, room)
            except TimeoutError as error:
                self._away.failed(host)
                detail = f"{shown(url)}: not complete within {self._config.total_s:g} s"
                raise InvalidPost(Reason.IMAGE_UNAVAILABLE, detail) from error
            except TransientError:
                if begin - clock.left_s >= self._slow_s:
                    self._away.failed(host)
                raise
            self._away.answered(host)
            return result

    async def _hop(self, url: httpx2.URL, room: Room) -> bytes | httpx2.URL:
        """One request: the image, or where to go on."""
        async with self._client.get(url) as answer:
            if answer.status == 200:
                return await self._read(answer, shown(url), room)
            if answer.status in _REDIRECTS and "location" in answer.headers:
                return follow(url, answer.headers["location"])
            detail = f"{shown(url)}: status {answer.status}"
            if answer.status in _BUSY or answer.status >= 500:
                asked_s = answer.retry_after_s
                asks = "" if asked_s is None else f", asks to come back in {asked_s:.0f} s"
                raise TransientError(detail + asks, asked_s)
            raise InvalidPost(Reason.IMAGE_UNAVAILABLE, detail)

    async def _read(self, answer: Answer, name: str, room: Room) -> bytes:
        declared = answer.content_length
        if declared is not None and declared > self._max_bytes:
            raise self._too_large(name, f"{declared} bytes")
        if declared is not None:
            room.grow(declared)
        data = bytearray()
        sniffed = False
        try:
            async for chunk in answer.body:
                data += chunk
                if len(data) > self._max_bytes:
                    raise self._too_large(name, "it goes on")
                if not sniffed and len(data) >= SNIFFED_BYTES:
                    check_image(bytes(data[:SNIFFED_BYTES]), name)
                    sniffed = True
                if len(data) > room.size:
                    room.grow(self._max_bytes)
            if not sniffed:
                check_image(bytes(data), name)
            return bytes(data)  # for a moment twice; the one thread of the loop does one at a time
        finally:
            self._metrics.fetch_bytes.inc(len(data))
            data.clear()  # a traceback could keep it for longer than the room is held

    def _too_large(self, name: str, what: str) -> InvalidPost:
        return InvalidPost(Reason.IMAGE_TOO_LARGE, f"{name}: {what}, at most {self._max_bytes} are taken")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _wait(state: tenacity.RetryCallState) -> float:
    """As long as the server asked for, and with jitter otherwise."""
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, TransientError) else None
    jitter_s = tenacity.wait_random_exponential(multiplier=0.25, max=5.0)(state)
    return max(asked_s or 0.0, jitter_s)

"""Fetching images: the whole way from an address to bytes that begin like an image."""

from __future__ import annotations

import asyncio
import ssl

import httpx2
import structlog

from model.pictures.decode import ImageLimits
from worker.errors import InvalidPost, Reason
from worker.fetch.addresses import AddressPolicy
from worker.fetch.cache import ByteCache
from worker.fetch.client import CheckedBackend, Client
from worker.fetch.download import Clock, Downloader, NeedsRoom, Room
from worker.fetch.pool import BytePool, Lease
from worker.fetch.resolve import Resolver, SystemResolver
from worker.fetch.urls import parse_url
from worker.observe.metrics import Metrics
from worker.sections import FetchConfig

log = structlog.stdlib.get_logger("worker.fetch")

_FIRST_BYTES = 1 << 20  # room taken before the size is known
_CACHE_LIFE_S = 600.0
_RESULTS = {
    Reason.IMAGE_REFUSED: "refused",
    Reason.IMAGE_UNAVAILABLE: "unavailable",
    Reason.IMAGE_TOO_LARGE: "too_large",
    Reason.IMAGE_FORMAT: "no_image",
}


class Fetcher:
    """Images by address, from public hosts only. Everything runs on one event loop.

    An image has `total_s` seconds for names, connections, redirects, repeats and the body. Waiting for our
    own bounds (room, slots) does not count: a slow pipeline is not the image's fault. That wait ends when
    the posts ahead are decoded and give their leases back.

    Args:
        limits: of one file; larger ones are refused as soon as it is known.
        resolver: of names to addresses; None for the system's own.
        ssl_context: whom to trust; None for the system's own authorities.

    Raises:
        ConfigError: a setting of `config` cannot be used.
    """

    def __init__(
        self,
        config: FetchConfig,
        limits: ImageLimits,
        metrics: Metrics,
        *,
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._first_bytes = min(_FIRST_BYTES, limits.max_bytes)
        client = Client(
            CheckedBackend(AddressPolicy.of(config.allow_networks), resolver or SystemResolver()),
            connections=config.concurrency,
            connect_s=config.connect_s,
            user_agent=config.user_agent,
            ssl_context=ssl_context,
        )
        self.pool = BytePool(config.in_flight_bytes)
        self._downloader = Downloader(client, config, limits.max_bytes, metrics)
        self._cache = ByteCache(config.cache_bytes, _CACHE_LIFE_S)
        self._flights: dict[str, asyncio.Future[bytes | InvalidPost | None]] = {}

    def lease(self) -> Lease:
        """Room for one post's images; release it, on any thread, once they are decoded."""
        return self.pool.lease()

    async def fetch(self, url: str, lease: Lease) -> bytes:
        """Fetch one image. Its bytes are charged to `lease`; nothing is when it fails.

        Equal addresses are fetched once, also when they are asked for at the same moment.

        Raises:
            InvalidPost: refused, unavailable, too large or no image, with the reason.
        """
        try:
            data, result = await self._fetch(url, lease)
        except InvalidPost as error:
            self._metrics.fetches.labels(_RESULTS[error.reason]).inc()
            log.info("image not fetched", reason=error.reason.value, detail=error.detail)
            raise
        self._metrics.fetches.labels(result).inc()
        return data

    async def aclose(self) -> None:
        """Close the connections; to be called when no fetch runs any more."""
        await self._downloader.aclose()

    async def _fetch(self, text: str, lease: Lease) -> tuple[bytes, str]:
        if not self._config.enabled:
            raise InvalidPost(Reason.IMAGE_REFUSED, "fetching by address is switched off")
        url = parse_url(text)
        key = str(url)
        size = self._first_bytes
        clock = Clock(self._config.total_s)
        while True:
            if (known := await self._known(key)) is not None:
                await lease.take(len(known))
                return known, "cached"
            with clock.paused():
                await lease.take(size)
            with Room(lease, size) as room:
                # another may have begun meanwhile. A flight must never wait for room: its followers' own
                # leases could be what it waits for
                if key in self._flights or self._cache.get(key) is not None:
                    continue
                try:
                    data = await self._lead(url, key, room, clock)
                except NeedsRoom as need:
                    size = need.size
                    continue
                room.kept = len(data)
                return data, "fetched"

    async def _known(self, key: str) -> bytes | None:
        """From the cache, or from a download that runs already."""
        data = self._cache.get(key)
        while data is None and key in self._flights:
            result = await asyncio.shield(self._flights[key])
            if isinstance(result, InvalidPost):
                raise InvalidPost(result.reason, result.detail)
            data = result
        return data

    async def _lead(self, url: httpx2.URL, key: str, room: Room, clock: Clock) -> bytes:
        """Download, and tell those who ask for the same meanwhile."""
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        result: bytes | InvalidPost | None = None  # none: cancelled or out of room; the others try themselves
        try:
            result = await self._downloader.download(url, room, clock)
            self._cache.put(key, result)
            return result
        except InvalidPost as error:
            result = InvalidPost(error.reason, error.detail)  # without the frames of its traceback
            raise
        finally:
            del self._flights[key]
            flight.set_result(result)
            if result is not None:
                self._metrics.fetch_seconds.observe(clock.used_s)

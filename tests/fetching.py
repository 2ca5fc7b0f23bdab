"""A fetcher for the tests, which takes 127.0.0.1 for the public internet and finds every name there."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from model.pictures.decode import ImageLimits
from worker.errors import InvalidPost
from worker.fetch.fetcher import Fetcher
from worker.observe.metrics import Metrics
from worker.sections import FetchConfig

PATIENCE_S = 30.0
OUTSIDE = ["127.0.0.1/32"]
NAME = "pictures.example"
SETTINGS = FetchConfig(allow_networks=OUTSIDE, total_s=10.0)


async def at_home(host: str, port: int) -> Sequence[str]:
    """Every name is this machine's."""
    return ["127.0.0.1"]


@contextlib.asynccontextmanager
async def fetching(
    config: FetchConfig = SETTINGS,
    *,
    max_bytes: int = 20 << 20,
    metrics: Metrics | None = None,
    trusted: ssl.SSLContext | None = None,
) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(
        config, ImageLimits(max_bytes=max_bytes), metrics or Metrics(), resolver=at_home, ssl_context=trusted
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield fetcher
    finally:
        await fetcher.aclose()


def fetch(url: str, config: FetchConfig = SETTINGS, trusted: ssl.SSLContext | None = None) -> bytes:
    async def run() -> bytes:
        async with fetching(config, trusted=trusted) as fetcher:
            return await fetcher.fetch(url, fetcher.lease())

    return asyncio.run(run())


def refusal(url: str, config: FetchConfig = SETTINGS, trusted: ssl.SSLContext | None = None) -> InvalidPost:
    with pytest.raises(InvalidPost) as caught:
        fetch(url, config, trusted)
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other tasks and threads bring about."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


def count(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0

"""How often the LLM may be asked: one budget over all workers, kept in Redis.

Two token buckets (requests and tokens a minute) and a time before which nobody asks, set by a 429 or by
the endpoint's own limit headers. A caller takes its share at once and sleeps until it is due, so callers
are served in order and nobody polls. Where Redis is away, each worker keeps the budget by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import time
from dataclasses import dataclass
from typing import Final

import structlog

from worker.coordination.redis import AsyncSharedRedis
from worker.errors import TransientError
from worker.sections import LlmConfig

MAX_PAUSE_S: Final = 600.0  # an endpoint that asks for hours is tried again this often
_BURST_S = 6.0  # of the rate that may be used at once: a tenth of the minute that endpoints count by
_KEEP_MS = 600_000
_SPREAD = 0.1  # of a wait, so that workers do not all come back in the same moment
_log = structlog.stdlib.get_logger("worker.explain")

# KEYS: the buckets' hash, the pause. ARGV: requests, tokens, requests/ms, tokens/ms (0: no limit),
# burst in ms, longest wait in ms, life in ms. Gives the wait in ms, or -1 if it would be too long.
_TAKE = """
local pause = math.max(redis.call('PTTL', KEYS[2]), 0)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local old = redis.call('HMGET', KEYS[1], '1', '2', 'at')
local passed = math.max(now - (tonumber(old[3]) or now), 0)
local wait, levels = pause, {}
for i = 1, 2 do
  local rate, need = tonumber(ARGV[2 + i]), tonumber(ARGV[i])
  if rate > 0 then
    local room = math.max(rate * tonumber(ARGV[5]), 1)
    local level = math.min((tonumber(old[i]) or room) + passed * rate, room)
    if need > 0 then wait = math.max(wait, (math.min(need, room) - level) / rate) end
    levels[i] = level - need
  end
end
if wait > tonumber(ARGV[6]) then return -1 end
redis.call('HSET', KEYS[1], '1', levels[1] or 0, '2', levels[2] or 0, 'at', now)
redis.call('PEXPIRE', KEYS[1], ARGV[7] + math.ceil(wait))
return math.ceil(wait)
"""
# KEYS: the buckets' hash. ARGV: tokens, life in ms.
_GIVE_BACK = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBYFLOAT', KEYS[1], '2', ARGV[1])
end
"""
# KEYS: the pause. ARGV: ms. A pause is never shortened.
_PAUSE = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
end
"""


class RateBudget:
    """The budget of one endpoint and model. One event loop.

    Args:
        shared: None for a budget of this process alone.
    """

    def __init__(self, config: LlmConfig, shared: AsyncSharedRedis | None) -> None:
        self._rates = (
            (config.requests_per_minute or 0.0) / 60_000,
            (config.tokens_per_minute or 0.0) / 60_000,
        )  # per millisecond
        self._own = _Buckets(self._rates)
        self._shared = shared
        if shared is not None:
            name = hashlib.sha256(f"{config.base_url}\n{config.model}".encode()).hexdigest()[:16]
            self._key = shared.key("budget", name)
            self._pause_key = shared.key("budget", name, "pause")

    async def take(self, tokens: int, deadline: float) -> bool:
        """Take one request of so many tokens, and sleep until it may be sent.

        Args:
            deadline: by the event loop's clock.

        Returns:
            False, mostly at once, if it would not be due before the deadline.
        """
        wait_ms = await self._take(1, tokens, deadline)
        while wait_ms > 0:
            await asyncio.sleep(wait_ms / 1000 * (1 + _SPREAD * random.random()))
            wait_ms = await self._take(0, 0, deadline)  # a pause may have been set while we slept
        return wait_ms == 0

    async def _take(self, requests: int, tokens: int, deadline: float) -> float:
        """The wait in milliseconds, or -1."""
        longest_ms = (deadline - asyncio.get_running_loop().time()) * 1000 / (1 + _SPREAD)
        if self._shared is None:
            return self._own.take(requests, tokens, longest_ms)
        arguments = (requests, tokens, *self._rates, _BURST_S * 1000, longest_ms, _KEEP_MS)
        try:
            return float(
                await self._shared.call(
                    "budget", lambda redis: redis.eval(_TAKE, 2, self._key, self._pause_key, *arguments)
                )
            )
        except TransientError:
            return self._own.take(requests, tokens, longest_ms)

    async def give_back(self, tokens: int) -> None:
        """Return what was estimated above what was used (or, below 0, take what was used above it)."""
        if not self._rates[1] or not tokens:
            return
        self._own.give_back(tokens)
        if self._shared is None:
            return
        try:
            await self._shared.call("budget", lambda redis: redis.eval(_GIVE_BACK, 1, self._key, tokens))
        except TransientError:
            return  # counted by the call; our own budget knows

    async def pause(self, seconds: float) -> None:
        """Let no worker ask before so many seconds have passed."""
        milliseconds = math.ceil(min(seconds, MAX_PAUSE_S) * 1000)
        if milliseconds <= 0:
            return
        _log.info("llm paused", seconds=milliseconds / 1000)
        self._own.pause(milliseconds)
        if self._shared is None:
            return
        try:
            await self._shared.call(
                "budget", lambda redis: redis.eval(_PAUSE, 1, self._pause_key, milliseconds)
            )
        except TransientError:
            return


@dataclass(slots=True)
class _Bucket:
    """Fills at `rate`; may be overdrawn, so that one large request still goes through."""

    rate: float
    level: float
    at: float

    @property
    def room(self) -> float:
        return max(self.rate * _BURST_S * 1000, 1.0)


class _Buckets:
    """The same budget in this process's memory. Milliseconds by the monotonic clock."""

    def __init__(self, rates: tuple[float, float]) -> None:
        now = _now_ms()
        self._buckets = tuple(_Bucket(rate, max(rate * _BURST_S * 1000, 1.0), now) for rate in rates)
        self._not_before = now

    def take(self, requests: int, tokens: int, longest_ms: float) -> float:
        """As the script does it: the wait, or -1."""
        now = _now_ms()
        wait = max(self._not_before - now, 0.0)
        limited = [
            (bucket, need)
            for bucket, need in zip(self._buckets, (requests, tokens), strict=True)
            if bucket.rate > 0
        ]
        for bucket, need in limited:
            bucket.level = min(bucket.level + (now - bucket.at) * bucket.rate, bucket.room)
            bucket.at = now
            if need > 0:
                wait = max(wait, (min(need, bucket.room) - bucket.level) / bucket.rate)
        if wait > longest_ms:
            return -1
        for bucket, need in limited:
            bucket.level -= need
        return wait

    def give_back(self, tokens: int) -> None:
        self._buckets[1].level += tokens

    def pause(self, milliseconds: float) -> None:
        self._not_before = max(self._not_before, _now_ms() + milliseconds)


def _now_ms() -> float:
    return time.monotonic() * 1000

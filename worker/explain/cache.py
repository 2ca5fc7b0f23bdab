"""Explanations that were paid for, shared by all workers: each text is asked about once.

A look-up in Redis either finds the answer, or takes a lease to ask for it, or learns that another
worker holds the lease and waits for what that one stores. Within the process the same holds without
Redis. Where Redis is away, memory of our own serves, and workers may ask twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final

import msgspec
import structlog

from worker.coordination.redis import AsyncSharedRedis
from worker.errors import TransientError
from worker.explain.answer import Answer
from worker.explain.prompt import PROMPT_VERSION
from worker.observe.metrics import Metrics
from worker.sections import LlmConfig

MEMORY_ENTRIES: Final = 4096  # of at most some 2 KB each
_JITTER = 0.1
_FIRST_POLL_S, _LAST_POLL_S = 0.02, 0.5
_LEASE_MARGIN_S = 1.0
_log = structlog.stdlib.get_logger("worker.explain")

# KEYS: answer, lease. ARGV: token, life of the lease in ms. Gives the answer, or 1 if the lease is ours
# now, or 0 if another holds it.
_LOOK = """
local found = redis.call('GET', KEYS[1])
if found then return found end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
"""
# KEYS: answer, lease. ARGV: token, answer (empty for none), its life in ms.
_RELEASE = """
if ARGV[2] ~= '' then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
"""

Ask = Callable[[], Awaitable[Answer]]


def cache_key(config: LlmConfig, data: str, image: bytes | None) -> str:
    """Everything that the answer depends on, hashed."""
    parts = [
        PROMPT_VERSION,
        config.model,
        config.temperature,
        config.max_tokens,
        config.extra_body,
        hashlib.sha256(image).hexdigest() if image else "",
        data,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class ExplanationCache:
    """Answers by key. One event loop.

    Args:
        shared: None for memory of this process alone.
    """

    def __init__(self, config: LlmConfig, shared: AsyncSharedRedis | None, metrics: Metrics) -> None:
        self._lives_s = {True: config.cache_days * 86_400, False: config.unknown_hours * 3600}
        self._shared = None if shared is None else _Shared(shared, config.deadline_s + _LEASE_MARGIN_S)
        self._results = metrics.explanation_cache
        self._memory = _Memory()
        self._flights: dict[str, asyncio.Event] = {}
        self._releases: set[asyncio.Task[None]] = set()

    async def get(self, key: str, ask: Ask) -> Answer:
        """The answer that is known, or that somebody is asking for now, or else what `ask` gives.

        Waits as long as another call or worker asks: bound it from outside. If that one fails, the next
        that waits asks.

        Raises:
            whatever `ask` raises; nothing is stored then.
        """
        waited = False
        while (answer := self._memory.get(key)) is None and (flight := self._flights.get(key)) is not None:
            waited = True
            await flight.wait()
        if answer is not None:
            return self._counted(answer, waited=waited)
        flight = self._flights[key] = asyncio.Event()
        try:
            return await self._fetch(key, ask, waited=waited)
        finally:
            del self._flights[key]
            flight.set()

    async def aclose(self) -> None:
        """Wait until every answer is stored and every lease given back."""
        while self._releases:
            await asyncio.wait(self._releases)

    async def _fetch(self, key: str, ask: Ask, *, waited: bool) -> Answer:
        if self._shared is None:
            return await self._asked(key, ask)
        token, poll_s = secrets.token_hex(16), _FIRST_POLL_S
        leased, answer = True, None  # a look that is cancelled may have taken the lease
        try:
            while (found := await self._shared.look(key, token)) is Lease.HELD:
                leased, waited = False, True
                await asyncio.sleep(poll_s * random.uniform(0.5, 1.0))
                poll_s, leased = min(poll_s * 1.5, _LAST_POLL_S), True
            if isinstance(found, Answer):
                leased = False
                self._memory.put(key, found, self._life_s(found))
                return self._counted(found, waited=waited)
            answer = await self._asked(key, ask)
            return answer
        finally:
            if leased:
                self._release_soon(key, token, answer)

    async def _asked(self, key: str, ask: Ask) -> Answer:
        self._results.labels("miss").inc()
        answer = await ask()
        self._memory.put(key, answer, self._life_s(answer))
        return answer

    def _release_soon(self, key: str, token: str, answer: Answer | None) -> None:
        """In a task of its own: a post that is cancelled or out of time does not wait for it."""
        if self._shared is None:
            return
        life_s = 0.0 if answer is None else self._life_s(answer)
        task = asyncio.create_task(self._shared.release(key, token, answer, life_s))
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    def _counted(self, answer: Answer, *, waited: bool) -> Answer:
        result = "waited" if waited else "hit" if answer.known else "unknown"
        self._results.labels(result).inc()
        return answer

    def _life_s(self, answer: Answer) -> float:
        """With jitter, so that what was stored together does not run out together."""
        return self._lives_s[answer.known] * random.uniform(1 - _JITTER, 1 + _JITTER)


class Lease(Enum):
    """Who asks."""

    OURS = 1
    HELD = 0  # by another


class _Shared:
    """The answers and leases in Redis."""

    def __init__(self, shared: AsyncSharedRedis, lease_s: float) -> None:
        self._shared = shared
        self._lease_ms = math.ceil(lease_s * 1000)

    async def look(self, key: str, token: str) -> Answer | Lease:
        """The answer, or whether the lease is ours now; ours without a lease where Redis is away."""
        answer_key, lease_key = self._keys(key)
        try:
            found = await self._shared.call(
                "explanations",
                lambda redis: redis.eval(_LOOK, 2, answer_key, lease_key, token, self._lease_ms),
            )
        except TransientError:
            return Lease.OURS
        if not isinstance(found, bytes):
            return Lease(found)
        try:
            return msgspec.json.decode(found, type=Answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            _log.warning("cached explanation unreadable", key=key)
            return Lease.OURS  # it is replaced

    async def release(self, key: str, token: str, answer: Answer | None, life_s: float) -> None:
        """Store the answer if there is one, then let the next one ask; nothing where Redis is away."""
        value = b"" if answer is None else msgspec.json.encode(answer)
        arguments = (*self._keys(key), token, value, math.ceil(life_s * 1000))
        try:
            await self._shared.call("explanations", lambda redis: redis.eval(_RELEASE, 2, *arguments))
        except TransientError:
            return  # counted by the call; the lease runs out by itself

    def _keys(self, key: str) -> tuple[bytes, bytes]:
        return self._shared.key("explanation", key), self._shared.key("explanation", key, "lease")


class _Memory:
    """The last answers of this process, least recently used ones dropped."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[float, Answer]] = OrderedDict()

    def get(self, key: str) -> Answer | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        end, answer = entry
        if time.monotonic() >= end:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return answer

    def put(self, key: str, answer: Answer, life_s: float) -> None:
        self._entries[key] = time.monotonic() + life_s, answer
        self._entries.move_to_end(key)
        if len(self._entries) > MEMORY_ENTRIES:
            self._entries.popitem(last=False)

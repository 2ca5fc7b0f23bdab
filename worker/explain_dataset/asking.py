"""One text to the LLM, through the worker's own client, cache and rate budget.

`worker.explain.explainer.Explainer` is for posts, which go on without an explanation whatever the reason;
a run over a data set has to know the reason, so it puts the same parts together anew. The cache's keys are
the same: what a worker has asked is not asked again here, nor the other way round.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from worker.coordination.breaker import Breaker
from worker.coordination.redis import AsyncSharedRedis, open_async_redis
from worker.explain.answer import Answer
from worker.explain.budget import RateBudget
from worker.explain.cache import ExplanationCache, cache_key
from worker.explain.chat import LlmError
from worker.explain.llm import LlmClient
from worker.explain.prompt import messages
from worker.explain_dataset.budget import CallBudget
from worker.observe.metrics import Metrics
from worker.sections import LlmConfig, RedisConfig

_GRACE_S: Final = 0.05  # by which a call ends before the deadline, so that it is counted for what it was
_BYTES_A_TOKEN: Final = 3


class Asked(msgspec.Struct, frozen=True):
    """An answer.

    Args:
        cached: it was known before, or somebody else asked.
    """

    answer: Answer
    cached: bool


class Asker:
    """Answers of the cache or the LLM, many at once. Made and used on one event loop.

    Each `ask` makes one call at most: whoever calls decides what is worth another one.

    Args:
        config: with a base URL.
        shared: what workers share; None for memory of this process alone. Stays the caller's to close.

    Raises:
        ConfigError: the base URL or `extra_body` cannot be sent.
    """

    def __init__(
        self, config: LlmConfig, shared: AsyncSharedRedis | None, metrics: Metrics, budget: CallBudget
    ) -> None:
        self._config, self._budget = config, budget
        self._cache = ExplanationCache(config, shared, metrics)
        once = msgspec.structs.replace(config, calls=1)
        self._llm = LlmClient(once, RateBudget(config, shared), metrics)

    async def ask(self, data: str) -> Asked:
        """The answer about a text, within `deadline_s`.

        Args:
            data: of `worker.explain.prompt.post_data`, not empty.

        Raises:
            LlmError: there is none now.
            BudgetUsedUp: it is not cached, and nothing more may be spent.
        """
        called = False

        async def call() -> Answer:
            nonlocal called
            called = True
            request = messages(data)
            async with self._budget.call(self._estimate(request)):
                return await self._llm.ask(request, deadline - min(_GRACE_S, self._config.deadline_s / 10))

        deadline = asyncio.get_running_loop().time() + self._config.deadline_s
        try:
            async with asyncio.timeout_at(deadline):
                answer = await self._cache.get(cache_key(self._config, data, None), call)
        except TimeoutError as error:
            raise LlmError("no answer within llm.deadline_s", None, again=True) from error
        return Asked(answer, cached=not called)

    async def aclose(self) -> None:
        """Give back every lease and close the connections."""
        await self._cache.aclose()
        await self._llm.aclose()

    def _estimate(self, request: list[dict[str, str]]) -> int:
        sent = sum(len(message["content"].encode()) for message in request)
        return sent // _BYTES_A_TOKEN + self._config.max_tokens


@asynccontextmanager
async def open_asker(
    llm: LlmConfig, redis: RedisConfig, metrics: Metrics, budget: CallBudget
) -> AsyncIterator[Asker]:
    """An asker with its connection to Redis, both closed with the context.

    Raises:
        ConfigError: an address cannot be used.
    """
    shared = open_async_redis(redis, metrics, Breaker("Redis"))
    try:
        asker = Asker(llm, shared, metrics, budget)
        try:
            yield asker
        finally:
            await asker.aclose()
    finally:
        if shared is not None:
            await shared.aclose()

"""A post's explanation: its own, a cached one, or one that the LLM writes now, within a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager

import structlog

from worker.coordination.breaker import Breaker
from worker.coordination.redis import AsyncSharedRedis, open_async_redis
from worker.explain.answer import Answer
from worker.explain.budget import RateBudget
from worker.explain.cache import ExplanationCache, cache_key
from worker.explain.chat import LlmError
from worker.explain.llm import LlmClient
from worker.explain.prompt import is_sendable, messages, post_data
from worker.observe.metrics import Metrics
from worker.sections import LlmConfig, RedisConfig
from worker.types import Explanation, ExplanationStatus, Post

_GRACE_S = 0.05  # by which calls end before the post's deadline, so that they are counted for what they were
_log = structlog.stdlib.get_logger("worker.explain")


class Explainer:
    """Explains posts, many at once. Made and used on one event loop's thread.

    Args:
        config: without a base URL only a post's own explanation counts.
        shared: what workers share; None for memory of this process alone. Stays the caller's to close.

    Raises:
        ConfigError: the base URL or `extra_body` cannot be sent.
    """

    def __init__(self, config: LlmConfig, shared: AsyncSharedRedis | None, metrics: Metrics) -> None:
        self._config, self._metrics = config, metrics
        self._cache = ExplanationCache(config, shared, metrics)
        self._opted_out = frozenset(config.opt_out_sources)
        self._llm = None
        if config.base_url is not None:
            self._llm = LlmClient(config, RateBudget(config, shared), metrics)

    async def explain(self, post: Post, image: bytes | None = None) -> Explanation:
        """Explain a post within `deadline_s`; raises nothing but CancelledError.

        Args:
            image: the file of the post's first image, sent where `vision` is configured and it is a JPEG, PNG
                or WebP of at most 1 MiB.
        """
        explanation = await self._explain(post, image)
        self._metrics.explanations.labels(explanation.status.value).inc()
        return explanation

    async def aclose(self) -> None:
        """Give back every lease and close the connections; call it once no post is being explained."""
        await self._cache.aclose()
        if self._llm is not None:
            await self._llm.aclose()

    async def _explain(self, post: Post, image: bytes | None) -> Explanation:
        if given := (post.explanation or "").strip():
            return Explanation(given, ExplanationStatus.GIVEN)
        if self._llm is None or post.source in self._opted_out:
            return Explanation()
        data = post_data(post)
        picture = image if self._config.vision and image and is_sendable(image) else None
        if not data and picture is None:
            return Explanation()
        return await self._ask_in_time(self._llm, data, picture, post.id)

    async def _ask_in_time(
        self, llm: LlmClient, data: str, picture: bytes | None, post_id: str
    ) -> Explanation:
        deadline = asyncio.get_running_loop().time() + self._config.deadline_s
        key = cache_key(self._config, data, picture)

        def ask() -> Awaitable[Answer]:
            return llm.ask(messages(data, picture), deadline - min(_GRACE_S, self._config.deadline_s / 10))

        try:
            async with asyncio.timeout_at(deadline):
                answer = await self._cache.get(key, ask)
        except (LlmError, TimeoutError) as error:
            reason = str(error) or "the post's deadline"
            _log.info("no explanation", post=post_id, reason=reason)
            return Explanation(status=ExplanationStatus.FAILED)
        if not answer.known:
            return Explanation(status=ExplanationStatus.UNKNOWN)
        return Explanation(answer.text, ExplanationStatus.GENERATED)


@asynccontextmanager
async def open_explainer(
    llm: LlmConfig, redis: RedisConfig, metrics: Metrics, breaker: Breaker
) -> AsyncIterator[Explainer]:
    """An explainer with its connection to Redis, both closed with the context.

    Args:
        breaker: of Redis, one a process.

    Raises:
        ConfigError: an address cannot be used.
    """
    shared = open_async_redis(redis, metrics, breaker)
    try:
        async with aclosing(Explainer(llm, shared, metrics)) as explainer:
            yield explainer
    finally:
        if shared is not None:
            await shared.aclose()

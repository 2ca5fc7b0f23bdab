"""Redis as several workers share it. Everything in it may be lost: each use fails open.

    breaker = Breaker("Redis")                       # one a process, for both clients
    shared = open_redis(config, metrics, breaker)    # None without a URL: memory of our own
    value = shared.call("emitted", lambda redis: redis.get(shared.key("emitted", name)))

    shared = open_async_redis(config, metrics, breaker)
    value = await shared.call("explanations", lambda redis: redis.get(key))

`call` gives what the function gives, or raises TransientError, at once where Redis was found to be away
a moment ago (`Breaker`); each such call is counted in `redis_failures{use}`. Whoever calls goes on without:

    try:
        value = await shared.call("explanations", lambda redis: redis.get(key))
    except TransientError:
        value = None

Replies are bytes. A function may make several calls, of a pipeline or a script (`redis.eval`); the time
limit holds for all of it together in the asynchronous client, for each reply in the other one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from worker.coordination.breaker import Breaker
from worker.errors import ConfigError, TransientError
from worker.observe.metrics import Metrics
from worker.sections import RedisConfig

Use = Literal["explanations", "attempts", "budget", "emitted"]
T = TypeVar("T")

_HEALTH_CHECK_S = 30
_CONNECTIONS = 64
# without the library's own words: they may quote a piece of the password
_NO_URL = "redis.url is no address of a Redis: write redis://HOST:PORT/DB, rediss://… or unix://PATH"


class SharedRedis:
    """The client for threads. Thread-safe.

    A call blocks for a few times `timeout_s` at most (a new connection costs a reply or two more).
    """

    def __init__(self, client: redis.Redis, config: RedisConfig, metrics: Metrics, breaker: Breaker) -> None:
        self._client = client
        self._guard = _Guard(metrics, breaker)
        self._prefix = config.prefix

    def key(self, *parts: str | bytes) -> bytes:
        """Our prefix and the parts, with colons between them."""
        return _key(self._prefix, parts)

    def call(self, use: Use, function: Callable[[redis.Redis], T]) -> T:
        """What the function gives.

        Raises:
            TransientError: Redis is away or refused; one line.
        """
        self._guard.admit(use)
        try:
            value = function(self._client)
        except (redis.RedisError, OSError) as error:
            raise self._guard.failure(use, error) from error
        self._guard.succeeded()
        return value

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class AsyncSharedRedis:
    """The client for one event loop; a call takes `timeout_s` at most."""

    def __init__(
        self, client: redis.asyncio.Redis, config: RedisConfig, metrics: Metrics, breaker: Breaker
    ) -> None:
        self._client = client
        self._guard = _Guard(metrics, breaker)
        self._prefix = config.prefix
        self._timeout_s = config.timeout_s
        self._slots = asyncio.Semaphore(_CONNECTIONS)  # one call more than connections would be an error

    def key(self, *parts: str | bytes) -> bytes:
        """Our prefix and the parts, with colons between them."""
        return _key(self._prefix, parts)

    async def call(self, use: Use, function: Callable[[redis.asyncio.Redis], Awaitable[T]]) -> T:
        """What the function gives.

        Raises:
            TransientError: Redis is away or refused; one line.
        """
        async with self._slots:
            self._guard.admit(use)
            try:
                async with asyncio.timeout(self._timeout_s):
                    value = await function(self._client)
            except (redis.RedisError, OSError) as error:  # TimeoutError is an OSError
                raise self._guard.failure(use, error) from error
            self._guard.succeeded()
            return value

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class _Guard:
    """What both clients do around a call."""

    def __init__(self, metrics: Metrics, breaker: Breaker) -> None:
        self._failures = metrics.redis_failures
        self._breaker = breaker
        self.succeeded = breaker.succeeded

    def admit(self, use: Use) -> None:
        wait_s = self._breaker.wait_s()
        if wait_s > 0:
            self._failures.labels(use).inc()
            raise TransientError("Redis is away", wait_s)

    def failure(self, use: Use, error: Exception) -> TransientError:
        self._failures.labels(use).inc()
        reason = _reason(error)
        if isinstance(error, redis.ResponseError):
            self._breaker.refused(reason)
            return TransientError(f"Redis refuses: {reason}")
        self._breaker.failed(reason)
        return TransientError(f"Redis is away: {reason}")


def open_redis(config: RedisConfig, metrics: Metrics, breaker: Breaker) -> SharedRedis | None:
    """A client for threads; connects with the first call. None where no URL is configured.

    Raises:
        ConfigError: the URL is none of Redis.
    """
    if config.url is None:
        return None
    return SharedRedis(_client(config), config, metrics, breaker)


def open_async_redis(config: RedisConfig, metrics: Metrics, breaker: Breaker) -> AsyncSharedRedis | None:
    """A client for an event loop; connects with the first call. None where no URL is configured.

    Raises:
        ConfigError: the URL is none of Redis.
    """
    if config.url is None:
        return None
    try:
        client = redis.asyncio.Redis.from_url(
            config.url, **_options(config), retry=redis.asyncio.retry.Retry(NoBackoff(), 0)
        )
        _try_options(client)
    except (ValueError, TypeError) as error:
        raise ConfigError(_NO_URL) from error
    return AsyncSharedRedis(client, config, metrics, breaker)


def check(config: RedisConfig) -> str:
    """Connect and say in one line what is there; blocks for a few times `timeout_s`.

    Raises:
        ConfigError: no URL, none of Redis, or the password is refused.
        TransientError: it cannot be reached.
    """
    if config.url is None:
        raise ConfigError("no redis.url is configured")
    client = _client(config)
    try:
        client.ping()  # the first one connects
        begun = time.monotonic()
        client.ping()
        milliseconds = (time.monotonic() - begun) * 1000
        version = client.info("server")["redis_version"]
    except redis.AuthenticationError as error:
        raise ConfigError(f"Redis refuses the login: {_reason(error)}") from error
    except (redis.RedisError, OSError) as error:
        raise TransientError(f"Redis is away: {_reason(error)}") from error
    finally:
        client.close()
    return f"Redis {version}, answers in {milliseconds:.1f} ms"


def _client(config: RedisConfig) -> redis.Redis:
    try:
        client = redis.Redis.from_url(
            config.url or "", **_options(config), retry=redis.retry.Retry(NoBackoff(), 0)
        )
        _try_options(client)
    except (ValueError, TypeError) as error:
        raise ConfigError(_NO_URL) from error
    return client


def _try_options(client: redis.Redis | redis.asyncio.Redis) -> None:
    """TypeError where the URL names an option that no connection takes; does not connect."""
    pool: Any = client.connection_pool
    pool.connection_class(**pool.connection_kwargs)


def _options(config: RedisConfig) -> dict[str, Any]:
    """No retries: a repeated increment would count twice, and the pool itself replaces closed connections."""
    return {
        "socket_timeout": config.timeout_s,
        "socket_connect_timeout": config.timeout_s,
        "health_check_interval": _HEALTH_CHECK_S,
        "max_connections": _CONNECTIONS,
        "decode_responses": False,
        "driver_info": None,  # a connection's start costs one reply less
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),  # likewise
    }


def _key(prefix: str, parts: tuple[str | bytes, ...]) -> bytes:
    return b":".join(part if isinstance(part, bytes) else part.encode() for part in (prefix, *parts))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

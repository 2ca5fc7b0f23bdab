"""The one module that speaks HTTP: one request, to an address that was checked.

It stands on httpcore2, the layer below httpx2, for what that leaves out: no cookies, no proxies or passwords
from the environment, no redirects of its own, no decompression. Names are resolved inside the network
backend, and the address that was checked is the one that is connected to, so that no path leads around the
check; TLS still asks for the name.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpcore2
import httpx2

from worker.errors import ConfigError, InvalidPost, Reason, TransientError
from worker.fetch.addresses import AddressPolicy, parse_address
from worker.fetch.resolve import Resolver
from worker.fetch.urls import port_of, shown

_KEEPALIVE_S = 5.0
_ADDRESSES_TRIED = 4
_NO_SUCH_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered, its body not read yet.

    Args:
        headers: names in lower case; of repeated ones the last.
        body: in pieces of at most 64 KiB, exactly as they were sent.
    """

    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes]

    @property
    def content_length(self) -> int | None:
        """Bytes of the body, where the server says so."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isdecimal() else None

    @property
    def retry_after_s(self) -> float | None:
        """Seconds the server asks to be left alone, where it says so."""
        text = self.headers.get("retry-after", "").strip()
        if text.isdecimal():
            return float(text[:9])
        try:
            return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError):  # no date, or one without a zone
            return None


class CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Connects only to addresses that the policy permits. Resolves once a connection.

    Args:
        resolver: asked for names only; addresses in their usual notation are judged as they stand.
    """

    def __init__(self, policy: AddressPolicy, resolver: Resolver) -> None:
        self._policy = policy
        self._resolver = resolver
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve, check, connect; `timeout` seconds for all of it.

        Raises:
            InvalidPost: an address is not permitted, or the name does not exist.
            httpcore2.ConnectError: resolved to nothing that answers, for now.
            httpcore2.ConnectTimeout: too slow.
        """
        try:
            async with asyncio.timeout(timeout):
                addresses = self._policy.check(host, await self._resolve(host, port))
                return await self._connect(addresses, port, timeout, local_address, socket_options)
        except TimeoutError as exc:
            raise httpcore2.ConnectTimeout("no connection in time") from exc

    async def _resolve(self, host: str, port: int) -> list[str]:
        if parse_address(host) is not None:
            return [host]
        try:
            return list(await self._resolver(host, port))
        except socket.gaierror as exc:
            if exc.errno in _NO_SUCH_NAME:
                raise InvalidPost(Reason.IMAGE_UNAVAILABLE, f"{host}: no such host") from exc
            raise httpcore2.ConnectError(exc) from exc
        except TimeoutError:
            raise
        except OSError as exc:
            raise httpcore2.ConnectError(exc) from exc

    async def _connect(
        self,
        addresses: list[str],
        port: int,
        timeout: float | None,
        local_address: str | None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = addresses[:_ADDRESSES_TRIED]
        share = None if timeout is None else timeout / max(1, len(addresses))
        error: Exception = httpcore2.ConnectError("the name has no address")
        for address in addresses:
            try:
                return await self._sockets.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as exc:
                error = exc
        raise error

    async def sleep(self, seconds: float) -> None:
        """As every backend does."""
        await asyncio.sleep(seconds)


class Client:
    """GET requests. One event loop only.

    Args:
        connections: at once.
        connect_s: for resolving, connecting and TLS, each step.
        user_agent: sent with every request.
        ssl_context: whom to trust; None for the system's own authorities.

    Raises:
        ConfigError: the user agent cannot be sent.
    """

    def __init__(
        self,
        backend: CheckedBackend,
        *,
        connections: int,
        connect_s: float,
        user_agent: str,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if not (user_agent.isascii() and user_agent.isprintable()):
            raise ConfigError("configuration: fetch.user_agent holds what no header may hold")
        self._connect_s = connect_s
        self._headers = [
            (b"User-Agent", user_agent.strip().encode("ascii")),
            (b"Accept", b"image/avif,image/webp,image/*;q=0.9,*/*;q=0.5"),
            (b"Accept-Encoding", b"identity"),  # a compressed body could unpack to anything
        ]
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context or httpx2.create_ssl_context(),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=_KEEPALIVE_S,
            network_backend=backend,
        )

    @asynccontextmanager
    async def get(self, url: httpx2.URL) -> AsyncIterator[Answer]:
        """One request, followed nowhere; what is not read of the body when the context ends is never read.

        The caller bounds the time: a server may send slowly for ever.

        Raises:
            InvalidPost: the address must not be connected to, or its host does not exist or proves no
                identity.
            TransientError: no connection, or it broke; the same call may succeed later.
        """
        try:
            async with self._pool.stream(
                "GET",
                httpcore2.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path or b"/"
                ),
                headers=[(b"Host", url.netloc), *self._headers],
                extensions={"timeout": {"connect": self._connect_s}},
            ) as response:
                headers = {
                    name.decode("latin-1").lower(): value.decode("latin-1")
                    for name, value in response.headers
                }
                yield Answer(response.status, headers, response.aiter_stream())
        except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as exc:
            if isinstance(_cause(exc), ssl.SSLCertVerificationError):
                detail = f"{shown(url)}: its certificate is not valid for it"
                raise InvalidPost(Reason.IMAGE_UNAVAILABLE, detail) from exc
            raise TransientError(f"{shown(url)}: {_describe(exc)}") from exc

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


def request_host(url: httpx2.URL) -> str:
    """What `Slots` counts requests by."""
    return f"{url.raw_host.decode('ascii')}:{port_of(url)}"


def _cause(exc: BaseException) -> BaseException:
    """What the operating system or OpenSSL said first.

    httpcore2's pool raises `from None`, but keeps the error that it maps as the argument.
    """
    inner = exc.__cause__ or (exc.args[0] if exc.args else None)
    return _cause(inner) if isinstance(inner, BaseException) else exc


def _describe(exc: Exception) -> str:
    cause = _cause(exc)
    if isinstance(cause, socket.gaierror):
        return "the name cannot be resolved now"
    if isinstance(cause, ssl.SSLError):
        return f"TLS: {cause.reason or 'failed'}"
    if isinstance(exc, httpcore2.TimeoutException):
        return "no connection in time"
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno)
    return (
        "the connection broke"
        if isinstance(exc, httpcore2.NetworkError)
        else "the answer is cut off or no HTTP"
    )

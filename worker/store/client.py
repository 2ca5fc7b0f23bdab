"""One client for both kinds of store: a Qdrant server's URL, or the folder of an embedded store.

qdrant-client's and httpx's errors are mapped here and nowhere else:

    TransientError   no connection, timeout, 408, 429 (with the server's pause), 5xx
    FatalError       any other refusal, 501 included: the same call will never work
"""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar

import httpcore
import httpx
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from worker.errors import ConfigError, FatalError, TransientError, WorkerError
from worker.store.process import StoreProcess

P = ParamSpec("P")
T = TypeVar("T")
Watch = Callable[[str, float, bool], None]  # name of a call, seconds it took, whether it failed

SERVER_TIMEOUT_S = 10.0
EMBEDDED_TIMEOUT_S = 120.0  # outlasts the copying of a large shard, for which writes wait
_LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=30.0)
_LONGEST_PAUSE_S = 300.0  # a server may well be back before the time it named
_NOT_FATAL = {408, 429}
_SERVER_ERRORS = 500
_NOT_IMPLEMENTED = 501


class Refused(FatalError):
    """The store answered, and the answer is no.

    Args:
        status: the HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _UnixBackend(httpcore.SyncBackend):
    """Connects to the Unix socket named last; a new child may have another one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        # httpcore leaves its own socket open when nobody listens, hence the probe; connections are
        # kept, so it is rare.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(timeout)
            try:
                probe.connect(str(self.path))
            except OSError as error:
                raise httpcore.ConnectError(f"its process is gone: {error}") from error
        return super().connect_unix_socket(str(self.path), timeout, socket_options)


class _UnixTransport(httpx.HTTPTransport):
    """HTTP over the backend above. httpx's own `uds=` fixes one path and loads TLS certificates."""

    def __init__(self, backend: _UnixBackend) -> None:
        self._pool = httpcore.ConnectionPool(
            uds=str(backend.path),
            network_backend=backend,
            max_connections=_LIMITS.max_connections,
            max_keepalive_connections=_LIMITS.max_keepalive_connections,
            keepalive_expiry=_LIMITS.keepalive_expiry,
        )


class Store:
    """An open store. Thread-safe; close it, or use it as a context manager.

    Make requests through `call`, which maps errors and, after a lost connection to an embedded
    store, starts its process anew before the next request. `watch` is told of each, on its thread.
    """

    def __init__(self, target: str, *, api_key: str | None, timeout_s: float | None, create: bool) -> None:
        self.target = target
        self.watch: Watch | None = None
        self._lost = threading.Event()
        self._process: StoreProcess | None = None
        if target.startswith(("http://", "https://")):
            self.client = _server_client(target, api_key, timeout_s or SERVER_TIMEOUT_S)
            return
        self._process = StoreProcess(Path(target).expanduser().resolve(), create=create)
        try:
            self._backend = _UnixBackend(self._process.ensure().socket)
        except WorkerError:
            self._process.close()
            raise
        self.client = QdrantClient(
            url="http://embedded",  # never resolved: the backend knows the socket
            timeout=math.ceil(timeout_s or EMBEDDED_TIMEOUT_S),
            check_compatibility=False,
            transport=_UnixTransport(self._backend),
        )

    @property
    def is_embedded(self) -> bool:
        return self._process is not None

    def ensure(self) -> None:
        """Make sure that somebody serves: starts an embedded store's process anew if it is gone.

        Blocks up to a minute. Nothing to do for a Qdrant server.

        Raises:
            ConfigError, FatalError, TransientError: as `StoreProcess.ensure`.
        """
        if self._process is not None:
            self._backend.path = self._process.ensure().socket
        self._lost.clear()

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of `client`, with its errors mapped; blocks as long as the timeout.

        Raises:
            TransientError: the store cannot be reached or is overloaded; call again later.
            FatalError: the store refuses (`Refused`), or its answer cannot be read.
        """
        begun_s, failed = time.perf_counter(), True
        try:
            if self._lost.is_set():
                self.ensure()
            answer = self._mapped(function, *args, **kwargs)
            failed = False
            return answer
        finally:
            if self.watch is not None:
                self.watch(function.__name__, time.perf_counter() - begun_s, failed)

    def _mapped(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except ResourceExhaustedResponse as error:
            raise TransientError(
                f"{self._name}: {error}", retry_after_s=_sane(error.retry_after_s)
            ) from error
        except QdrantException as error:  # a 429 whose Retry-After is no whole number of seconds
            raise TransientError(f"{self._name}: {error}") from error
        except UnexpectedResponse as error:
            raise self._refusal(error) from error
        except ResponseHandlingException as error:
            if not isinstance(error.source, httpx.TransportError):
                detail = " ".join(str(error.source).split())
                raise FatalError(f"{self._name}: cannot read the answer: {detail}") from error
            self._lost.set()
            reason = str(error.source) or type(error.source).__name__
            raise TransientError(f"{self._name}: {reason}") from error

    def close(self) -> None:
        """Close; the last client of an embedded store waits a second for its process to leave."""
        self.client.close()
        if self._process is not None:
            self._process.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _name(self) -> str:
        return f"the vector store at {self.target}"

    def _refusal(self, error: UnexpectedResponse) -> TransientError | FatalError:
        status = error.status_code or 0
        message = f"{self._name} answered {status}: {_reason(error)}"
        if status in _NOT_FATAL or (status >= _SERVER_ERRORS and status != _NOT_IMPLEMENTED):
            return TransientError(message, retry_after_s=_pause_s(error))
        return Refused(message, status)


def open_store(
    target: str, *, api_key: str | None = None, timeout_s: float | None = None, create: bool = True
) -> Store:
    """Open a store.

    Args:
        target: the http(s) URL of a Qdrant server, or a folder.
        api_key: for a server that wants one.
        timeout_s: of one request; by default 10 s for a server, 120 s for a folder.
        create: whether a folder that holds no store yet becomes one.

    Raises:
        ConfigError: the target cannot work, or there is no store and `create` is off.
        TransientError: the embedded store is still closing or opening.
        FatalError: the embedded store's process failed.
    """
    if not target:
        raise ConfigError("no vector store named: give the URL of a Qdrant server, or a folder")
    return Store(target, api_key=api_key, timeout_s=timeout_s, create=create)


def _server_client(url: str, api_key: str | None, timeout_s: float) -> QdrantClient:
    try:
        return QdrantClient(
            url=url, api_key=api_key, timeout=math.ceil(timeout_s), limits=_LIMITS, check_compatibility=False
        )
    except ValueError as error:
        raise ConfigError(f"the vector store's URL {url} cannot be used: {error}") from error


def _reason(error: UnexpectedResponse) -> str:
    try:
        return str(json.loads(error.content)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return error.reason_phrase or error.content[:200].decode("utf-8", "replace")


def _pause_s(error: UnexpectedResponse) -> float | None:
    try:
        return _sane(float(error.headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def _sane(pause_s: float) -> float | None:
    return min(float(pause_s), _LONGEST_PAUSE_S) if math.isfinite(pause_s) and pause_s >= 0 else None

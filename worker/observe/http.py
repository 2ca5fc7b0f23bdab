"""The status server: /metrics, /livez and /readyz.

One thread listens, one short-lived thread answers each request; at most `_MOST_REQUESTS` at once, each for
at most a few seconds, so that no client can hold up the probes for long. Nothing is read but the request's
head, and nothing is written to standard error.
"""

from __future__ import annotations

import io
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

import structlog
from prometheus_client.exposition import choose_encoder

from worker.errors import ConfigError
from worker.observe.health import Health, Verdict
from worker.observe.metrics import Metrics

_MOST_REQUESTS = 64
_HEAD_S = 5.0  # to send a whole request, however slowly
_WRITE_S = 10.0  # to take the whole answer
_HEAD_BYTES = 16 << 10
_HEAD_ENDS = (b"\r\n\r\n", b"\n\n")
_POLL_S = 0.1
_TEXT = "text/plain; charset=utf-8"

log = structlog.stdlib.get_logger("worker.observe.http")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT


@contextmanager
def serving(metrics: Metrics, health: Health, address: str, port: int) -> Iterator[int]:
    """Serve for as long as the context is open; gives the port, which the system chooses for port 0.

    Raises:
        ConfigError: the address cannot be bound.
    """
    try:
        server = _Server(address, port, _Pages(metrics, health))
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(f"/metrics cannot be served on {address}:{port}: {error}") from error
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="status", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Pages:
    """What each path answers. Any thread."""

    def __init__(self, metrics: Metrics, health: Health) -> None:
        self._metrics = metrics
        self._health = health
        self._pages: dict[str, Callable[[str], _Answer]] = {
            "/": self._index,
            "/livez": lambda accept: _verdict("alive", health.alive()),
            "/metrics": self._exposition,
            "/readyz": lambda accept: _verdict("ready", health.ready()),
        }

    def answer(self, path: str, accept: str) -> _Answer:
        """The answer to GET `path`; every look brings the gauge `entityclip_ready` up to date."""
        self._metrics.ready.set(self._health.ready()[0])
        page = self._pages.get(path.partition("?")[0])
        return page(accept) if page else _Answer(HTTPStatus.NOT_FOUND, b"no such page\n")

    def _index(self, accept: str) -> _Answer:
        return _Answer(HTTPStatus.OK, "".join(f"{path}\n" for path in self._pages if path != "/").encode())

    def _exposition(self, accept: str) -> _Answer:
        encode, content_type = choose_encoder(accept)
        return _Answer(HTTPStatus.OK, encode(self._metrics.registry), content_type)


def _verdict(word: str, verdict: Verdict) -> _Answer:
    is_good, reasons = verdict
    if is_good:
        return _Answer(HTTPStatus.OK, f"{word}\n".encode())
    return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, "".join(f"{reason}\n" for reason in reasons).encode())


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True  # a request that is still being answered does not hold up the end
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: str, port: int, pages: _Pages) -> None:
        found = socket.getaddrinfo(address or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        self.pages = pages
        self._slots = threading.BoundedSemaphore(_MOST_REQUESTS)
        # The address as it was looked up: two numbers more than the type knows where it is IPv6.
        super().__init__(found[0][4][:2], _Handler)  # type: ignore[arg-type]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("request not answered", error=repr(sys.exception()))


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "entityclip"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(io.BytesIO(_read_head(self.connection)))
        self.connection.settimeout(_WRITE_S)

    def do_GET(self) -> None:
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        self._send(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Probes and scrapes come every few seconds: they are not logged."""

    def _send(self, *, with_body: bool) -> None:
        answer = self.server.pages.answer(self.path, self.headers.get("Accept", ""))
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)


def _read_head(connection: socket.socket) -> bytes:
    """The request up to its empty line, or what came before the client hung up.

    Raises:
        OSError: it did not come in time, or the connection broke.
        ValueError: it does not end.
    """
    deadline_s = time.monotonic() + _HEAD_S
    head = b""
    while not any(end in head for end in _HEAD_ENDS):
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the request did not arrive in time")
        connection.settimeout(left_s)
        received = connection.recv(4096)
        if not received:
            break
        head += received
        if len(head) > _HEAD_BYTES:
            raise ValueError("the request is too long")
    return head

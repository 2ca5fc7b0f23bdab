"""The HTTP side of the chat endpoint for tests: its paths, and how an answer goes out, hangs or drips."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol

from tests.llm_answers import Behaviour, completion
from tests.loopback import LoopbackServer


@dataclass(frozen=True, slots=True)
class Seen:
    """A request of `/v1/chat/completions`: what came, and when by the monotonic clock."""

    body: dict[str, Any]
    headers: dict[str, str]
    mode: str
    at_s: float


class Llm(Protocol):
    """What the handler asks; called from the threads of connections."""

    @property
    def count(self) -> int:
        """Requests of an answer so far."""

    @property
    def counts(self) -> dict[str, int]:
        """The same by mode."""

    @property
    def requests(self) -> list[Seen]:
        """The last of them, oldest first."""

    def behave(self, mode: str = "ok", **options: Any) -> None:
        """Change the behaviour."""

    def take(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[Behaviour, threading.Event]:
        """Note a request; say what is to be done with it, and what ends that."""


class HttpServer(LoopbackServer):
    """Listens for an `Llm`."""

    def __init__(self, address: tuple[str, int], llm: Llm) -> None:
        super().__init__(address, _Handler)
        self.llm = llm


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 600
    server: HttpServer

    def do_GET(self) -> None:
        llm = self.server.llm
        if self.path == "/v1/models":
            self._json({"object": "list", "data": [{"id": "default", "object": "model"}]})
        elif self.path == "/stats":
            self._json({"count": llm.count, "by_mode": llm.counts})
        elif self.path == "/requests":
            self._json([asdict(seen) for seen in llm.requests])
        else:
            self._json({"error": {"message": "no such path"}}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        if self.path == "/mode":
            self._change(body)
        elif self.path == "/v1/chat/completions":
            behaviour, changed = self.server.llm.take(body, {k.lower(): v for k, v in self.headers.items()})
            self._complete(body, behaviour, changed)
        else:
            self._json({"error": {"message": "no such path"}}, 404)

    def _change(self, body: dict[str, Any]) -> None:
        try:
            self.server.llm.behave(**body)
        except (ValueError, TypeError) as error:
            self._json({"error": {"message": str(error)}}, 400)
        else:
            self._json(body)

    def _complete(self, body: dict[str, Any], behaviour: Behaviour, changed: threading.Event) -> None:
        mode, headers = behaviour.mode, dict(behaviour.headers)
        if behaviour.retry_after is not None:
            headers["retry-after"] = behaviour.retry_after
        wanted = body.get("response_format", {}).get("type")
        refused = {"no_schema": ("json_schema",), "plain": ("json_schema", "json_object")}.get(mode, ())
        if wanted in refused:
            self._json({"error": {"message": f"{wanted} is not supported"}}, 400, headers)
        elif mode == "status":
            self._json({"error": {"message": "as told"}}, behaviour.status, headers)
        elif mode == "hang":
            self._wait(600, changed)
            self.close_connection = True
        elif mode == "drip":
            self._drip(json.dumps(completion(body, mode)).encode(), changed)
        elif mode == "garbage":
            self._send(b"<html>upstream connect error</html>", 200, headers, "text/html")
        elif self._wait(behaviour.seconds, changed):
            self._json(completion(body, mode), 200, headers)

    def _wait(self, seconds: float, changed: threading.Event) -> bool:
        """Wait so long; False at once if the client leaves or the behaviour changes."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            readable, _, _ = select.select([self.connection], [], [], min(left, 0.05))
            if (readable and not self.connection.recv(1, socket.MSG_PEEK)) or changed.is_set():
                self.close_connection = True
                return False
        return True

    def _drip(self, answer: bytes, changed: threading.Event) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        for place in range(len(answer)):
            if not self._wait(0.1, changed):
                return
            self.wfile.write(answer[place : place + 1])

    def _json(self, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, headers or {}, "application/json")

    def _send(self, data: bytes, status: int, headers: Mapping[str, str], content_type: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": content_type, **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test's output is the test's."""

"""A real HTTP server that speaks the OpenAI chat protocol and misbehaves on request.

    with LlmServer() as server:            # answers well
        LlmConfig(base_url=server.url)
        server.behave("status", status=429, retry_after="2", times=1)
        server.behave("hang")

    python -m tests.llm_server --port 8000 --mode ok     prints its URL, serves until it is interrupted

Modes
    ok            a sentence that depends on the text alone, with the tokens counted
    slow          the same after `seconds`
    unknown       says that it knows no named entity
    plain         refuses both kinds of JSON format with 400, and answers in plain text
    no_schema     refuses json_schema with 400, takes json_object
    status        an error of status `status`, with `Retry-After: retry_after` if given
    hang          takes the request and never answers
    drip          one byte of the answer every 0.1 s
    garbage       200, but not JSON
    choices_null  200, `"choices": null`
    wrong_shape   200, JSON of another kind
    empty         200, an answer without text

A mode stays until the next, or for `times` requests. `POST /mode` with `{"mode": …, …}` changes it from
another process; `GET /stats` tells how many requests came, in all and by
mode; `GET /requests` their bodies.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import select
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

MODES = (
    "ok",
    "slow",
    "unknown",
    "plain",
    "no_schema",
    "status",
    "hang",
    "drip",
    "garbage",
    "choices_null",
    "wrong_shape",
    "empty",
)
_KEPT = 10_000  # requests
_LOOKS = (
    "a grey-haired man in a dark suit and tie, speaking at a lectern",
    "a woman with short brown hair in a red jacket, seated before flags",
    "a stone building with a dome and tall columns, seen from the square before it",
    "a footballer in a striped shirt running on a green pitch",
    "a coastal city of high towers under a clear sky",
    "a logo in white letters on the glass front of an office building",
)
_NAME = re.compile(r"[A-ZÀ-Þ][\w'’-]+(?: [A-ZÀ-Þ][\w'’-]+)*")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the server does with a request.

    Args:
        seconds: that `slow` waits, before each answer.
        times: requests it holds for, then `ok`; None for all.
        headers: added to every answer, for example rate limits.
    """

    mode: str = "ok"
    seconds: float = 0.0
    status: int = 500
    retry_after: str | None = None
    times: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"no mode {self.mode!r}; there are: {', '.join(MODES)}")


@dataclass(frozen=True, slots=True)
class Seen:
    """A request of `/v1/chat/completions`: what came, and when by the monotonic clock."""

    body: dict[str, Any]
    headers: dict[str, str]
    mode: str
    at_s: float


class LlmServer:
    """Serves on loopback from threads of its own; every method may be called from any thread.

    Args:
        behaviour: to begin with, or the name of its mode.
        port: 0 takes a free one, which a later `start` takes again.
    """

    def __init__(self, behaviour: Behaviour | str = "ok", port: int = 0) -> None:
        self.port = port
        self._behaviour = behaviour if isinstance(behaviour, Behaviour) else Behaviour(behaviour)
        self._changed = threading.Event()  # of the behaviour that holds now; releases what hangs in it
        self._lock = threading.Lock()
        self._seen: deque[Seen] = deque(maxlen=_KEPT)
        self._counts: Counter[str] = Counter()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """What `llm.base_url` is set to."""
        return f"{self.root}/v1"

    @property
    def root(self) -> str:
        """Below it lie `/mode`, `/stats` and `/requests`."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen; returns once connections are accepted."""
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and stop listening; `start` may be called again."""
        if self._server is None or self._thread is None:
            return
        self._changed.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._thread.join()
        self._server = self._thread = None

    def __enter__(self) -> LlmServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def behave(self, mode: str = "ok", **options: Any) -> None:
        """Change the behaviour; what hangs or drips is cut off."""
        behaviour = Behaviour(mode, **options)
        with self._lock:
            self._behaviour = behaviour
            self._changed.set()
            self._changed = threading.Event()

    @property
    def count(self) -> int:
        """Requests of an answer so far, whatever became of them."""
        with self._lock:
            return self._counts.total()

    @property
    def counts(self) -> dict[str, int]:
        """The same by mode."""
        with self._lock:
            return dict(self._counts)

    @property
    def requests(self) -> list[Seen]:
        """The last of them, oldest first."""
        with self._lock:
            return list(self._seen)

    def take(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[Behaviour, threading.Event]:
        """Note a request; say what is to be done with it, and what ends that."""
        with self._lock:
            behaviour = self._behaviour
            self._seen.append(Seen(body, headers, behaviour.mode, time.monotonic()))
            self._counts[behaviour.mode] += 1
            if behaviour.times is not None:
                left = behaviour.times - 1
                self._behaviour = replace(behaviour, times=left) if left > 0 else Behaviour()
            return behaviour, self._changed


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], llm: LlmServer) -> None:
        super().__init__(address, _Handler)
        self.llm = llm
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it went by itself
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves in the middle of an answer is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 600
    server: _Server

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


def completion(body: dict[str, Any], mode: str = "ok") -> dict[str, Any]:
    """The answer to a request, the same for the same request."""
    if mode == "wrong_shape":
        return {"result": [1, 2, 3]}
    text = message_text(body)
    content = _content(text, mode, as_json="response_format" in body or mode == "unknown")
    prompt, answer = max(1, len(text) // 4), max(1, len(content) // 4)
    choices = [
        {
            "index": 0,
            "message": {"role": "assistant", "content": content},
            "finish_reason": "stop",
        }
    ]
    return {
        "id": "chatcmpl-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16],
        "object": "chat.completion",
        "created": 0,
        "model": body.get("model", ""),
        "choices": None if mode == "choices_null" else choices,
        "usage": {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer},
    }


def explanation_of(text: str) -> str:
    """What mode `ok` writes about a message: a sentence that depends on it alone."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    names = [name for name in _NAME.findall(text) if len(name) > 3]
    who = names[digest[0] % len(names)] if names else "The person"
    return f"{who[:60]} ({digest.hex()[:8]}): {_LOOKS[digest[1] % len(_LOOKS)]}."


def message_text(body: dict[str, Any]) -> str:
    """The text of the request's last message."""
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _content(text: str, mode: str, *, as_json: bool) -> str:
    if mode == "empty":
        return ""
    known = mode != "unknown"
    explanation = explanation_of(text) if known else ""
    if not as_json:
        return explanation
    return json.dumps({"known": known, "explanation": explanation})


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A chat endpoint for tests, on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--mode", choices=MODES, default="ok")
    defaults = {item.name: item.default for item in fields(Behaviour)}
    parser.add_argument("--seconds", type=float, default=defaults["seconds"], help="before each answer")
    parser.add_argument("--status", type=int, default=defaults["status"])
    parser.add_argument("--retry-after", default=None)
    given = parser.parse_args()
    behaviour = Behaviour(given.mode, given.seconds, given.status, given.retry_after)
    with LlmServer(behaviour, given.port) as server:
        print(server.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()

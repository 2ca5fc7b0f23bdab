"""An HTTP server in front of the real embedded store that misbehaves on request.

    with StoreProxy(tmp_path / "store") as proxy:
        proxy.fail(Fault("status", 429, retry_after="1"), Fault("hang"))     the next two writes
        open_store(proxy.url, timeout_s=1)

Faults hit requests that write points (`PUT …/points`); everything else goes through to Qdrant's engine.

    status     refused with a status, before the engine hears of it
    hang       taken, and never answered
    drop       the connection is closed without an answer
    cut        done by the engine; the connection is closed in the middle of the answer
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from tests.loopback import LoopbackServer
from worker.store.process import StoreProcess

_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of one write."""

    kind: Literal["status", "hang", "drop", "cut"]
    status: int = 500
    retry_after: str | None = None


class StoreProxy:
    """Serves on loopback from threads of its own; holds the embedded store's process meanwhile.

    Args:
        folder: of the store.
        port: 0 takes a free one.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._process = StoreProcess(folder, create=True)
        self._socket = self._process.ensure().socket
        self._faults: deque[Fault] = deque()
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_S,))

    @property
    def url(self) -> str:
        """What `store` is set to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> StoreProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._thread.join()
        self._process.close()

    def fail(self, *faults: Fault) -> None:
        """What becomes of the next writes, one each."""
        with self._lock:
            self._faults.extend(faults)

    def next_fault(self) -> Fault | None:
        with self._lock:
            return self._faults.popleft() if self._faults else None

    def forward(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """What the engine says."""
        connection = _UnixConnection(self._socket)
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


class _Server(LoopbackServer):
    def __init__(self, address: tuple[str, int], proxy: StoreProxy) -> None:
        super().__init__(address, _Handler)
        self.proxy = proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        writes = self.command == "PUT" and self.path.partition("?")[0].endswith("/points")
        fault = self.server.proxy.next_fault() if writes else None
        if fault is not None and fault.kind != "cut":
            self._misbehave(fault)
            return
        status, answer = self.server.proxy.forward(self.command, self.path, body)
        self._answer(status, answer, sent=len(answer) if fault is None else len(answer) // 2)

    def _misbehave(self, fault: Fault) -> None:
        if fault.kind == "status":
            error = json.dumps({"status": {"error": "as told"}, "time": 0.0}).encode()
            self._answer(fault.status, error, retry_after=fault.retry_after)
            return
        self.close_connection = True
        while fault.kind == "hang" and not self.server.proxy.stopping.is_set():
            readable, _, _ = select.select([self.connection], [], [], _POLL_S)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                return  # the client has left

    def _answer(
        self, status: int, answer: bytes, *, sent: int | None = None, retry_after: str | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        if retry_after is not None:
            self.send_header("retry-after", retry_after)
        self.end_headers()
        self.wfile.write(answer[:sent])
        self.close_connection = sent is not None and sent < len(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test's output is the test's."""

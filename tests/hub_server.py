"""A model hub on the loopback: the few answers of the Hugging Face hub a download needs, from a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.loopback import LoopbackServer

_COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(LoopbackServer):
    """Serves `folder/organisation/name/FILE`.

    Args:
        sent: names of the files whose contents went out, in order.
        silent: whether requests are left without an answer.
        failing: whether they are answered with 503.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.sent: list[str] = []
        self.silent = threading.Event()
        self.failing = threading.Event()
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve(folder: Path) -> Iterator[HubServer]:
    """Serve while the block runs."""
    server = HubServer(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.hang_up()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.server.silent.is_set():
            self.server.closing.wait()
            return
        if self.server.failing.is_set():
            self._refuse(503, "ServiceUnavailable")
            return
        match unquote(urlsplit(self.path).path).strip("/").split("/"):
            case ["api", "models", owner, name, *rest]:
                self._answer_api(self.server.folder / owner / name, f"{owner}/{name}", rest)
            case [owner, name, "resolve", _, file]:
                self._answer_file(self.server.folder / owner / name / file)
            case _:
                self._refuse(404, "EntryNotFound")

    def _answer_api(self, folder: Path, repository: str, rest: list[str]) -> None:
        if not folder.is_dir():
            return self._refuse(404, "RepoNotFound")
        if (folder / "gated").is_file():
            return self._refuse(403, "GatedRepo")
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
        if rest[:1] == ["tree"]:
            return self._send_json([_entry(path) for path in files])
        siblings = [{"rfilename": path.name} for path in files]
        return self._send_json({"id": repository, "sha": _COMMIT, "siblings": siblings})

    def _answer_file(self, path: Path) -> None:
        if not path.is_file():
            return self._refuse(404, "EntryNotFound")
        if self.command == "GET":
            self.server.sent.append(path.name)
        return self._send(200, path.read_bytes(), {"ETag": f'"{_digest(path)}"'})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "X-Repo-Commit": _COMMIT, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests speak for themselves."""


def _entry(path: Path) -> dict[str, object]:
    return {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": _digest(path)}


def _digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()

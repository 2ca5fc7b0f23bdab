"""A real HTTP server of pictures, and of everything that may be sent instead of one.

    python -m tests.image_server --port 8000

/image.jpg            a picture; any query makes it another address
/padded.jpg?bytes=N   a picture of exactly N bytes (zeros after its end)
/chunked.jpg?bytes=N  the same, without saying how long
/mislabelled          a picture called text/html
/html, /empty, /text-as-jpeg
/redirect?to=URL      302; /redirect-loop leads to itself; /redirect-chain?left=N ends at the picture
/status/CODE?times=N&retry_after=S   N times this status (always without N), then the picture
/drip                 a picture's first bytes, then one every 20 ms, without end
/giant                a picture's first bytes, then zeros without end; /giant-declared says so first
/slow-headers         nothing, until the server stops
/held                 a picture, once `let_go` is set
/cut                  half of what was promised
/gzip-bomb            64 MiB of zeros, compressed though nobody asked
/cookie               a picture that sets a cookie
/not-http             bytes that are no HTTP
"""

from __future__ import annotations

import argparse
import functools
import gzip
import io
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

_PIECE = b"\x00" * 65_536
_DRIP_S = 0.02


@functools.cache
def picture(file_format: str = "JPEG") -> bytes:
    """A small real picture."""
    file = io.BytesIO()
    Image.effect_noise((96, 64), 60).convert("RGB").save(file, file_format)
    return file.getvalue()


@functools.cache
def gzip_bomb() -> bytes:
    return gzip.compress(b"\x00" * (64 << 20), 9)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256


class ImageServer:
    """Serves until its context ends, on a free port unless one is given. Counts what it sees.

    Args:
        host: an IPv4 or IPv6 address of this machine.
        tls: answers over TLS.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.requests: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.active = 0
        self.most_active = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.let_go = threading.Event()
        self._host, self._scheme = host, "https" if tls else "http"
        self._server = self._listen(host, port, tls)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="images", daemon=True
        )

    def _listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> _Server:
        images = self

        class Listening(_Server):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def get_request(self) -> tuple[Any, Any]:
                connection, address = super().get_request()
                images.connections += 1
                return connection, address

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that go away are what the tests are about."""

        server = Listening((host, port), functools.partial(_Handler, images))
        if tls is not None:
            # the handshake belongs to the thread of the connection, not to the one that accepts
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        return server

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def url(self, path: str = "/image.jpg", host: str | None = None) -> str:
        """An address of it, under its own or another host name."""
        host = host or self._host
        return f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{path}"

    def serve_forever(self) -> None:
        """Serve on this thread."""
        self._server.serve_forever()

    def __enter__(self) -> ImageServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every small answer waits 40 ms for an acknowledgement

    def __init__(self, images: ImageServer, *args: Any) -> None:
        self.images = images
        self.query: dict[str, str] = {}
        super().__init__(*args)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        with self.images.lock:
            self.images.requests[self.path] += 1
            self.images.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.images.active += 1
            self.images.most_active = max(self.images.most_active, self.images.active)
        try:
            self._route(parts.path)()
        except OSError:
            self.close_connection = True
        finally:
            with self.images.lock:
                self.images.active -= 1

    def _route(self, path: str) -> Callable[[], None]:
        if path.startswith("/status/"):
            return functools.partial(self._status, int(path.removeprefix("/status/")))
        name = "_" + path.strip("/").partition(".")[0].replace("-", "_")
        route: Callable[[], None] = getattr(self, name, self._missing)
        return route

    def _send(self, body: bytes, kind: str = "image/jpeg", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _begin_endless(self, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(picture())

    def _missing(self) -> None:
        self._send(b"no such thing", "text/plain", 404)

    def _image(self) -> None:
        self._send(picture())

    def _padded(self) -> None:
        self._send(picture().ljust(int(self.query["bytes"]), b"\x00"))

    def _chunked(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        body = picture().ljust(int(self.query["bytes"]), b"\x00")
        for start in range(0, len(body), len(_PIECE)):
            piece = body[start : start + len(_PIECE)]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _mislabelled(self) -> None:
        self._send(picture(), "text/html")

    def _html(self) -> None:
        self._send(b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "text/html")

    def _text_as_jpeg(self) -> None:
        self._send(b"This is not a picture. " * 100)

    def _empty(self) -> None:
        self._send(b"")

    def _redirect(self) -> None:
        self._send(b"", status=302, Location=self.query["to"])

    def _redirect_loop(self) -> None:
        self._send(b"", status=301, Location=self.path)

    def _redirect_chain(self) -> None:
        left = int(self.query["left"])
        target = f"/redirect-chain?left={left - 1}" if left > 1 else "/image.jpg"
        self._send(b"", status=307, Location=target)

    def _status(self, code: int) -> None:
        times = int(self.query.get("times", "1000000000"))
        if self.images.requests[self.path] > times:
            self._image()
            return
        wait = {"Retry_After": self.query["retry_after"]} if "retry_after" in self.query else {}
        self._send(b"not now", "text/plain", code, **wait)

    def _drip(self) -> None:
        self._begin_endless(250_000)
        while not self.images.stopping.wait(_DRIP_S):
            self.wfile.write(b"\x00")

    def _giant(self) -> None:
        self._begin_endless()
        while not self.images.stopping.is_set():
            self.wfile.write(_PIECE)

    def _giant_declared(self) -> None:
        self._begin_endless(1 << 40)
        while not self.images.stopping.is_set():
            self.wfile.write(_PIECE)

    def _slow_headers(self) -> None:
        self.images.stopping.wait()
        self.close_connection = True

    def _held(self) -> None:
        self.images.let_go.wait()
        self._image()

    def _cut(self) -> None:
        self._begin_endless(len(picture()) * 2)
        self.close_connection = True

    def _gzip_bomb(self) -> None:
        self._send(gzip_bomb(), Content_Encoding="gzip")

    def _cookie(self) -> None:
        self._send(picture(), Set_Cookie="session=1; Path=/")

    def _not_http(self) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    server = ImageServer(options.host, options.port)
    print(server.url("/"), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

"""A real HTTP server that speaks the OpenAI chat protocol and misbehaves on request.

    with LlmServer() as server:            # answers well
        LlmConfig(base_url=server.url)
        server.behave("status", status=429, retry_after="2", times=1)
        server.behave("hang")

    python -m tests.llm_server --port 8000 --mode ok     prints its URL, serves until it is interrupted

The modes stand in `tests.llm_answers`. One stays until the next, or for `times` requests. `POST /mode` with
`{"mode": …, …}` changes it from another process; `GET /stats` tells how many requests came, in all and by
mode; `GET /requests` their bodies.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import Counter, deque
from dataclasses import fields, replace
from types import TracebackType
from typing import Any, Self

from tests.llm_answers import MODES, Behaviour, completion, explanation_of, message_text
from tests.llm_http import HttpServer, Seen

__all__ = ["Behaviour", "LlmServer", "Seen", "completion", "explanation_of", "message_text"]
_KEPT = 10_000  # requests


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
        self._server: HttpServer | None = None
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
        self._server = HttpServer(("127.0.0.1", self.port), self)
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

    def __enter__(self) -> Self:
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

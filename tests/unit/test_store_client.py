"""Every way a vector store can fail, as the worker sees it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from worker.errors import ConfigError, FatalError, TransientError
from worker.index import Search, VectorIndex
from worker.store.client import Refused, open_store


@dataclass(slots=True)
class Answer:
    """What the stand-in server says to every request."""

    status: int = 200
    body: bytes = b'{"result": {"collections": []}, "status": "ok", "time": 0.0}'
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[dict[str, str]] = field(default_factory=list)
    hangs: threading.Event | None = None


@pytest.fixture
def answer() -> Answer:
    return Answer()


@pytest.fixture
def url(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer.seen.append(dict(self.headers))
            if answer.hangs is not None:
                answer.hangs.wait(30)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        if answer.hangs is not None:
            answer.hangs.set()
        server.shutdown()
        thread.join()


def ask(url: str, **options: float) -> object:
    with open_store(url, **options) as store:  # type: ignore[arg-type]
        assert not store.is_embedded
        return store.call(store.client.get_collections).collections


def test_an_answer_passes(url: str) -> None:
    assert ask(url) == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_overloaded_server_is_transient(url: str, answer: Answer, status: int) -> None:
    answer.status = status
    with pytest.raises(TransientError) as caught:
        ask(url)
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "pause_s"), [("7", 7.0), ("86400", 300.0), ("soon", None), ("-1", None), ("inf", None)]
)
def test_the_pause_the_server_asks_for_is_passed_on(
    url: str, answer: Answer, status: int, header: str, pause_s: float | None
) -> None:
    answer.status, answer.headers = status, {"Retry-After": header}
    with pytest.raises(TransientError) as caught:
        ask(url)
    assert caught.value.retry_after_s == pause_s


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 501])
def test_a_refusal_is_fatal_and_says_why(url: str, answer: Answer, status: int) -> None:
    answer.status, answer.body = status, b'{"status": {"error": "because"}, "time": 0.0}'
    with pytest.raises(Refused, match=f"answered {status}: because") as caught:
        ask(url)
    assert caught.value.status == status


def test_a_refusal_without_json_still_has_a_reason(url: str, answer: Answer) -> None:
    answer.status, answer.body = 403, b"<html>forbidden</html>"
    with pytest.raises(Refused, match="answered 403: Forbidden"):
        ask(url)


@pytest.mark.parametrize("body", [b'{"result": {"collections": 5}}', b"[1]"])
def test_an_answer_that_makes_no_sense_is_fatal_in_one_line(url: str, answer: Answer, body: bytes) -> None:
    answer.body = body
    with pytest.raises(FatalError, match="cannot read the answer") as caught:
        ask(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"[1]", b'{"result": null}', b'{"result": [{"points": [{"id": "a"}]}]}', b'{"result": [[]]}']
)
def test_hits_that_make_no_sense_are_fatal_in_one_line(url: str, answer: Answer, body: bytes) -> None:
    answer.body = body
    with open_store(url) as store, pytest.raises(FatalError, match="cannot read the answer") as caught:
        VectorIndex(store, "news", "model1", 2).search([Search("text", np.ones(2, np.float32))])
    assert "\n" not in str(caught.value)


def test_nobody_listening_is_transient(url: str) -> None:
    with pytest.raises(TransientError, match="vector store at"):
        ask("http://127.0.0.1:9")


def test_a_server_that_hangs_is_transient(url: str, answer: Answer) -> None:
    answer.hangs = threading.Event()
    with pytest.raises(TransientError):
        ask(url, timeout_s=1.0)


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_the_key_is_sent(url: str, answer: Answer) -> None:
    with open_store(url, api_key="secret") as store:
        store.call(store.client.get_collections)
    assert answer.seen[0]["api-key"] == "secret"


def test_no_target_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no vector store named"):
        open_store("")

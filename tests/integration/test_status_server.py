"""The status server over real sockets: probes, metrics, slow and rude clients."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from worker.errors import ConfigError
from worker.observe import http as status
from worker.observe.health import Health
from worker.observe.http import serving
from worker.observe.metrics import Metrics
from worker.sections import HealthConfig
from worker.stages.chain import STAGES


class Server:
    """A status server that runs, and a plain client of it."""

    def __init__(self, metrics: Metrics, health: Health, port: int) -> None:
        self.metrics = metrics
        self.health = health
        self.port = port

    def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, str, str]:
        """Status, content type and body."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()

    def is_ready_gauge(self) -> float | None:
        return self.metrics.registry.get_sample_value("entityclip_ready")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@pytest.fixture
def server() -> Iterator[Server]:
    metrics, health = Metrics(STAGES), Health(HealthConfig())
    with serving(metrics, health, "127.0.0.1", 0) as port:
        yield Server(metrics, health, port)


def test_before_the_model_is_loaded_it_is_alive_and_not_ready(server: Server) -> None:
    assert server.ask("/livez")[::2] == (200, "alive\n")
    assert server.ask("/readyz")[::2] == (503, "loading\n")


def test_a_warm_worker_is_ready(server: Server) -> None:
    server.health.warm()
    assert server.ask("/readyz")[::2] == (200, "ready\n")


def test_each_reason_has_a_line(server: Server) -> None:
    server.health.draining()
    assert server.ask("/readyz")[2].splitlines() == ["loading", "draining: a stop was asked for"]


def test_a_look_at_any_page_brings_the_gauge_up_to_date(server: Server) -> None:
    server.health.warm()
    assert "entityclip_ready 1.0" in server.ask("/metrics")[2]
    server.health.draining()
    server.ask("/livez")
    assert server.is_ready_gauge() == 0


def test_metrics_are_plain_text_unless_openmetrics_is_asked_for(server: Server) -> None:
    server.metrics.posts.inc(3)
    status_code, content_type, body = server.ask("/metrics")
    assert status_code == 200
    assert content_type.startswith("text/plain; version=0.0.4")
    assert "entityclip_posts_total 3.0" in body
    _, content_type, body = server.ask("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


def test_the_first_page_lists_the_others(server: Server) -> None:
    assert server.ask("/")[2].split() == ["/livez", "/metrics", "/readyz"]


def test_any_other_page_is_not_found(server: Server) -> None:
    assert server.ask("/etc/passwd")[0] == 404


def test_a_query_does_not_hide_the_page(server: Server) -> None:
    assert server.ask("/livez?verbose=1")[0] == 200


def test_head_gives_the_status_without_a_body(server: Server) -> None:
    assert server.ask("/readyz", method="HEAD")[::2] == (503, "")


def test_other_methods_are_refused(server: Server) -> None:
    assert server.ask("/livez", method="POST")[0] == 501


def test_requests_leave_no_line_on_standard_error(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    server.ask("/livez")
    server.ask("/nothing")
    with server.connect() as rude:
        rude.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        rude.recv(4096)
    assert capfd.readouterr().err == ""


def test_a_client_that_says_nothing_is_hung_up_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_HEAD_S", 0.2)
    with server.connect() as silent:
        assert silent.recv(1) == b""


def test_a_client_that_drips_is_hung_up_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_HEAD_S", 0.3)
    with server.connect() as dripping:
        dripping.settimeout(0.05)
        for _ in range(200):
            try:
                dripping.send(b"G")
                if dripping.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("200 bytes in 10 s were waited for")


def test_a_request_without_end_is_hung_up_on(server: Server) -> None:
    with server.connect() as endless:
        endless.sendall(b"GET / HTTP/1.1\r\n")
        try:
            for _ in range(10_000):
                endless.sendall(b"X: " + b"y" * 4093)
        except ConnectionError:
            return
    pytest.fail("40 MB of a request were read")


def test_probes_are_answered_beside_slow_clients(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(server.connect()).sendall(b"GET /liv")
        assert server.ask("/livez")[0] == 200


def test_more_clients_than_there_is_room_for_are_hung_up_on_and_then_served_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(status._MOST_REQUESTS)]
        for connection in slow:
            connection.sendall(b"GET /liv")
        with server.connect() as one_more:
            assert one_more.recv(1) == b""
        for connection in slow:
            connection.sendall(b"ez HTTP/1.0\r\n\r\n")
        assert all(connection.recv(4096).startswith(b"HTTP/1.0 200") for connection in slow)
    assert server.ask("/livez")[0] == 200


def test_the_port_is_free_again_afterwards() -> None:
    metrics, health = Metrics(STAGES), Health(HealthConfig())
    with serving(metrics, health, "127.0.0.1", 0) as port:
        pass
    with serving(metrics, health, "127.0.0.1", port) as again:
        assert again == port


def test_a_port_in_use_is_a_configuration_error() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = int(holder.getsockname()[1])
        with (
            pytest.raises(ConfigError, match=f"127.0.0.1:{port}"),
            serving(Metrics(), Health(HealthConfig()), "127.0.0.1", port),
        ):
            pass


@pytest.mark.parametrize("address", ["192.0.2.1", "a" * 300])
def test_an_address_that_is_none_is_a_configuration_error(address: str) -> None:
    with (
        pytest.raises(ConfigError, match="cannot be served"),
        serving(Metrics(), Health(HealthConfig()), address, 0),
    ):
        pass


def test_it_can_be_served_over_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with (
        serving(Metrics(), Health(HealthConfig()), "::1", 0) as port,
        closing(http.client.HTTPConnection("::1", port, timeout=30)) as connection,
    ):
        connection.request("GET", "/livez")
        assert connection.getresponse().status == 200

"""The stand-in for the kubelet keeps Kubernetes' rules, with a server whose answers the test writes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.kubelet import Kubelet
from tests.deploy.pods import Container, Probe, worker_container
from tests.ports import free_port

_SERVER = """
import pathlib, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Pages(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(pathlib.Path(sys.argv[1] + self.path).read_text()))
        self.end_headers()

if len(sys.argv) > 3:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
HTTPServer(("127.0.0.1", int(sys.argv[2])), Pages).serve_forever()
"""
TICK_S, WAIT_S = 0.05, 30.0
Pod = Callable[..., Container]


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    """A container whose pages have the given statuses."""
    port = free_port()

    def make(*arguments: str, grace_s: float = 10.0, **statuses: int) -> Container:
        for name, status in statuses.items():
            (tmp_path / name).write_text(str(status))
        probes = {name: Probe(f"/{name}", port, period_s=TICK_S, failure_threshold=20) for name in statuses}
        return Container((str(tmp_path), str(port), *arguments), {}, probes, grace_s)

    return make


def kubelet(container: Container, folder: Path) -> Kubelet:
    return Kubelet(container, folder / "log", seconds_each=1.0, entry=(sys.executable, "-c", _SERVER))


def test_liveness_is_not_asked_before_startup_has_succeeded(pod: Pod, tmp_path: Path) -> None:
    with kubelet(pod(startup=503, liveness=500), tmp_path) as watched:
        watched.wait_for("killed by startup", WAIT_S)
        assert "killed by liveness" not in watched.kinds


def test_failed_liveness_restarts_the_container(pod: Pod, tmp_path: Path) -> None:
    with kubelet(pod(startup=200, liveness=500), tmp_path) as watched:
        watched.wait_for("started", WAIT_S, times=2)
        assert watched.kinds[:3] == ["started", "killed by liveness", "ended"]


def test_failed_readiness_kills_nobody(pod: Pod, tmp_path: Path) -> None:
    with kubelet(pod(startup=200, readiness=200, liveness=200), tmp_path) as watched:
        watched.wait_for("ready", WAIT_S)
        (tmp_path / "readiness").write_text("503")
        watched.wait_for("unready", WAIT_S)
        (tmp_path / "readiness").write_text("200")
        watched.wait_for("ready", WAIT_S, times=2)
        assert watched.kinds == ["started", "ready", "unready", "ready"]


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace_period(pod: Pod, tmp_path: Path) -> None:
    with kubelet(pod("deaf", readiness=200, grace_s=0.5), tmp_path) as watched:
        watched.wait_for("ready", WAIT_S)
        end = watched.stop()
    assert end.sent == "SIGKILL"
    assert end.took_s >= 0.5


def test_a_process_that_hears_sigterm_is_not_killed(pod: Pod, tmp_path: Path) -> None:
    with kubelet(pod(readiness=200), tmp_path) as watched:
        watched.wait_for("ready", WAIT_S)
        assert watched.stop().sent == "SIGTERM"


def test_a_pod_is_read_with_its_ports_variables_and_secrets() -> None:
    spec = {
        "terminationGracePeriodSeconds": 45,
        "containers": [
            {
                "args": ["run"],
                "ports": [{"name": "metrics", "containerPort": 9108}],
                "envFrom": [{"configMapRef": {"name": "settings"}}],
                "env": [
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "kafka", "key": "password"}}},
                    {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                ],
                "resources": {"limits": {"cpu": "1500m"}},
                "livenessProbe": {"httpGet": {"path": "/livez", "port": "metrics"}, "periodSeconds": 3},
            }
        ],
    }
    manifests = [
        {"kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"A": "1"}},
        {"kind": "Deployment", "spec": {"template": {"spec": spec}}},
    ]
    container = worker_container(manifests, {"kafka/password": "secret"})
    assert container.environment == {"A": "1", "B": "secret", "C": "2"}
    assert container.probes == {"liveness": Probe("/livez", 9108, period_s=3)}
    assert (container.command, container.grace_s) == (("run",), 45)

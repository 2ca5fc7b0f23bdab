"""What an operator meets after `helm install`: the notes, and `helm test`."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.deploy.charts import Manifest, notes, of_kind, only, rendered
from tests.deploy.values_matrix import CASES, KEDA, MONITORING, SECRETS

_START_S = 900  # of the default probes: 600 s to load, and what comes before


class _Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        is_ready = self.path == "/readyz"
        self.send_response(200 if is_ready else 404)
        self.end_headers()
        self.wfile.write(b"ready")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def worker() -> Iterator[str]:
    """The address of something that answers as a ready worker does."""
    with HTTPServer(("127.0.0.1", 0), _Ready) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_notes_say_what_runs_and_how_to_see_that_it_works() -> None:
    text = notes()
    assert "kafka:news.posts -> kafka:news.matches, store http://qdrant:6333" in text
    rollout = text.index("rollout status deployment/news-entityclip")
    assert rollout < text.index("helm test news --namespace matching --logs")


@pytest.mark.parametrize("values", [{"replicaCount": 2}, KEDA], ids=["by hand", "keda"])
def test_notes_warn_of_several_workers_without_redis(values: dict[str, Any]) -> None:
    assert "WARNING: several workers and no Redis" in notes(values)


def test_notes_do_not_warn_where_there_is_redis() -> None:
    assert "Redis" not in notes(CASES["several workers"])


def test_notes_say_what_is_missing() -> None:
    text = notes()
    assert "NOTE: no LLM" in text
    assert "NOTE: one worker." in text
    assert "NOTE: nobody is told to scrape port 9108" in text


def test_notes_are_silent_about_what_is_there() -> None:
    text = notes(MONITORING | {"config": {"llm": SECRETS["config"]["llm"]}})
    assert "no LLM" not in text
    assert "scrape" not in text


def test_helm_test_asks_the_service_for_readiness() -> None:
    manifests = rendered("defaults")
    service = only(manifests, "Service")
    address = f"http://{service['metadata']['name']}.matching:{service['spec']['ports'][0]['port']}/readyz"
    assert f'url = "{address}"' in _script(manifests)


def test_helm_test_passes_where_a_worker_is_ready(worker: str) -> None:
    script = _script(rendered("defaults")).replace("http://news-entityclip.matching:9108", worker)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "ready")


def test_helm_test_fails_where_none_is(worker: str) -> None:
    script = _script(rendered("defaults")).replace(
        "http://news-entityclip.matching:9108/readyz", f"{worker}/x"
    )
    hasty = script.replace(f"time.monotonic() + {_START_S}", "time.monotonic() - 1")
    done = subprocess.run([sys.executable, "-c", hasty], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "404" in done.stdout


def test_helm_test_waits_as_long_as_a_rollout_may() -> None:
    manifests = rendered("defaults")
    assert only(manifests, "Deployment")["spec"]["progressDeadlineSeconds"] == _START_S
    assert f"deadline = time.monotonic() + {_START_S}\n" in _script(manifests)
    assert only(manifests, "Pod", "-ready")["spec"]["activeDeadlineSeconds"] > _START_S


def test_the_logs_of_helm_test_can_be_read_after_it() -> None:
    pods = of_kind(rendered("defaults"), "Pod")
    policies = {pod["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for pod in pods}
    assert policies == {"before-hook-creation"}


def test_pods_of_helm_test_are_run_only_by_it() -> None:
    hooks = [pod["metadata"]["annotations"]["helm.sh/hook"] for pod in of_kind(rendered("defaults"), "Pod")]
    assert hooks == ["test", "test"]


def _script(manifests: list[Manifest]) -> str:
    script: str = only(manifests, "Pod", "-ready")["spec"]["containers"][0]["args"][0]
    return script

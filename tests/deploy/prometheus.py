"""A real Prometheus on loopback, quick enough to wait for: it scrapes and evaluates every second."""

from __future__ import annotations

import json
import math
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml

from tests.deploy.promql import ROOT, RULES
from tests.deploy.tools import PROMETHEUS, tool
from tests.ports import free_port

COMPOSE_CONFIG: Final = ROOT / "deploy" / "compose" / "prometheus.yml"
EVERY: Final = "1s"
_START_S = 30.0
_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A series at one moment."""

    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What Prometheus says to a query.

    Args:
        error: why it refuses; empty where it does not.
        notes: its warnings and hints, such as a rate of what is no counter.
    """

    samples: tuple[Sample, ...] = ()
    error: str = ""
    notes: tuple[str, ...] = ()


class Prometheus:
    """One server; runs within `with`. The test is skipped where Prometheus was not built.

    Args:
        folder: of its data, its settings and its log.
        target: `host:port` of the worker.
        rules: the rule file; its groups are evaluated every second, whatever they say.
    """

    def __init__(self, folder: Path, target: str, rules: Path = RULES) -> None:
        self._folder = folder
        self._target = target
        self._rules = rules
        self._program = tool(PROMETHEUS)
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "rules.yaml").write_text(yaml.safe_dump(_quick_rules(self._rules)))
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(self._config()))
        command = [
            self._program,
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=warn",
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def query(self, expression: str) -> Answer:
        """The expression's value now; one without series has no samples."""
        body = self._ask("query", query=expression)
        if body["status"] != "success":
            return Answer(error=f"{body['errorType']}: {body['error']}")
        data = body["data"]
        found = (
            data["result"] if data["resultType"] == "vector" else [{"metric": {}, "value": data["result"]}]
        )
        samples = tuple(Sample(each["metric"], float(each["value"][1])) for each in found)
        return Answer(samples, notes=(*body.get("warnings", ()), *body.get("infos", ())))

    def value(self, expression: str) -> float:
        """The sum over the expression's series; NaN where there are none."""
        samples = self.query(expression).samples
        return sum(sample.value for sample in samples) if samples else math.nan

    def rules(self) -> list[dict[str, Any]]:
        """Every rule as it was last evaluated: name, type, health, last error and, of alerts, the state."""
        groups = self._ask("rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes: labels, health and the last error."""
        found: list[dict[str, Any]] = self._ask("targets", state="active")["data"]["activeTargets"]
        return found

    def _config(self) -> dict[str, Any]:
        """What compose's Prometheus gets, but for where worker and rules are and how often it looks."""
        config: dict[str, Any] = yaml.safe_load(COMPOSE_CONFIG.read_text(encoding="utf-8"))
        times = {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY}
        config["global"] = config.get("global", {}) | times
        config["rule_files"] = [str(self._folder / "rules.yaml")]
        config["scrape_configs"] = [
            _at(job, self._target) for job in config["scrape_configs"] if job["job_name"] == "entityclip"
        ]
        return config

    def _ask(self, what: str, **parameters: str) -> dict[str, Any]:
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/{what}?{query}", timeout=30) as answer:
                body: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                body = json.load(error)
        return body

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_S
        while not self._is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                log = (self._folder / "log").read_text(errors="replace")
                raise AssertionError(f"Prometheus does not start: {log[-2000:]}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:  # an answer of 503 is one too
            return False

    def _stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _quick_rules(path: Path) -> dict[str, Any]:
    rules: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    rules["groups"] = [group | {"interval": EVERY} for group in rules["groups"]]
    return rules


def _at(job: dict[str, Any], target: str) -> dict[str, Any]:
    """The same job with this target in place of its own, however it finds those."""
    times: Iterable[str] = ("scrape_interval", "scrape_timeout")
    kept = {name: value for name, value in job.items() if not name.endswith("_configs") and name not in times}
    relabel = {name: job[name] for name in ("relabel_configs", "metric_relabel_configs") if name in job}
    return kept | relabel | {"static_configs": [{"targets": [target]}]}

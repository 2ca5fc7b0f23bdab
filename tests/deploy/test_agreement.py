"""Chart, compose file, image, documents and code say the same: settings, ports, probes, metrics, commands."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tests.deploy.charts import container, environment, only, pod_spec, render
from tests.deploy.documents import (
    DEPLOY,
    DOCUMENTS,
    README,
    ROOT,
    dockerfile,
    files,
)
from worker.config import Config, load_config
from worker.observe.metrics import Metrics
from worker.stages.chain import STAGES

CHART = DEPLOY / "chart"
SUBJECTS = [*files(), README]
_VARIABLE = re.compile(r"\bENTITYCLIP_[A-Z0-9_]+\b(\*|\{)?")
_METRIC = re.compile(r"(?<![\w:./-])entityclip_[a-z0-9_]+\b(?![.(/-])")
_SUFFIXES = ("_total", "_bucket", "_sum", "_count", "")
_PLACES = ("livez", "readyz", "metrics")
_PATH = re.compile(r"(?<![\w.])/(livez|readyz|metrics|healthz|health|live|ready)\b(?![/.\w-])")
# Variables that are no settings: what compose.yaml replaces by itself, and switches of the tests.
_OTHER_VARIABLES = ("ENTITYCLIP_TEST_", "ENTITYCLIP_PARITY")
IMAGE = "entityclip"
UID = 10001
TOPICS = {
    "source": "kafka:news.posts",
    "sink": "kafka:news.matches",
    "outcomes": "kafka:news.outcomes",
    "dead_letters": "kafka:news.posts.dead",
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def settings(type_: type[msgspec.Struct] = Config, prefix: str = "ENTITYCLIP_") -> Iterator[str]:
    """The variable of every setting."""
    for field in msgspec.structs.fields(type_):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from settings(field.type, f"{prefix}{field.name.upper()}__")
        else:
            yield prefix + field.name.upper()


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    return render({"serviceMonitor": {"enabled": True}})


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def image() -> list[tuple[str, str]]:
    return list(dockerfile(DEPLOY / "Dockerfile"))


@pytest.fixture(scope="module")
def version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["project"]["version"])


# -- settings -------------------------------------------------------------------------------------


def unknown_variables(text: str) -> list[str]:
    """Those of the variables in a text that set nothing."""
    known, unknown = set(settings()), []
    for found in _VARIABLE.finditer(text):
        variable = found[0].rstrip("*{")
        is_open = found[1] or variable.endswith("_")  # `ENTITYCLIP_*`, or a template puts the rest there
        fits = any(setting.startswith(variable) for setting in known) if is_open else variable in known
        if not fits and not variable.startswith(_OTHER_VARIABLES):
            unknown.append(variable)
    return unknown


@pytest.mark.parametrize("path", SUBJECTS, ids=name)
def test_every_variable_that_is_named_is_a_setting(path: Path) -> None:
    assert not unknown_variables(path.read_text(encoding="utf-8"))


def test_a_variable_that_sets_nothing_is_found() -> None:
    text = "ENTITYCLIP_STORE=x ENTITYCLIP_* ENTITYCLIP_KAFKA__{{ }} ENTITYCLIP_KAFKA__GRUOP ENTITYCLIP_TEST_X"
    assert unknown_variables(text) == ["ENTITYCLIP_KAFKA__GRUOP"]


def test_the_settings_of_the_compose_file_are_read_by_the_worker(compose: Mapping[str, Any]) -> None:
    config = load_config(environ=compose_environment(compose))
    assert (config.metrics.port, config.metrics.address) == (9108, "0.0.0.0")


def test_the_settings_of_the_chart_are_read_by_the_worker(manifests: list[dict[str, Any]]) -> None:
    config = load_config(environ=environment(manifests))
    assert (config.metrics.port, config.metrics.address) == (9108, "0.0.0.0")


def test_the_settings_of_the_image_are_read_by_the_worker(image: list[tuple[str, str]]) -> None:
    config = load_config(environ=image_environment(image))
    assert (config.metrics.port, config.metrics.address) == (9108, "0.0.0.0")


def compose_environment(compose: Mapping[str, Any]) -> dict[str, str]:
    """Of its worker, each variable of compose's own at its default."""
    given = compose["services"]["worker"]["environment"]
    return {key: re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", str(value)) for key, value in given.items()}


def image_environment(image: list[tuple[str, str]]) -> dict[str, str]:
    pairs = (word for kind, text in image if kind == "ENV" for word in text.split())
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


# -- topics, group, names -------------------------------------------------------------------------


def test_chart_and_compose_file_name_the_same_topics_and_group(
    manifests: list[dict[str, Any]], compose: Mapping[str, Any]
) -> None:
    for variables in (environment(manifests), compose_environment(compose)):
        config = load_config(environ=variables)
        assert {field: getattr(config, field) for field in TOPICS} == TOPICS
        assert config.kafka.group == "entityclip"
        assert config.kafka.partitions == 6


def test_the_chart_installs_the_version_of_the_project(manifests: list[dict[str, Any]], version: str) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert str(chart["appVersion"]) == version
    assert container(manifests)["image"] == f"{IMAGE}:{version}"
    assert container(render({"device": "cuda"}))["image"] == f"{IMAGE}:{version}-cuda"


def test_the_compose_file_builds_the_version_of_the_project(compose: Mapping[str, Any], version: str) -> None:
    cuda = yaml.safe_load((DEPLOY / "compose" / "cuda.yaml").read_text(encoding="utf-8"))
    for service in ("worker", "seeder"):
        assert compose["services"][service]["image"] == f"{IMAGE}:{version}"
        assert cuda["services"][service]["image"] == f"{IMAGE}:{version}-cuda"


@pytest.mark.parametrize("path", SUBJECTS, ids=name)
def test_every_tag_of_the_image_is_the_version_of_the_project(path: Path, version: str) -> None:
    tags = re.findall(rf"\b{IMAGE}:(\d[\w.-]*)", path.read_text(encoding="utf-8"))
    assert {tag.removesuffix("-cuda") for tag in tags} <= {version}


def test_the_image_is_labelled_with_the_version_of_the_project(
    image: list[tuple[str, str]], version: str
) -> None:
    assert ("ARG", f"VERSION={version}") in image


def test_image_and_chart_run_as_the_same_user(
    image: list[tuple[str, str]], manifests: list[dict[str, Any]]
) -> None:
    assert [text for kind, text in image if kind == "USER"][-1] == f"{UID}:{UID}"
    context = pod_spec(manifests)["securityContext"]
    assert {context[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {UID}


def test_chart_and_compose_file_write_where_the_image_has_its_home(
    image: list[tuple[str, str]], manifests: list[dict[str, Any]], compose: Mapping[str, Any]
) -> None:
    home = image_environment(image)["HOME"]
    mounts = {mount["mountPath"] for mount in container(manifests)["volumeMounts"]}
    assert mounts == {home, "/tmp"}
    worker = compose["services"]["worker"]
    assert any(str(volume).endswith(f":{home}") for volume in worker["volumes"])
    assert any(str(place).startswith("/tmp") for place in worker["tmpfs"])


def test_a_stop_has_the_same_time_in_chart_and_compose_file(
    manifests: list[dict[str, Any]], compose: Mapping[str, Any]
) -> None:
    grace_s = pod_spec(manifests)["terminationGracePeriodSeconds"]
    assert compose["services"]["worker"]["stop_grace_period"] == f"{grace_s}s"


# -- ports and probes -----------------------------------------------------------------------------


def test_the_metrics_port_is_the_same_everywhere(
    manifests: list[dict[str, Any]], image: list[tuple[str, str]]
) -> None:
    assert [text for kind, text in image if kind == "EXPOSE"] == ["9108"]
    assert container(manifests)["ports"] == [{"name": "metrics", "containerPort": 9108}]
    (port,) = only(manifests, "Service")["spec"]["ports"]
    assert (port["name"], port["port"], port["targetPort"]) == ("metrics", 9108, "metrics")
    (endpoint,) = only(manifests, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["port"] == "metrics"
    assert endpoint.get("path", "/metrics") == "/metrics"


def test_prometheus_of_the_compose_file_scrapes_the_worker_as_the_rules_expect() -> None:
    scrape = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = [job for job in scrape["scrape_configs"] if job["job_name"] == "entityclip"]
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert '"port": 9108' in json.dumps(job) or ":9108" in json.dumps(job)


def test_the_probes_ask_what_the_worker_answers(manifests: list[dict[str, Any]]) -> None:
    found = container(manifests)
    paths = {
        probe: found[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")
    }
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    assert {found[f"{probe}Probe"]["httpGet"]["port"] for probe in paths} == {"metrics"}


@pytest.mark.parametrize("path", [path for path in SUBJECTS if path.suffix != ".json"], ids=name)
def test_no_file_names_another_page_of_the_worker(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert {found[1] for found in _PATH.finditer(text)} <= set(_PLACES)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_document_names_the_port(document: Path) -> None:
    ports = re.findall(r"\b91\d\d\b", document.read_text(encoding="utf-8"))
    assert set(ports) == {"9108"}


# -- metrics --------------------------------------------------------------------------------------


def declared() -> set[str]:
    """Every metric of the worker, with and without the endings that Prometheus knows."""
    families = [family.name for family in Metrics(STAGES).registry.collect()]
    return {family + suffix for family in families for suffix in _SUFFIXES}


def undeclared(text: str) -> set[str]:
    """Those of the metrics in a text that the worker does not have."""
    return {metric for metric in set(_METRIC.findall(text)) - declared() if not metric.endswith("_")}


@pytest.mark.parametrize("path", SUBJECTS, ids=name)
def test_every_metric_that_is_named_is_declared(path: Path) -> None:
    assert not undeclared(path.read_text(encoding="utf-8"))


def test_a_metric_that_nobody_declares_is_found() -> None:
    text = (
        "rate(entityclip_matches_total[5m]) / entityclip_machtes_total, namespace_release:entityclip_x:rate5m"
    )
    assert undeclared(text) == {"entityclip_machtes_total"}

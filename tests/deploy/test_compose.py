"""compose.yaml and what lies beside it, read by the real Compose and by promtool; nothing is started."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from tests.deploy.dockerfile import environment, last
from tests.deploy.tools import COMPOSE, PROMTOOL, run
from worker.build import _drain_deadline_s
from worker.cli.main import app
from worker.config import load_config

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OURS = ("worker", "seeder")

Service = Mapping[str, Any]


def compose(*files: str) -> Mapping[str, Any]:
    """What Compose makes of the files; it must have nothing to complain about."""
    named = [argument for file in files for argument in ("-f", str(DEPLOY / file))]
    done = run(COMPOSE, *named, "config", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def project() -> Mapping[str, Any]:
    return compose("compose.yaml")


@pytest.fixture(scope="module")
def services(project: Mapping[str, Any]) -> Mapping[str, Service]:
    found: Mapping[str, Service] = project["services"]
    return found


def test_it_is_everything_that_the_pipeline_needs(services: Mapping[str, Service]) -> None:
    assert set(services) == {"worker", "seeder", "kafka", "redis", "qdrant", "prometheus", "grafana"}


def test_every_image_of_others_is_pinned_to_a_release(services: Mapping[str, Service]) -> None:
    images = {name: service["image"] for name, service in services.items() if name not in OURS}
    assert [image for image in images.values() if not re.search(r":v?\d+\.\d+\.\d+(-\w+)?$", image)] == []
    assert all(image.startswith("docker.io/") for image in images.values())


def test_our_image_bears_the_version_of_the_package(services: Mapping[str, Service]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {services[name]["image"] for name in OURS} == {f"entityclip:{version}"}
    assert services["worker"]["build"]["args"] == {"VARIANT": "cpu"}
    assert (Path(services["worker"]["build"]["context"]), last("ARG")) == (ROOT, f"VERSION={version}")


def test_with_the_file_for_gpus_worker_and_seeder_run_the_other_variant() -> None:
    services = compose("compose.yaml", "compose/cuda.yaml")["services"]
    assert {services[name]["image"] for name in OURS} == {"entityclip:0.1.0-cuda"}
    assert services["worker"]["build"]["args"] == {"VARIANT": "cuda"}
    assert load_config(environ=services["worker"]["environment"]).device == "cuda"


def test_libraries_can_be_loaded_from_tmp_where_triton_builds_them_and_nowhere_else() -> None:
    services = compose("compose.yaml", "compose/cuda.yaml")["services"]
    options = {name: services[name]["tmpfs"][0].split(",") for name in OURS}
    assert [len(services[name]["tmpfs"]) for name in OURS] == [1, 1]
    assert {name: "exec" in found for name, found in options.items()} == {"worker": True, "seeder": False}


def test_every_file_that_is_mounted_is_there(services: Mapping[str, Service]) -> None:
    sources = [Path(mount["source"]) for service in services.values() for mount in _mounts(service, "bind")]
    assert len(sources) >= 5
    assert [source for source in sources if not source.exists()] == []


def test_what_is_bound_from_the_repository_is_read_only(services: Mapping[str, Service]) -> None:
    assert all(mount["read_only"] for service in services.values() for mount in _mounts(service, "bind"))


def test_what_is_stored_lies_in_named_volumes(project: Mapping[str, Any]) -> None:
    used = {
        mount["source"] for service in project["services"].values() for mount in _mounts(service, "volume")
    }
    assert used == set(project["volumes"])


@pytest.mark.parametrize("name", OURS)
def test_our_services_can_write_to_nothing_but_their_volume_and_tmp(
    services: Mapping[str, Service], name: str
) -> None:
    service = services[name]
    assert service["read_only"]
    assert [place.partition(":")[0] for place in service["tmpfs"]] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {mount["target"] for mount in _mounts(service, "volume")} <= {environment()["HOME"]}


def test_every_service_has_a_memory_limit_and_is_bound_to_this_machine_alone(
    services: Mapping[str, Service],
) -> None:
    assert [name for name, service in services.items() if not service.get("mem_limit")] == []
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}


def test_what_a_service_waits_for_says_when_it_is_healthy(services: Mapping[str, Service]) -> None:
    waited = {
        (name, condition["condition"])
        for service in services.values()
        for name, condition in service.get("depends_on", {}).items()
    }
    assert {name for name, _ in waited} == {"kafka", "redis", "qdrant", "worker", "prometheus"}
    assert {condition for _, condition in waited} == {"service_healthy"}
    assert all(services[name]["healthcheck"]["test"] for name, _ in waited)


def test_the_worker_is_given_settings_that_it_takes_and_places_that_are_there(
    services: Mapping[str, Service],
) -> None:
    config = load_config(environ=environment() | services["worker"]["environment"])
    assert (config.source, config.sink) == ("kafka:news.posts", "kafka:news.matches")
    assert (config.outcomes, config.dead_letters) == ("kafka:news.outcomes", "kafka:news.posts.dead")
    assert (config.kafka.group, config.model) == ("entityclip", "tiny")
    assert config.store == "http://qdrant:6333"
    assert config.redis.url == "redis://redis:6379/0"
    assert config.media_store == f"{environment()['HOME']}/media"
    assert f"INSIDE://{config.kafka.bootstrap_servers}" in _kafka(services)["KAFKA_ADVERTISED_LISTENERS"]


def test_the_worker_has_time_to_finish_its_work(services: Mapping[str, Service]) -> None:
    worker = services["worker"]
    deadline_s = _drain_deadline_s(load_config(environ=worker["environment"]))
    assert worker["stop_grace_period"] == f"{deadline_s + 25:.0f}s"


def test_the_worker_is_asked_whether_it_is_ready_where_it_serves_that(
    services: Mapping[str, Service],
) -> None:
    command = services["worker"]["healthcheck"]["test"][-1]
    assert "/readyz" in command
    assert str(load_config(environ=services["worker"]["environment"]).metrics.port) in command


def test_the_seeder_sends_to_the_workers_topic_with_options_that_exist(
    services: Mapping[str, Service],
) -> None:
    seeder = services["seeder"]
    command, *arguments = seeder["command"]
    group = typer.main.get_command(app)
    found = group.commands[command].make_context(command, arguments).params  # type: ignore[attr-defined]
    assert (found["to"], found["rounds"]) == (services["worker"]["environment"]["ENTITYCLIP_SOURCE"], 0)
    config = load_config(environ=seeder["environment"])
    assert config.kafka == load_config(environ=services["worker"]["environment"]).kafka


def test_prometheus_takes_its_configuration_and_the_charts_rules(
    services: Mapping[str, Service], tmp_path: Path
) -> None:
    mounted = {mount["target"]: mount["source"] for mount in _mounts(services["prometheus"], "bind")}
    text = (DEPLOY / "compose" / "prometheus.yml").read_text()
    assert text.count("/etc/prometheus/rules.yaml") == 1
    here = tmp_path / "prometheus.yml"
    here.write_text(text.replace("/etc/prometheus/rules.yaml", mounted["/etc/prometheus/rules.yaml"]))
    done = run(PROMTOOL, "check", "config", str(here))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout
    assert mounted["/etc/prometheus/rules.yaml"] == str(DEPLOY / "chart" / "files" / "rules.yaml")


def test_prometheus_scrapes_the_worker_where_it_serves_its_metrics() -> None:
    (job,) = (
        job
        for job in yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())["scrape_configs"]
        if job["job_name"] == "entityclip"
    )
    assert job["static_configs"] == [{"targets": [f"worker:{last('EXPOSE')}"]}]


def test_grafana_finds_prometheus_and_the_dashboard(services: Mapping[str, Service]) -> None:
    grafana = services["grafana"]
    mounted = {mount["target"]: Path(mount["source"]) for mount in _mounts(grafana, "bind")}
    provisioned = mounted["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioned / "datasources/prometheus.yaml").read_text())["datasources"]
    (folder,) = yaml.safe_load((provisioned / "dashboards/entityclip.yaml").read_text())["providers"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert Path(home).parent == Path(folder["options"]["path"])
    assert json.loads(mounted[home].read_text())["uid"] == "entityclip"


def _mounts(service: Service, kind: str) -> list[dict[str, Any]]:
    return [mount for mount in service.get("volumes", ()) if mount["type"] == kind]


def _kafka(services: Mapping[str, Service]) -> Mapping[str, str]:
    found: Mapping[str, str] = services["kafka"]["environment"]
    return found

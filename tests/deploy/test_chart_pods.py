"""The worker's pods: how they start, stop, and what they are given."""

from __future__ import annotations

import math
import tomllib
from typing import Any

import pytest
import yaml

from tests.deploy.charts import CHART, container, environment, of_kind, only, pod_spec, render, rendered
from worker.sections import HealthConfig

_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


@pytest.mark.parametrize("deadline_s", [None, 0, 0.2, 45.5, 3600, 86_400])
def test_the_grace_period_is_longer_than_the_drain(deadline_s: float | None) -> None:
    values = {"config": {"drain_deadline_s": deadline_s}, "shutdownMarginSeconds": 10}
    drain_s = 20 if deadline_s is None else deadline_s
    assert pod_spec(render(values))["terminationGracePeriodSeconds"] == math.ceil(drain_s) + 10


def test_the_grace_period_is_45_seconds_by_default() -> None:
    assert pod_spec(rendered("defaults"))["terminationGracePeriodSeconds"] == 45


def test_probes_ask_the_port_that_the_worker_serves() -> None:
    worker = container(rendered("defaults"))
    port = next(port for port in worker["ports"] if port["name"] == "metrics")
    assert environment(rendered("defaults"))["ENTITYCLIP_METRICS__PORT"] == str(port["containerPort"])
    assert {probe: worker[probe]["httpGet"] for probe in _PROBES} == {
        "startupProbe": {"path": "/readyz", "port": "metrics"},
        "readinessProbe": {"path": "/readyz", "port": "metrics"},
        "livenessProbe": {"path": "/livez", "port": "metrics"},
    }


@pytest.mark.parametrize("period", [5, 7])
def test_the_startup_probe_waits_for_the_whole_budget(period: int) -> None:
    values = {"probes": {"startup": {"budgetSeconds": 600, "periodSeconds": period}}}
    probe = container(render(values))["startupProbe"]
    assert 600 <= probe["failureThreshold"] * probe["periodSeconds"] < 600 + period


def test_a_rollout_does_not_give_up_while_a_pod_may_still_be_starting() -> None:
    deployment = only(rendered("defaults"), "Deployment")["spec"]
    probe = container(rendered("defaults"))["startupProbe"]
    assert deployment["progressDeadlineSeconds"] > probe["failureThreshold"] * probe["periodSeconds"]


def test_the_liveness_probe_adds_little_to_what_the_worker_waits_itself() -> None:
    probe = container(rendered("defaults"))["livenessProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] < HealthConfig().dead_s / 10


def test_an_update_starts_no_pod_more_than_there_are() -> None:
    assert only(rendered("defaults"), "Deployment")["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
    }


def test_the_model_takes_as_many_threads_as_the_limit_has_cores() -> None:
    variable = next(
        item for item in container(rendered("defaults"))["env"] if item["name"] == "OMP_NUM_THREADS"
    )
    assert variable["valueFrom"] == {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1"}}


def test_without_a_gpu_no_pod_asks_for_one() -> None:
    manifests = rendered("defaults")
    assert "nvidia.com/gpu" not in container(manifests)["resources"]["limits"]
    assert "tolerations" not in pod_spec(manifests)
    assert environment(manifests)["ENTITYCLIP_DEVICE"] == "cpu"


def test_a_gpu_comes_with_image_limit_device_and_toleration() -> None:
    manifests = rendered("gpu")
    worker = container(manifests)
    assert worker["image"] == "entityclip:0.1.0-cuda"
    assert worker["resources"]["limits"] == {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": 1}
    assert environment(manifests)["ENTITYCLIP_DEVICE"] == "cuda"
    assert [toleration["key"] for toleration in pod_spec(manifests)["tolerations"]] == ["nvidia.com/gpu"]


def test_a_gpus_nodes_and_tolerations_come_on_top_of_the_own() -> None:
    spec = pod_spec(rendered("gpu of a named runtime and nodes"))
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["nodeSelector"] == {"accelerator": "l4", "pool": "workers"}
    assert {toleration["key"] for toleration in spec["tolerations"]} == {"pool", "nvidia.com/gpu"}


def test_the_tests_of_helm_take_no_gpu_from_the_workers() -> None:
    pods = of_kind(rendered("gpu"), "Pod")
    assert len(pods) == 2
    assert all("nvidia.com/gpu" not in pod["spec"]["containers"][0]["resources"]["limits"] for pod in pods)


def test_the_test_of_the_settings_has_the_workers_environment() -> None:
    manifests = rendered("existing secrets")
    test, worker = only(manifests, "Pod", "-check-config")["spec"]["containers"][0], container(manifests)
    assert (test["env"], test["envFrom"], test["image"]) == (
        worker["env"],
        worker["envFrom"],
        worker["image"],
    )
    assert test["args"] == ["check-config"]


def test_a_digest_wins_over_the_tag() -> None:
    image = container(rendered("image by digest"))["image"]
    assert image == f"registry.example.org/entityclip@sha256:{'0a' * 32}"


def test_a_secret_is_a_variable_that_refers_to_it() -> None:
    variables = {item["name"]: item for item in container(rendered("existing secrets"))["env"]}
    assert variables["ENTITYCLIP_STORE_API_KEY"]["valueFrom"] == {
        "secretKeyRef": {"name": "qdrant", "key": "api-key"}
    }
    assert "ENTITYCLIP_LLM__API_KEY" in variables
    assert "ENTITYCLIP_REDIS__URL" in variables


def test_what_a_secret_gives_is_in_no_config_map() -> None:
    assert "ENTITYCLIP_STORE" not in only(rendered("existing secrets"), "ConfigMap")["data"]


def test_files_for_tls_lie_where_the_settings_say() -> None:
    manifests = rendered("mutual tls")
    folder = _mounts(manifests)["kafka-tls"]["mountPath"]
    given = environment(manifests)
    assert [given[f"ENTITYCLIP_KAFKA__SSL_{name}_FILE"] for name in ("CA", "CERT", "KEY")] == [
        f"{folder}/ca.crt",
        f"{folder}/tls.crt",
        f"{folder}/tls.key",
    ]


def test_without_a_client_certificate_none_is_named() -> None:
    assert "ENTITYCLIP_KAFKA__SSL_CERT_FILE" not in environment(rendered("tls"))


def test_certificate_authorities_lie_where_openssl_looks() -> None:
    manifests = rendered("certificate authorities")
    place = _mounts(manifests)["ca-bundle"]["mountPath"]
    assert environment(manifests)["SSL_CERT_FILE"] == f"{place}/bundle.pem"
    assert environment(manifests)["AWS_CA_BUNDLE"] == f"{place}/bundle.pem"


@pytest.mark.parametrize("case", ["model from a claim", "two models", "model from an init container"])
def test_weights_are_mounted_read_only_where_the_model_is_looked_for(case: str) -> None:
    manifests = rendered(case)
    mount = _mounts(manifests)["models"]
    assert environment(manifests)["ENTITYCLIP_MODEL"].startswith(mount["mountPath"])
    assert mount["readOnly"] is True


def test_the_second_model_is_named_while_there_is_one() -> None:
    assert environment(rendered("two models"))["ENTITYCLIP_NEXT_MODEL"] == "/models/new"
    assert "ENTITYCLIP_NEXT_MODEL" not in environment(rendered("model from a claim"))


def test_the_init_container_fills_the_volume_that_the_worker_reads() -> None:
    spec = pod_spec(rendered("model from an init container"))
    assert {"name": "models", "mountPath": "/models"} in spec["initContainers"][0]["volumeMounts"]
    assert next(volume for volume in spec["volumes"] if volume["name"] == "models")["emptyDir"]


def test_only_home_and_tmp_can_be_written() -> None:
    mounts = _mounts(rendered("mutual tls"))
    written = [mount["mountPath"] for mount in mounts.values() if not mount.get("readOnly")]
    assert written == ["/var/lib/entityclip", "/tmp"]


def test_the_spread_is_over_the_pods_of_the_release() -> None:
    selector = only(rendered("defaults"), "Deployment")["spec"]["selector"]
    constraints = pod_spec(rendered("defaults"))["topologySpreadConstraints"]
    assert [constraint["labelSelector"] for constraint in constraints] == [selector]


def test_an_own_selector_of_a_spread_stays_as_it_is() -> None:
    constraints = pod_spec(rendered("an own spread"))["topologySpreadConstraints"]
    assert [constraint["labelSelector"] for constraint in constraints] == [
        {"matchLabels": {"tier": "workers"}}
    ]


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget"])
def test_what_selects_pods_selects_the_workers_and_no_test_pod(kind: str) -> None:
    manifests = rendered("defaults")
    spec = only(manifests, kind)["spec"]["selector"]
    selector = spec.get("matchLabels", spec).items()
    assert selector <= only(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    assert not any(selector <= pod["metadata"]["labels"].items() for pod in of_kind(manifests, "Pod"))


@pytest.mark.parametrize(("release", "name"), [("entityclip", "entityclip"), ("news", "news-entityclip")])
def test_the_release_gives_the_name(release: str, name: str) -> None:
    assert only(render({}, release=release), "Deployment")["metadata"]["name"] == name


def test_no_name_is_too_long_for_kubernetes() -> None:
    manifests = render({"fullnameOverride": "a" * 200, "prometheusRule": {"enabled": True}}, tests=True)
    assert max(len(manifest["metadata"]["name"]) for manifest in manifests) <= 63


def test_the_chart_is_of_the_workers_version() -> None:
    version = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == version


def _mounts(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {mount["name"]: mount for mount in container(manifests)["volumeMounts"]}


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "SSL_CERT_FILE", "AWS_CA_BUNDLE"])
def test_a_variable_that_is_given_stands_there_once(name: str) -> None:
    given = {"extraEnv": [{"name": name, "value": "mine"}], "caBundle": {"configMap": "authorities"}}
    found = [each for each in container(render(given))["env"] if each["name"] == name]
    assert found == [{"name": name, "value": "mine"}]

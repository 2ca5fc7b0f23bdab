"""How many workers there are: by hand, by KEDA, and never more than partitions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.charts import environment, of_kind, only, render, rendered
from tests.deploy.values_matrix import KEDA
from worker.config import load_config


def _scaled(case: str) -> dict[str, Any]:
    spec: dict[str, Any] = only(rendered(case), "ScaledObject")["spec"]
    return spec


def _trigger(case: str) -> dict[str, Any]:
    metadata: dict[str, Any] = _scaled(case)["triggers"][0]["metadata"]
    return metadata


@pytest.mark.parametrize(("replicas", "partitions"), [(9, 6), (9, 4), (2, 6), (10_000, 1)])
def test_keda_never_starts_more_workers_than_partitions(replicas: int, partitions: int) -> None:
    values = {
        "autoscaling": {"enabled": True, "maxReplicas": replicas},
        "config": {"kafka": {"partitions": partitions}},
    }
    most = only(render(values), "ScaledObject")["spec"]["maxReplicaCount"]
    assert most == min(replicas, partitions)


def test_with_keda_the_deployment_names_no_number_that_an_upgrade_would_reset() -> None:
    assert "replicas" not in only(rendered("keda"), "Deployment")["spec"]


def test_without_keda_the_deployment_names_the_number() -> None:
    assert only(rendered("several workers"), "Deployment")["spec"]["replicas"] == 3
    assert of_kind(rendered("several workers"), "ScaledObject") == []


def test_keda_watches_what_the_worker_reads() -> None:
    config, trigger = load_config(environ=environment(rendered("keda"))), _trigger("keda")
    assert f"kafka:{trigger['topic']}" == config.source
    assert trigger["consumerGroup"] == config.kafka.group
    assert trigger["offsetResetPolicy"] == config.kafka.auto_offset_reset
    assert trigger["allowIdleConsumers"] == "false"


@pytest.mark.parametrize(
    ("servers", "found"),
    [
        ("kafka:9092", "kafka.matching:9092"),
        ("kafka-0:9092, kafka-1:9093", "kafka-0.matching:9092,kafka-1.matching:9093"),
        ("kafka", "kafka.matching:9092"),
        ("kafka.streams:9092,kafka.example.org", "kafka.streams:9092,kafka.example.org:9092"),
        ("10.0.0.7:9092,[fd00::7]:9093,[fd00::8]", "10.0.0.7:9092,[fd00::7]:9093,[fd00::8]:9092"),
    ],
)
def test_keda_finds_the_brokers_from_its_own_namespace(servers: str, found: str) -> None:
    values = KEDA | {"config": {"kafka": {"bootstrap_servers": servers}}}
    trigger = only(render(values), "ScaledObject")["spec"]["triggers"][0]["metadata"]
    assert trigger["bootstrapServers"] == found


def test_large_thresholds_are_written_out() -> None:
    values = {"autoscaling": {"enabled": True, "lagThreshold": 25_000_000, "activationLagThreshold": 10**6}}
    trigger = only(render(values), "ScaledObject")["spec"]["triggers"][0]["metadata"]
    assert (trigger["lagThreshold"], trigger["activationLagThreshold"]) == ("25000000", "1000000")


def test_keda_scales_the_workers_deployment() -> None:
    assert (
        _scaled("keda")["scaleTargetRef"]["name"] == only(rendered("keda"), "Deployment")["metadata"]["name"]
    )


def test_steps_leave_time_for_a_rebalance() -> None:
    behavior = _scaled("keda")["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] >= 120
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 600
    assert behavior["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 300}]


def test_a_lag_that_cannot_be_read_takes_no_worker_away() -> None:
    assert _scaled("keda")["fallback"] == {
        "behavior": "currentReplicasIfHigher",
        "failureThreshold": 4,
        "replicas": 1,
    }


def test_from_nothing_the_fallback_is_still_a_worker() -> None:
    spec = _scaled("keda from nothing")
    assert (spec["minReplicaCount"], spec["fallback"]["replicas"]) == (0, 1)


@pytest.mark.parametrize(
    ("case", "tls", "sasl"),
    [
        ("keda", None, None),
        ("keda and tls", "enable", None),
        ("keda and sasl", None, "scram_sha512"),
        ("keda, tls and sasl", "enable", "plaintext"),
    ],
)
def test_keda_speaks_to_kafka_as_the_worker_does(case: str, tls: str | None, sasl: str | None) -> None:
    trigger = _trigger(case)
    assert (trigger.get("tls"), trigger.get("sasl")) == (tls, sasl)


@pytest.mark.parametrize(
    ("case", "parameters"),
    [
        ("keda and tls", {"ca"}),
        ("keda and mutual tls", {"ca", "cert", "key", "keyPassword"}),
        ("keda and sasl", {"username", "password"}),
        ("keda, tls and sasl", {"username", "password", "ca"}),
    ],
)
def test_keda_is_given_what_it_needs_to_log_in(case: str, parameters: set[str]) -> None:
    authentication = only(rendered(case), "TriggerAuthentication")
    spec = authentication["spec"]
    given = [*spec.get("configMapTargetRef", []), *spec["secretTargetRef"]]
    assert {item["parameter"] for item in given} == parameters
    assert _scaled(case)["triggers"][0]["authenticationRef"]["name"] == authentication["metadata"]["name"]


def test_the_user_that_keda_reads_is_in_the_config_map() -> None:
    manifests = rendered("keda and sasl")
    reference = only(manifests, "TriggerAuthentication")["spec"]["configMapTargetRef"][0]
    assert reference["key"] in only(manifests, "ConfigMap", reference["name"])["data"]


def test_in_the_clear_keda_needs_no_authentication() -> None:
    assert of_kind(rendered("keda"), "TriggerAuthentication") == []
    assert "authenticationRef" not in _scaled("keda")["triggers"][0]

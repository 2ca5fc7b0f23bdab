"""Values that the schema takes and a cluster would not: refused, with a line that says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.charts import ChartError, environment, of_kind, render
from tests.deploy.values_matrix import EVERY_DEPENDENCY, KEDA, MONITORING, NETWORK, SECRETS

Refusal = tuple[dict[str, Any], str]


def _config(**settings: Any) -> dict[str, Any]:
    return {"config": settings}


def _policy(**parts: Any) -> dict[str, Any]:
    return {"networkPolicy": NETWORK["networkPolicy"] | parts}


_REDIS_PEERS: dict[str, Any] = {"to": [{"podSelector": {}}]}
_SECRETS: list[Refusal] = [
    (
        _config(redis={"url": "redis://:hunter2@redis"}),
        "under `secrets` write `redis.url: {name: …, key: …}`",
    ),
    (
        _config(redis={"url": "redis://redis?db=1&password=hunter2"}),
        "config.redis.url holds a user, a password",
    ),
    (_config(store="https://qdrant?api_key=hunter2"), "config.store holds a user, a password or a key"),
    (_config(llm={"api_key": "hunter2"}), "under `secrets` write `llm.api_key: {name: …, key: …}`"),
]
_SETTINGS: list[Refusal] = [
    (_config(store="/data"), 'config.store "/data" is no address of a Qdrant server, as http://qdrant:6333'),
    (_config(sink="kafka:news.posts"), "config.source and config.sink are both kafka:news.posts"),
    (_config(outcomes="kafka:news.posts.dead"), "config.outcomes and config.dead_letters are both"),
    (_config(llm={"base_url": "https://llm/v1"}), "config.llm.model is not set: name the model"),
    ({"secrets": {"llm.base_url": {"name": "llm", "key": "url"}}}, "config.llm.model is not set"),
    (_config(media_store="/var/lib/entityclip/media"), "is a folder that goes with its pod: name a bucket"),
    (_config(media_store="file:///media"), "config.media_store /media is a folder that goes with its pod"),
    (
        _config(media_store="/mediastore") | {"extraVolumeMounts": [{"name": "m", "mountPath": "/media"}]},
        "config.media_store /mediastore is a folder",
    ),
]
_PODS: list[Refusal] = [
    ({"model": {"path": "models/a"}}, 'model.path "models/a" is neither tiny, which is in the image, nor'),
    ({"nextModel": {"path": "/weights/a"}}, 'nextModel.path "/weights/a" is neither tiny'),
    ({"device": "cuda", "image": {"tag": "0.1.0"}}, "image.tag 0.1.0 is not an image for GPUs"),
    ({"resources": {"limits": {"memory": "1000Mi"}}}, "resources.limits.memory 1000Mi is too little"),
    ({"resources": {"limits": {"memory": 1073741823}}}, "resources.limits.memory 1073741823 is too little"),
    ({"podDisruptionBudget": {"maxUnavailable": 0}}, "no node with a worker could be drained"),
    ({"podDisruptionBudget": {"maxUnavailable": "0%"}}, "no node with a worker could be drained"),
]
_KEDA: list[Refusal] = [
    (
        KEDA | _config(kafka={"security_protocol": "SSL", "ssl_ca_file": "/x"}),
        "KEDA cannot read the files of config.kafka.ssl_*_file: name them by kafkaTls",
    ),
    (
        KEDA | _config(kafka={"security_protocol": "SSL", "ssl_check_hostname": False}),
        "KEDA checks all of a certificate or nothing of it",
    ),
    (
        {"autoscaling": {"enabled": True, "minReplicas": 0}} | _config(kafka={"auto_offset_reset": "latest"}),
        "autoscaling.activationLagThreshold 10 with minReplicas 0 and config.kafka.auto_offset_reset latest",
    ),
]
_NETWORK: list[Refusal] = [
    (_policy(dns={"to": []}), "networkPolicy.dns.to is empty, which would mean everybody"),
    (
        _policy(metricsFrom=[]) | MONITORING,
        "networkPolicy.metricsFrom is empty, which keeps a Prometheus in another namespace out",
    ),
    (
        NETWORK | _config(kafka={"bootstrap_servers": "kafka:9092,kafka:9094"}),
        "config.kafka.bootstrap_servers is on port 9094, but networkPolicy.kafka.ports lets 9092 and 9093",
    ),
    (
        NETWORK | _config(store="https://qdrant.example.org:443"),
        "config.store is on port 443, but networkPolicy.store.ports lets 6333 through: add it",
    ),
    (
        _policy(redis=_REDIS_PEERS) | _config(redis={"url": "rediss://redis.example.org:6380/0"}),
        "config.redis.url is on port 6380, but networkPolicy.redis.ports lets 6379 through",
    ),
    (
        EVERY_DEPENDENCY | _config(llm={"base_url": "http://llm/v1", "model": "a"}),
        "config.llm.base_url is on port 80, but networkPolicy.llm.ports lets 443 through",
    ),
]


@pytest.mark.parametrize(
    ("values", "line"),
    [*_SECRETS, *_SETTINGS, *_PODS, *_KEDA, *_NETWORK],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_what_would_fail_in_a_cluster_is_refused_with_a_reason(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ChartError) as caught:
        render(values)
    assert line in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        _policy(redis=_REDIS_PEERS) | _config(redis={"url": "redis://redis"}),
        _policy(redis={"to": [{"podSelector": {}}], "ports": [6380]})
        | _config(redis={"url": "redis://[fd00::7]:6380"}),
        NETWORK | _config(store="https://qdrant.example.org", redis={"url": "unix:///run/redis.sock"}),
        NETWORK | _config(kafka={"bootstrap_servers": "[fd00::7]:9093,kafka"}),
        _policy(store={"to": [{"podSelector": {}}], "ports": [8443]})
        | {"secrets": {"store": {"name": "qdrant", "key": "url"}}},
    ],
    ids=["default of redis", "ipv6", "default of the store", "default of kafka", "address in a secret"],
)
def test_a_port_that_is_let_through_or_cannot_be_known_is_taken(values: dict[str, Any]) -> None:
    assert of_kind(render(values), "NetworkPolicy")


@pytest.mark.parametrize(
    "values",
    [
        {"image": {"tag": "7-cuda"}},
        {"image": {"repository": "team/entityclip-cuda", "tag": "3f2a1bc"}},
        {"image": {"tag": "7", "digest": f"sha256:{'0a' * 32}"}},
    ],
    ids=["by its tag", "by its name", "by digest"],
)
def test_an_own_image_for_gpus_is_taken(values: dict[str, Any]) -> None:
    assert of_kind(render({"device": "cuda"} | values), "Deployment")


def test_a_folder_for_thumbnails_may_lie_on_any_volume_that_is_mounted() -> None:
    mount = {"name": "media", "mountPath": "/media/"}
    values = _config(media_store="file:///media/small") | {
        "extraVolumes": [{"name": "media", "persistentVolumeClaim": {"claimName": "media"}}],
        "extraVolumeMounts": [mount],
    }
    assert environment(render(values))["ENTITYCLIP_MEDIA_STORE"] == "file:///media/small"


def test_from_nothing_to_the_newest_records_a_worker_wakes_at_once() -> None:
    scaling = {"enabled": True, "minReplicas": 0, "activationLagThreshold": 0}
    manifests = render({"autoscaling": scaling} | _config(kafka={"auto_offset_reset": "latest"}))
    assert of_kind(manifests, "ScaledObject")


def test_a_model_that_is_named_is_enough_for_an_address_from_a_secret() -> None:
    secret = {"secrets": {"llm.base_url": {"name": "llm", "key": "url"}}}
    values = secret | _config(llm={"model": SECRETS["config"]["llm"]["model"]})
    assert "ENTITYCLIP_LLM__BASE_URL" not in environment(render(values))


def test_a_relative_folder_for_thumbnails_lies_on_the_claim_of_home() -> None:
    values = _config(media_store="media") | {"home": {"existingClaim": "home"}}
    assert of_kind(render(values), "Deployment")

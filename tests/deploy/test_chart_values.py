"""Wrong values are refused, with a line that names what is wrong and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.generate.schema import MOVED
from tests.deploy.charts import CHART, ChartError, render
from tests.deploy.values_matrix import NETWORK, SASL_KAFKA, TLS

_SCHEMA = [
    ({"replicas": 3}, "at '': additional properties 'replicas' not allowed"),
    ({"config": {"kafka": {"bootstrap": "x"}}}, "at '/config/kafka': additional properties 'bootstrap'"),
    ({"config": {"match": {"top_k": "many"}}}, "at '/config/match/top_k': got string, want integer"),
    ({"config": {"match": {"top_k": 0}}}, "at '/config/match/top_k': minimum: got 0, want 1"),
    ({"config": {"retention_days": "90d"}}, "at '/config/retention_days': got string, want null or number"),
    ({"config": {"log_level": "loud"}}, "at '/config/log_level': value must be one of"),
    ({"config": {"start_at": "yesterday"}}, "at '/config/start_at': 'yesterday' does not match pattern"),
    (
        {"config": {"start_at": "2026-05-01T08:00:00"}},
        "at '/config/start_at': '2026-05-01T08:00:00' does not",
    ),
    ({"config": {"source": "file:posts.jsonl"}}, "at '/config/source': 'file:posts.jsonl' does not match"),
    ({"config": {"sink": "file:matches.jsonl"}}, "at '/config/sink': 'file:matches.jsonl' does not match"),
    ({"config": {"kafka": None}}, "at '/config': missing property 'kafka'"),
    ({"config": None}, "at '': missing property 'config'"),
    ({"networkPolicy": {"dns": None}}, "at '/networkPolicy': missing property 'dns'"),
    ({"networkPolicy": {"kafka": {"to": [{"app": "kafka"}]}}}, "at '/networkPolicy/kafka/to/0': additional"),
    (
        {"networkPolicy": {"metricsFrom": [{"ipBlock": {"cidr": "10.0.0.1"}}]}},
        "at '/networkPolicy/metricsFrom/0/ipBlock/cidr': '10.0.0.1' does not match pattern",
    ),
    ({"listenAddress": "127.0.0.1"}, "at '/listenAddress': value must be one of '0.0.0.0', '::'"),
    ({"replicaCount": "three"}, "at '/replicaCount': got string, want integer"),
    ({"device": "gpu"}, "at '/device': value must be one of 'cpu', 'cuda'"),
    ({"shutdownMarginSeconds": 5}, "at '/shutdownMarginSeconds': minimum: got 5, want 10"),
    ({"resources": {"limits": {"cpu": None}}}, "at '/resources/limits': missing property 'cpu'"),
    ({"secrets": {"llm.key": {"name": "a", "key": "b"}}}, "at '/secrets': additional properties 'llm.key'"),
    ({"secrets": {"llm.api_key": "sk-1"}}, "at '/secrets/llm.api_key': got string, want object"),
    ({"autoscaling": {"lagThreshold": 0}}, "at '/autoscaling/lagThreshold': minimum: got 0, want 1"),
]
_TEMPLATES = [
    ({"replicaCount": 7}, "replicaCount 7 is more than config.kafka.partitions 6"),
    (
        {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}},
        "autoscaling.minReplicas 5 is more than autoscaling.maxReplicas 2",
    ),
    (
        {"autoscaling": {"enabled": True, "minReplicas": 4}, "config": {"kafka": {"partitions": 3}}},
        "autoscaling.minReplicas 4 is more than config.kafka.partitions 3",
    ),
    (
        {"autoscaling": {"enabled": True, "fallbackReplicas": 7, "maxReplicas": 9}},
        "autoscaling.fallbackReplicas 7 is more than may run, 6",
    ),
    (
        {"config": {"redis": {"url": "redis://a"}}, "secrets": {"redis.url": {"name": "a", "key": "b"}}},
        "config.redis.url and secrets.redis.url name the same setting",
    ),
    ({"config": {"kafka": SASL_KAFKA}}, "under `secrets` write `kafka.sasl_password: {name: …, key: …}`"),
    ({"config": {"kafka": {"security_protocol": "SASL_SSL"}}}, "set config.kafka.sasl_mechanism"),
    ({"kafkaTls": {"secretName": "a"}}, "kafkaTls.secretName needs config.kafka.security_protocol SSL"),
    (
        TLS | {"config": {"kafka": {"security_protocol": "SSL", "ssl_ca_file": "/x"}}},
        "kafkaTls.secretName and config.kafka.ssl_*_file name the same thing",
    ),
    (TLS | {"kafkaTls": {"secretName": "a", "cert": "tls.crt"}}, "kafkaTls.cert and kafkaTls.key belong"),
    ({"extraEnv": [{"name": "ENTITYCLIP_ALIAS", "value": "x"}]}, "extraEnv: ENTITYCLIP_ALIAS belongs in"),
    ({"model": {"path": "/models/a"}}, "model.path is /models/a, but nothing is mounted at /models"),
    (
        {"model": {"path": "/models/a", "existingClaim": "b", "volumeImage": "c"}},
        "model.existingClaim and model.volumeImage: a model comes from one of them",
    ),
    ({"nextModel": {"path": "tiny"}}, "nextModel.path and model.path are the same"),
    ({"networkPolicy": {"enabled": True}}, "networkPolicy.kafka.to is empty"),
    (NETWORK | {"config": {"redis": {"url": "redis://a"}}}, "networkPolicy.redis.to is empty"),
    ({"image": {"tag": "latest"}}, "image.tag latest may be anything"),
    ({"updateStrategy": {"type": "Recreate"}}, "set it to null with Recreate"),
    ({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}}, "so no pod could ever be replaced"),
    (
        {"prometheusRule": {"enabled": True, "disabled": ["EntityclipNothing"]}},
        "prometheusRule.disabled: there is no alert EntityclipNothing",
    ),
]


@pytest.mark.parametrize(("values", "line"), _SCHEMA, ids=lambda part: part if isinstance(part, str) else "")
def test_the_schema_refuses_and_names_the_path(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ChartError) as caught:
        render(values)
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("values", "line"), _TEMPLATES, ids=lambda part: part if isinstance(part, str) else ""
)
def test_values_that_contradict_each_other_are_refused_with_a_reason(
    values: dict[str, Any], line: str
) -> None:
    with pytest.raises(ChartError) as caught:
        render(values)
    assert line in str(caught.value)


@pytest.mark.parametrize("path", MOVED)
def test_a_setting_that_belongs_elsewhere_is_refused_and_says_where(path: str) -> None:
    section, _, name = path.rpartition(".")
    value: Any = {"port": 1} if path == "metrics" else "2026-05-01T08:00:00Z"
    with pytest.raises(ChartError) as caught:
        render({"config": {section: {name: value}} if section else {name: value}})
    assert f"config.{path} cannot be set here: " in str(caught.value)


@pytest.mark.parametrize("section", ["", "probes", "autoscaling", "networkPolicy"])
def test_every_section_is_one_that_the_schema_misses_where_it_is_left_empty(section: str) -> None:
    schema = json.loads(Path(CHART, "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load(Path(CHART, "values.yaml").read_text(encoding="utf-8"))
    if section:
        schema, values = schema["properties"][section], values[section]
    assert {key for key, value in values.items() if isinstance(value, dict)} <= set(
        schema.get("required", ())
    )


def test_every_value_of_the_chart_is_in_its_schema() -> None:
    schema = json.loads(Path(CHART, "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load(Path(CHART, "values.yaml").read_text(encoding="utf-8"))
    assert set(values) | {"global"} == set(schema["properties"])


def test_no_object_of_ours_in_the_schema_takes_unknown_properties() -> None:
    schema = json.loads(Path(CHART, "values.schema.json").read_text(encoding="utf-8"))
    assert [
        place for place, found in _objects(schema, "") if found.get("additionalProperties") is not False
    ] == []


def _objects(schema: Any, place: str) -> list[tuple[str, dict[str, Any]]]:
    """Every part of the schema that names properties."""
    if isinstance(schema, list):
        return [found for item in schema for found in _objects(item, place)]
    if not isinstance(schema, dict):
        return []
    own = [(place, schema)] if isinstance(schema.get("properties"), dict) else []
    return own + [found for key, item in schema.items() for found in _objects(item, f"{place}/{key}")]

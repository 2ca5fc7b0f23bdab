"""What the chart tells Prometheus and Grafana: monitor, rules, dashboard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.charts import CHART, NAMESPACE, RELEASE, of_kind, only, render, rendered
from tests.deploy.values_matrix import MONITORING

OWN_GROUPS = ["entityclip-thresholds", "entityclip-presence"]  # of each release


def test_the_monitor_scrapes_the_service_under_the_name_that_rules_ask_for() -> None:
    manifests = rendered("monitoring")
    monitor = only(manifests, "ServiceMonitor")["spec"]
    service = only(manifests, "Service")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["namespaceSelector"]["matchNames"] == [NAMESPACE]
    assert monitor["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]
    rules = monitor["endpoints"][0]["relabelings"]
    labels = {rule["targetLabel"]: rule.get("replacement") or rule["sourceLabels"] for rule in rules}
    pod = ["__meta_kubernetes_pod_name"]
    assert labels == {"job": "entityclip", "release": RELEASE, "instance": pod}


def test_the_rules_are_those_of_the_file_but_for_what_is_this_releases_own() -> None:
    groups = _groups(MONITORING | {"prometheusRule": {"enabled": True}})
    written = yaml.safe_load(Path(CHART, "files", "rules.yaml").read_text(encoding="utf-8"))["groups"]
    assert [group for group in groups if group["name"] not in OWN_GROUPS] == [
        group for group in written if group["name"] not in OWN_GROUPS
    ]
    assert [group["name"] for group in groups] == [group["name"] for group in written]


def test_of_several_releases_one_brings_the_rules_that_are_for_all() -> None:
    groups = _groups(MONITORING | {"prometheusRule": {"enabled": True, "shared": False}})
    assert [group["name"] for group in groups] == OWN_GROUPS


def test_thresholds_and_the_alert_on_no_worker_ask_for_this_release_alone() -> None:
    ours = f'namespace="{NAMESPACE}", release="{RELEASE}"'
    groups = _groups(MONITORING | {"prometheusRule": {"enabled": True, "shared": False}})
    for rule in (rule for group in groups for rule in group["rules"]):
        selected = re.findall(r"(?:up|entityclip_build_info)(\{[^}]*\})?", rule["expr"])
        assert selected
        assert all(ours in labels for labels in selected), rule["expr"]


def test_without_our_monitor_nothing_is_narrowed_by_labels_that_nobody_sets() -> None:
    groups = _groups({"prometheusRule": {"enabled": True}})
    assert not any("release=" in rule["expr"] for group in groups for rule in group["rules"])


def test_every_alert_gets_the_labels_and_the_runbooks_address() -> None:
    values = {"enabled": True, "alertLabels": {"team": "news"}, "runbookBaseUrl": "https://example.org/"}
    alerts = _alerts({"prometheusRule": values})
    assert alerts
    assert all(alert["labels"]["team"] == "news" for alert in alerts)
    assert all("severity" in alert["labels"] for alert in alerts)
    for alert in alerts:
        link = f"https://example.org/deploy/RUNBOOK.md#{alert['alert'].lower()}"
        assert alert["annotations"]["runbook_url"] == link


def test_a_disabled_alert_is_left_out_and_no_other() -> None:
    every = [alert["alert"] for alert in _alerts({"prometheusRule": {"enabled": True}})]
    values = {"prometheusRule": {"enabled": True, "disabled": [every[0]]}}
    assert [alert["alert"] for alert in _alerts(values)] == every[1:]


@pytest.mark.parametrize(
    ("limit", "expression"),
    [
        ("4Gi", "4 * 1024 ^ 3"),
        ("6500M", "6500 * 1000 ^ 2"),
        ("8589934592", "8589934592"),
        (8589934592, "8589934592"),
    ],
)
def test_the_alert_on_memory_knows_the_limit(limit: str | int, expression: str) -> None:
    values = {"prometheusRule": {"enabled": True}, "resources": {"limits": {"memory": limit}}}
    rules = [rule for group in _groups(values) for rule in group["rules"]]
    found = [rule["expr"] for rule in rules if "worker_memory_limit_bytes:constant" in rule.get("record", "")]
    assert found == [f"{expression} * max by (namespace, release) (entityclip_build_info)"]


def test_the_dashboard_is_the_file_and_found_by_grafana() -> None:
    config = only(rendered("monitoring"), "ConfigMap", "-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    (text,) = config["data"].values()
    assert json.loads(text) == json.loads(Path(CHART, "files", "dashboard.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", ["defaults", "monitoring without rules"])
def test_nothing_of_the_operators_is_installed_unasked(case: str) -> None:
    assert of_kind(rendered(case), "PrometheusRule") == []


def _groups(values: dict[str, Any]) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = only(render(values), "PrometheusRule")["spec"]["groups"]
    return groups


def _alerts(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [rule for group in _groups(values) for rule in group["rules"] if "alert" in rule]


def test_the_dashboard_links_to_the_runbook_where_it_can_be_read() -> None:
    values = MONITORING | {"prometheusRule": {"runbookBaseUrl": "https://example.org/"}}
    (text,) = only(render(values), "ConfigMap", "-dashboard")["data"].values()
    variables = {each["name"]: each for each in json.loads(text)["templating"]["list"]}
    assert variables["runbook"]["current"]["value"] == "https://example.org/deploy/RUNBOOK.md"

"""Every manifest, for many values: valid for Kubernetes, KEDA and Prometheus' operator, and as we want it."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tests.deploy.charts import Manifest, lint, render, rendered
from tests.deploy.policies import POLICIES, Policy
from tests.deploy.validation import KUBERNETES, faults, faults_by_definition, is_foreign
from tests.deploy.values_matrix import (
    CASES,
    EVERY_DEPENDENCY,
    KEDA,
    MONITORING,
    SASL_SSL,
    SECRETS,
    VOLUME_IMAGE,
)

_every_case = pytest.mark.parametrize("case", CASES)
_EVERYTHING_FOREIGN = KEDA | SASL_SSL | MONITORING


@pytest.mark.parametrize(
    "values",
    [{}, _EVERYTHING_FOREIGN, EVERY_DEPENDENCY | SECRETS, VOLUME_IMAGE | {"device": "cuda"}],
    ids=["defaults", "foreign kinds", "every dependency", "gpu and a mounted image"],
)
def test_lint_finds_nothing_in_the_chart(values: dict[str, Any]) -> None:
    assert "0 chart(s) failed" in lint(values)


@_every_case
def test_every_manifest_is_valid_for_every_kubernetes(case: str) -> None:
    found = [
        fault for manifest in rendered(case) for version in KUBERNETES for fault in faults(manifest, version)
    ]
    assert found == []


def test_a_mounted_image_is_valid_where_kubernetes_can_mount_one() -> None:
    manifests = render(VOLUME_IMAGE)
    assert [fault for manifest in manifests for fault in faults(manifest, "1.33")] == []
    assert [fault for manifest in manifests for fault in faults(manifest, "1.29")] != []


@pytest.mark.parametrize(
    "kind", ["ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PrometheusRule"]
)
def test_a_foreign_kind_is_valid_by_its_own_projects_definition(kind: str) -> None:
    manifests = [manifest for manifest in _foreign() if manifest["kind"] == kind]
    assert len(manifests) == 1
    assert faults_by_definition(manifests[0]) == []


@pytest.mark.parametrize("case", [name for name in CASES if name.startswith("keda")])
def test_every_way_of_scaling_is_valid_by_kedas_definition(case: str) -> None:
    foreign = [manifest for manifest in rendered(case) if is_foreign(manifest)]
    assert foreign
    assert [fault for manifest in foreign for fault in faults_by_definition(manifest)] == []


@pytest.mark.parametrize(
    "kind", ["ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PrometheusRule"]
)
def test_a_misspelt_field_of_a_foreign_kind_is_found_by_both_schemas(kind: str) -> None:
    manifest = next(manifest for manifest in _foreign() if manifest["kind"] == kind)
    misspelt = manifest | {"spec": manifest["spec"] | {"maxReplicas": 3}}
    assert faults(misspelt, KUBERNETES[0]) != []
    assert faults_by_definition(misspelt) != []


def test_a_misspelt_field_of_kubernetes_is_found() -> None:
    service = next(manifest for manifest in rendered("defaults") if manifest["kind"] == "Service")
    misspelt = service | {"spec": service["spec"] | {"clusterIp": "None"}}
    assert all(faults(misspelt, version) for version in KUBERNETES)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
def test_every_manifest_keeps_to_the_policy(policy: Policy) -> None:
    broken = [
        f"{case}: {manifest['kind']} {manifest['metadata']['name']}: {fault}"
        for case in CASES
        for manifest in rendered(case)
        for fault in policy(manifest)
    ]
    assert broken == []


@_every_case
def test_no_two_manifests_have_the_same_kind_and_name(case: str) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered(case)]
    assert len(names) == len(set(names))


@functools.cache
def _foreign() -> list[Manifest]:
    return [manifest for manifest in render(_EVERYTHING_FOREIGN) if is_foreign(manifest)]

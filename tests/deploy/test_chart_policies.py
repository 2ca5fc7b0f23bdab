"""Each policy catches a manifest that breaks it: the good one with one thing changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.deploy import policies
from tests.deploy.charts import Manifest

_GOOD_CONTAINER = {
    "name": "worker",
    "image": "entityclip:0.1.0",
    "env": [
        {"name": "ENTITYCLIP_LLM__API_KEY", "valueFrom": {"secretKeyRef": {"name": "llm", "key": "key"}}}
    ],
    "ports": [{"containerPort": 9108}],
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
    "startupProbe": {},
    "readinessProbe": {},
    "livenessProbe": {},
}
_GOOD: Manifest = {
    "kind": "Deployment",
    "metadata": {
        "name": "news",
        "labels": {
            f"app.kubernetes.io/{name}": "x" for name in ("name", "instance", "version", "managed-by")
        },
    },
    "spec": {
        "template": {
            "spec": {
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": policies.UID,
                    "runAsGroup": policies.UID,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [_GOOD_CONTAINER],
                "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
            }
        }
    },
}
_POD = ("spec", "template", "spec")
_CONTAINER = (*_POD, "containers", 0)
_CONTEXT = (*_CONTAINER, "securityContext")

_BAD: list[tuple[policies.Policy, tuple[str | int, ...], Any]] = [
    (policies.non_root, (*_POD, "securityContext", "runAsNonRoot"), False),
    (policies.non_root, (*_POD, "securityContext", "runAsUser"), 0),
    (policies.non_root, (*_POD, "securityContext", "runAsGroup"), 0),
    (policies.non_root, (*_CONTEXT, "runAsUser"), 0),
    (policies.non_root, (*_CONTEXT, "runAsNonRoot"), False),
    (policies.no_escalation, (*_CONTEXT, "allowPrivilegeEscalation"), True),
    (policies.no_escalation, (*_CONTEXT, "privileged"), True),
    (policies.no_capabilities, (*_CONTEXT, "capabilities"), {}),
    (policies.no_capabilities, (*_CONTEXT, "capabilities"), {"drop": ["ALL"], "add": ["NET_ADMIN"]}),
    (policies.read_only_root, (*_CONTEXT, "readOnlyRootFilesystem"), False),
    (policies.seccomp, (*_POD, "securityContext", "seccompProfile", "type"), "Unconfined"),
    (policies.nothing_of_the_host, (*_POD, "hostNetwork"), True),
    (policies.nothing_of_the_host, (*_POD, "hostPID"), True),
    (policies.nothing_of_the_host, (*_POD, "hostIPC"), True),
    (policies.nothing_of_the_host, (*_POD, "volumes"), [{"name": "root", "hostPath": {"path": "/"}}]),
    (policies.nothing_of_the_host, (*_CONTAINER, "ports"), [{"containerPort": 9108, "hostPort": 9108}]),
    (policies.no_token, (*_POD, "automountServiceAccountToken"), True),
    (policies.no_service_links, (*_POD, "enableServiceLinks"), True),
    (policies.bounded, (*_CONTAINER, "resources", "limits"), {"cpu": "1"}),
    (policies.bounded, (*_CONTAINER, "resources", "limits"), {"memory": "1Gi"}),
    (policies.bounded, (*_CONTAINER, "resources", "requests"), {}),
    (policies.bounded, (*_POD, "volumes"), [{"name": "tmp", "emptyDir": {}}]),
    (policies.bounded, (*_POD, "initContainers"), [{"name": "model"}]),
    (policies.probed, (*_POD, "containers"), [_GOOD_CONTAINER, {"name": "second"}]),
    (policies.pinned_image, (*_CONTAINER, "image"), "entityclip"),
    (policies.pinned_image, (*_CONTAINER, "image"), "registry.example.org:5000/entityclip"),
    (policies.pinned_image, (*_CONTAINER, "image"), "entityclip:latest"),
    (policies.secrets_by_reference, (*_CONTAINER, "env"), [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}]),
    (policies.secrets_by_reference, (*_CONTAINER, "env"), [{"name": "URL", "value": "redis://u:p@redis"}]),
    (policies.secrets_by_reference, (*_CONTAINER, "env"), [{"name": "URL", "value": "redis://r?password=x"}]),
    (policies.secrets_by_reference, ("kind",), "Secret"),
    (policies.labelled, ("metadata", "labels"), {}),
]


@pytest.mark.parametrize("policy", policies.POLICIES, ids=lambda policy: policy.__name__)
def test_a_good_manifest_passes(policy: policies.Policy) -> None:
    assert list(policy(_GOOD)) == []


@pytest.mark.parametrize(("policy", "path", "value"), _BAD, ids=lambda part: getattr(part, "__name__", None))
def test_a_bad_manifest_is_caught(policy: policies.Policy, path: tuple[str | int, ...], value: Any) -> None:
    assert list(policy(_changed(path, value))) != []


@pytest.mark.parametrize("path", [(*_POD, "securityContext"), _CONTEXT, (*_CONTAINER, "resources")])
def test_what_is_left_out_is_caught_too(path: tuple[str | int, ...]) -> None:
    assert [fault for policy in policies.POLICIES for fault in policy(_changed(path, {}))] != []


def test_every_policy_is_tried() -> None:
    assert {policy for policy, _, _ in _BAD} == set(policies.POLICIES)


def test_a_mounted_token_of_the_account_is_caught() -> None:
    account = {"kind": "ServiceAccount", "metadata": _GOOD["metadata"]}
    assert list(policies.no_token(account)) != []


def test_a_password_in_a_config_map_is_caught() -> None:
    config = {"kind": "ConfigMap", "metadata": _GOOD["metadata"], "data": {"ENTITYCLIP_LLM__API_KEY": "sk"}}
    assert list(policies.secrets_by_reference(config)) != []


def _changed(path: tuple[str | int, ...], value: Any) -> Manifest:
    manifest = copy.deepcopy(_GOOD)
    place: Any = manifest
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return manifest

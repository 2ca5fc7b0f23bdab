"""One container of a rendered chart, as a kubelet reads it: its probes, its grace period, its environment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PROBES = ("startup", "readiness", "liveness")
_GRACE_S = 30.0  # where a pod names none


@dataclass(frozen=True, slots=True)
class Probe:
    """When an address is asked, and how often it must say the same; the defaults are Kubernetes'."""

    path: str
    port: int
    initial_delay_s: float = 0.0
    period_s: float = 10.0
    timeout_s: float = 1.0
    failure_threshold: int = 3
    success_threshold: int = 1


@dataclass(frozen=True, slots=True)
class Container:
    """One container.

    Args:
        probes: by what they are for: startup, readiness, liveness.
        environment: what could be read off the manifests; what stands in a Secret has `secrets`' value.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    probes: Mapping[str, Probe]
    grace_s: float = _GRACE_S


def worker_container(
    manifests: Sequence[Mapping[str, Any]], secrets: Mapping[str, str] | None = None
) -> Container:
    """The first container of the only Deployment.

    Args:
        secrets: by `NAME/KEY`.
    """
    (deployment,) = (each for each in manifests if each["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    maps = {each["metadata"]["name"]: each["data"] for each in manifests if each["kind"] == "ConfigMap"}
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
    probes = {name: container[f"{name}Probe"] for name in _PROBES if f"{name}Probe" in container}
    return Container(
        command=tuple(container.get("command", ())) + tuple(container.get("args", ())),
        environment=_environment(container, maps, secrets or {}),
        probes={name: _probe(spec, ports) for name, spec in probes.items()},
        grace_s=pod.get("terminationGracePeriodSeconds", _GRACE_S),
    )


def _probe(spec: Mapping[str, Any], ports: Mapping[str, int]) -> Probe:
    get, default = spec["httpGet"], Probe("", 0)
    assert get.get("scheme", "HTTP") == "HTTP", "the status server speaks no TLS"
    return Probe(
        path=get.get("path", "/"),
        port=ports[get["port"]] if isinstance(get["port"], str) else get["port"],
        initial_delay_s=spec.get("initialDelaySeconds", default.initial_delay_s),
        period_s=spec.get("periodSeconds", default.period_s),
        timeout_s=spec.get("timeoutSeconds", default.timeout_s),
        failure_threshold=spec.get("failureThreshold", default.failure_threshold),
        success_threshold=spec.get("successThreshold", default.success_threshold),
    )


def _environment(
    container: Mapping[str, Any], maps: Mapping[str, Mapping[str, str]], secrets: Mapping[str, str]
) -> dict[str, str]:
    environment: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        if "configMapRef" in source:
            environment |= maps[source["configMapRef"]["name"]]
    for entry in container.get("env", ()):
        environment[entry["name"]] = _value(entry, container, secrets)
    return environment


def _value(entry: Mapping[str, Any], container: Mapping[str, Any], secrets: Mapping[str, str]) -> str:
    match entry:
        case {"valueFrom": {"secretKeyRef": {"name": name, "key": key}}}:
            return secrets[f"{name}/{key}"]
        case {"valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}:
            return str(_whole_cores(str(container["resources"]["limits"]["cpu"])))
        case {"valueFrom": {"fieldRef": {"fieldPath": path}}}:
            return str(path).rpartition(".")[2]  # any name does: nothing is looked up by it
        case _:
            return str(entry.get("value", ""))


def _whole_cores(quantity: str) -> int:
    """A quantity of processors, rounded up as Kubernetes does."""
    if quantity.endswith("m"):
        return math.ceil(int(quantity.removesuffix("m")) / 1000)
    return math.ceil(float(quantity))

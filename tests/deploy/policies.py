"""What we ask of every manifest beyond being valid; one function a rule, which yields what breaks it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.deploy.charts import Manifest

Policy = Callable[[Manifest], Iterator[str]]

UID = 10001
_SECRET_WORDS = re.compile(r"password|passwd|secret|token(?!s)|api_?key|credential", re.IGNORECASE)
_URL_WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@|[?&](password|token|key)=", re.IGNORECASE)


def non_root(manifest: Manifest) -> Iterator[str]:
    """Nobody is root, whatever the image says."""
    for pod in _pods(manifest):
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True:
            yield "the pod may run as root"
        if context.get("runAsUser") != UID or context.get("runAsGroup") != UID:
            yield f"the pod does not run as {UID}"
        for container in _containers(pod):
            own = container.get("securityContext", {})
            if own.get("runAsNonRoot") is False or own.get("runAsUser", UID) == 0:
                yield f"{container['name']} may run as root"


def no_escalation(manifest: Manifest) -> Iterator[str]:
    """No process gains rights that its parent does not have."""
    for container in _all_containers(manifest):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{container['name']} may escalate its privileges"
        if context.get("privileged"):
            yield f"{container['name']} is privileged"


def no_capabilities(manifest: Manifest) -> Iterator[str]:
    """All are dropped, none is added."""
    for container in _all_containers(manifest):
        capabilities = container.get("securityContext", {}).get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            yield f"{container['name']} keeps capabilities"


def read_only_root(manifest: Manifest) -> Iterator[str]:
    """Only volumes are written."""
    for container in _all_containers(manifest):
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{container['name']} can write its root file system"


def seccomp(manifest: Manifest) -> Iterator[str]:
    """The runtime's filter of system calls is on."""
    for pod in _pods(manifest):
        if pod.get("securityContext", {}).get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield "the pod has no seccomp profile"


def nothing_of_the_host(manifest: Manifest) -> Iterator[str]:
    """Neither its namespaces nor its files and ports."""
    for pod in _pods(manifest):
        yield from (f"the pod has {name}" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
        yield from (f"volume {v['name']} is of the host" for v in pod.get("volumes", []) if "hostPath" in v)
        for container in _containers(pod):
            if any("hostPort" in port for port in container.get("ports", [])):
                yield f"{container['name']} takes a port of the host"


def no_token(manifest: Manifest) -> Iterator[str]:
    """Whoever takes the worker over cannot speak to Kubernetes."""
    for pod in _pods(manifest):
        if pod.get("automountServiceAccountToken") is not False:
            yield "the pod gets a token of its service account"
    if manifest["kind"] == "ServiceAccount" and manifest.get("automountServiceAccountToken") is not False:
        yield "the account's token is mounted"


def no_service_links(manifest: Manifest) -> Iterator[str]:
    """A Service `entityclip-x` would become ENTITYCLIP_X_…, a setting that the worker does not know."""
    for pod in _pods(manifest):
        if pod.get("enableServiceLinks") is not False:
            yield "the pod gets variables of the namespace's Services"


def bounded(manifest: Manifest) -> Iterator[str]:
    """Every container asks for processor and memory and has a limit of both; empty volumes have a size."""
    for container in _all_containers(manifest):
        resources = container.get("resources", {})
        for kind in ("requests", "limits"):
            for name in ("cpu", "memory"):
                if name not in resources.get(kind, {}):
                    yield f"{container['name']} has no {kind}.{name}"
    for pod in _pods(manifest):
        for volume in pod.get("volumes", []):
            if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
                yield f"volume {volume['name']} may fill the node's disk"


def probed(manifest: Manifest) -> Iterator[str]:
    """What runs for ever is asked whether it has started, is ready, is alive."""
    if manifest["kind"] != "Deployment":
        return
    for container in manifest["spec"]["template"]["spec"]["containers"]:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe not in container:
                yield f"{container['name']} has no {probe}"


def pinned_image(manifest: Manifest) -> Iterator[str]:
    """A tag that says what it is, or a digest."""
    for container in _all_containers(manifest):
        image = container["image"]
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and tag in ("", "latest"):
            yield f"{container['name']} runs {image}, which may be anything"


def secrets_by_reference(manifest: Manifest) -> Iterator[str]:
    """No secret is written out, neither in a variable nor in a ConfigMap; and none is made here."""
    if manifest["kind"] == "Secret":
        yield "a Secret is rendered from values"
    variables = {
        item["name"]: item["value"]
        for container in _all_containers(manifest)
        for item in container.get("env", [])
        if "value" in item
    }
    if manifest["kind"] == "ConfigMap":
        variables |= {name: text for name, text in manifest["data"].items() if "." not in name}
    for name, text in variables.items():
        if _SECRET_WORDS.search(name) or _URL_WITH_PASSWORD.search(text):
            yield f"{name} is written out"


def labelled(manifest: Manifest) -> Iterator[str]:
    """Whose it is can be read off."""
    labels = manifest["metadata"].get("labels", {})
    for name in ("name", "instance", "version", "managed-by"):
        if f"app.kubernetes.io/{name}" not in labels:
            yield f"it has no label app.kubernetes.io/{name}"


POLICIES: tuple[Policy, ...] = (
    non_root,
    no_escalation,
    no_capabilities,
    read_only_root,
    seccomp,
    nothing_of_the_host,
    no_token,
    no_service_links,
    bounded,
    probed,
    pinned_image,
    secrets_by_reference,
    labelled,
)


def _pods(manifest: Manifest) -> Iterator[dict[str, Any]]:
    if manifest["kind"] == "Pod":
        yield manifest["spec"]
    elif "template" in manifest.get("spec", {}):
        yield manifest["spec"]["template"]["spec"]


def _containers(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from pod.get("initContainers", [])
    yield from pod["containers"]


def _all_containers(manifest: Manifest) -> Iterator[dict[str, Any]]:
    for pod in _pods(manifest):
        yield from _containers(pod)

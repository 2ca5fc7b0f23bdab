"""Renders the Helm chart, as `helm template` does: nothing is installed and no cluster is asked."""

from __future__ import annotations

import functools
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.tools import HELM, run
from tests.deploy.values_matrix import CASES

CHART = Path(__file__).parents[2] / "deploy" / "chart"
RELEASE, NAMESPACE = "news", "matching"

Manifest = dict[str, Any]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it


class ChartError(Exception):
    """Helm refused the values; the message is what it printed."""


def render(
    values: Mapping[str, Any] | None = None, *sets: str, tests: bool = True, release: str = RELEASE
) -> list[Manifest]:
    """The manifests of the chart with these values over its own.

    Args:
        values: as in a values file.
        sets: as after `--set`.
        tests: those of `helm test` too.

    Raises:
        ChartError: helm refused them.
    """
    options = [f"--set={assignment}" for assignment in sets]
    if not tests:
        options.append("--skip-tests")
    text = _helm("template", values, [release, str(CHART), f"--namespace={NAMESPACE}", *options])
    return [manifest for manifest in yaml.load_all(text, Loader=_LOADER) if manifest]


@functools.cache
def rendered(case: str) -> list[Manifest]:
    """The manifests of one case of `tests.deploy.values_matrix`, rendered once; do not change them."""
    return render(CASES[case])


def lint(values: Mapping[str, Any] | None = None) -> str:
    """What `helm lint --strict` prints.

    Raises:
        ChartError: it found something.
    """
    return _helm("lint", values, [str(CHART), "--strict", f"--namespace={NAMESPACE}"])


def notes(values: Mapping[str, Any] | None = None) -> str:
    """What `helm install` tells the operator.

    Raises:
        ChartError: helm refused the values.
    """
    options = [RELEASE, str(CHART), f"--namespace={NAMESPACE}", "--dry-run=client"]
    return _helm("install", values, options).partition("\nNOTES:\n")[2]


def only(manifests: Sequence[Manifest], kind: str, name: str = "") -> Manifest:
    """The one manifest of this kind; of several, the one whose name ends so."""
    found = of_kind(manifests, kind)
    named = [manifest for manifest in found if manifest["metadata"]["name"].endswith(name)]
    assert len(named) == 1, f"{kind} {name}: {[manifest['metadata']['name'] for manifest in found]}"
    return named[0]


def of_kind(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    """All manifests of this kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def pod_spec(manifests: Sequence[Manifest]) -> dict[str, Any]:
    """Of the worker's pods."""
    spec: dict[str, Any] = only(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(manifests: Sequence[Manifest]) -> dict[str, Any]:
    """The worker's own container."""
    found: dict[str, Any] = pod_spec(manifests)["containers"][0]
    return found


def environment(manifests: Sequence[Manifest]) -> dict[str, str]:
    """The variables of the worker's container that are given by value; those from a Secret are not."""
    configured: dict[str, str] = dict(only(manifests, "ConfigMap", "-config")["data"])
    given = {item["name"]: item["value"] for item in container(manifests)["env"] if "value" in item}
    return configured | given


def _json(values: Mapping[str, Any]) -> str:
    """With characters escaped that JSON has no objection to, and YAML reads as line breaks or not at all."""
    text = json.dumps(values, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _helm(command: str, values: Mapping[str, Any] | None, arguments: Sequence[str]) -> str:
    with tempfile.TemporaryDirectory(prefix="entityclip-chart-") as folder:
        # JSON is YAML that everybody reads alike: PyYAML would leave 1e3 unquoted, a number to helm
        file = Path(folder, "values.json")
        file.write_text(_json(dict(values or {})), encoding="utf-8")
        done = run(HELM, command, *arguments, f"--values={file}")
    if done.returncode:
        raise ChartError(done.stderr.strip() or done.stdout.strip())
    return done.stdout

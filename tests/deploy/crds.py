"""The custom resource definitions of KEDA and of the Prometheus operator, as their own modules ship them.

`python -m tests.deploy.tools` fetches them from the Go module proxy once, along with the tools.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kafka.broker import cache_folder

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Definition:
    """One definition, in a file of a Go module."""

    kind: str
    module: str
    version: str
    file: str

    @property
    def name(self) -> str:
        """What it is called where tools are built."""
        return f"definition of {self.kind}"

    @property
    def path(self) -> Path:
        """Where it lies once it was fetched."""
        return cache_folder() / "crds" / f"{self.kind.lower()}-{self.version}.yaml"

    def build(self) -> None:
        """Copy it out of its module, unless it is there.

        Raises:
            subprocess.CalledProcessError: go says why.
            FileNotFoundError: there is no go.
        """
        if self.path.exists():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        command = ["go", "mod", "download", "-json", f"{self.module}@{self.version}"]
        with tempfile.TemporaryDirectory(dir=self.path.parent) as folder:
            done = subprocess.run(command, check=True, cwd=folder, capture_output=True, text=True)
            copy = Path(folder, "copy")
            shutil.copyfile(Path(json.loads(done.stdout)["Dir"], self.file), copy)
            os.replace(copy, self.path)  # so that nobody ever finds half of it

    def schema(self) -> Schema:
        """Its JSON Schema, strict; the test is skipped where it was not fetched."""
        if not self.path.exists():
            pytest.skip(f"{self.kind} {self.version} is not there: python -m tests.deploy.tools (needs go)")
        return _schema(self.path)


_KEDA = ("github.com/kedacore/keda/v2", "v2.21.0", "config/crd/bases/keda.sh_")
_OPERATOR = (
    "github.com/prometheus-operator/prometheus-operator",
    "v0.85.0",
    "example/prometheus-operator-crd/monitoring.coreos.com_",
)
CRDS = tuple(
    Definition(kind, module, version, f"{prefix}{kind.lower()}s.yaml")
    for kind, (module, version, prefix) in {
        "ScaledObject": _KEDA,
        "TriggerAuthentication": _KEDA,
        "ServiceMonitor": _OPERATOR,
        "PrometheusRule": _OPERATOR,
    }.items()
)


@functools.cache
def _schema(path: Path) -> Schema:
    definition = yaml.safe_load(path.read_text(encoding="utf-8"))
    served = [version for version in definition["spec"]["versions"] if version["served"]]
    schema: Schema = strict(served[-1]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def strict(schema: Any) -> Any:
    """Of an OpenAPI schema: unknown properties are refused, as kubectl's strict validation does.

    A value that may be an integer or a string, and one that may be null, are said as JSON Schema says them.
    """
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    if schema.get("nullable") is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made

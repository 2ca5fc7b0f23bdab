"""Is a manifest what Kubernetes, KEDA and the Prometheus operator expect? No cluster is asked."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import kubernetes_validate
from jsonschema import Draft202012Validator

from tests.deploy.charts import Manifest
from tests.deploy.crds import CRDS

# The oldest that the chart supports, and the newest that there are schemas of.
KUBERNETES = ("1.29", "1.37")

_OWN = Path(__file__).parent / "schemas"
_FOREIGN = {definition.kind: definition for definition in CRDS}


def faults(manifest: Manifest, version: str) -> list[str]:
    """What is wrong with it in this version of Kubernetes; unknown fields are."""
    return list(_faults(json.dumps(manifest), version))


@functools.cache  # many cases have the same Service, and so on
def _faults(text: str, version: str) -> Sequence[str]:
    manifest = json.loads(text)
    kind = manifest["kind"]
    if kind in _FOREIGN:
        return _against(_own(kind), manifest)
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        place = ".".join(map(str, error.absolute_path))
        return [f"{kind} {place}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    return []


def faults_by_definition(manifest: Manifest) -> list[str]:
    """What is wrong by the definition that the kind's own project ships; skipped where it is not there."""
    return _against(Draft202012Validator(_FOREIGN[manifest["kind"]].schema()), manifest)


def is_foreign(manifest: Manifest) -> bool:
    """Whether its kind is none of Kubernetes' own."""
    return manifest["kind"] in _FOREIGN


@functools.cache
def _own(kind: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((_OWN / f"{kind.lower()}.json").read_text(encoding="utf-8")))


def _against(validator: Draft202012Validator, manifest: Manifest) -> list[str]:
    return [
        f"{manifest['kind']} {error.json_path}: {error.message}" for error in validator.iter_errors(manifest)
    ]

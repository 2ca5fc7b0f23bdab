"""One command as a Job: it has what the worker has, and nothing takes it for a worker."""

from __future__ import annotations

import pytest

from tests.deploy.charts import Manifest, container, of_kind, only, pod_spec, render
from tests.deploy.values_matrix import MUTUAL_TLS, NETWORK, SECRETS, Values

ARGUMENTS = ["migrate", "backfill", "--to", "/models/new"]
JOB: Values = {"job": {"args": ARGUMENTS}}
_SHARED = ("image", "env", "envFrom", "volumeMounts", "resources", "securityContext")


def job_pod(manifests: list[Manifest]) -> Manifest:
    template: Manifest = only(manifests, "Job")["spec"]["template"]
    return template


def test_there_is_no_job_without_a_command() -> None:
    assert not of_kind(render(), "Job")


def test_a_job_runs_the_command_that_it_is_given() -> None:
    (command,) = job_pod(render(JOB))["spec"]["containers"]
    assert command["args"] == ARGUMENTS


@pytest.mark.parametrize("values", [SECRETS, MUTUAL_TLS, {"device": "cuda"}], ids=["secrets", "tls", "gpu"])
def test_a_job_has_the_settings_secrets_volumes_and_resources_of_the_worker(values: Values) -> None:
    manifests = render(values | JOB)
    pod, worker = job_pod(manifests)["spec"], container(manifests)
    assert {key: pod["containers"][0][key] for key in _SHARED} == {key: worker[key] for key in _SHARED}
    assert pod["volumes"] == pod_spec(manifests)["volumes"]


def test_no_service_and_no_deployment_takes_a_job_for_a_worker() -> None:
    manifests = render(JOB)
    labels = job_pod(manifests)["metadata"]["labels"].items()
    assert not only(manifests, "Service")["spec"]["selector"].items() <= labels
    assert not only(manifests, "Deployment")["spec"]["selector"]["matchLabels"].items() <= labels


def test_a_job_has_the_labels_and_annotations_that_pods_are_to_have() -> None:
    given = {"podLabels": {"mesh": "off", "team": "a"}, "podAnnotations": {"scrub": "yes"}}
    metadata = job_pod(render(JOB | given | {"commonLabels": {"team": "b"}}))["metadata"]
    assert metadata["labels"]["mesh"] == "off"
    assert metadata["labels"]["team"] == "b"
    assert metadata["annotations"] == {"scrub": "yes"}


def test_the_network_policy_is_that_of_the_worker() -> None:
    manifests = render(NETWORK | JOB)
    selected = only(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items()
    assert selected <= job_pod(manifests)["metadata"]["labels"].items()


def test_a_command_that_failed_is_not_started_again_by_itself() -> None:
    job = only(render(JOB), "Job")["spec"]
    assert job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_a_release_with_a_long_name_gives_a_name_that_kubernetes_takes() -> None:
    assert len(only(render(JOB, release="r" * 53), "Job")["metadata"]["name"]) <= 63

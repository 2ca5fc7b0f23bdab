"""The chart's pod on this machine, beside a real Kafka, an LLM endpoint and a store that can be slow."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.charts import render
from tests.deploy.pods import Container, worker_container
from tests.deploy.slow_store import SlowStore
from tests.fault.cluster import DEAD, POSTS, Cluster, repeats
from tests.kafka.broker import BrokerUnavailable
from tests.ports import free_port

HANGING_WORKER = (sys.executable, "-m", "tests.deploy.hanging_worker")
START_S = 1800
READY_S = 90.0  # that a start may take on a machine that is busy with other things


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(Cluster(tmp_path_factory.mktemp("cluster"), redis=False)) as cluster:
        yield cluster


@contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster; the tests are skipped where it has no broker."""
    with ExitStack() as stack:
        try:
            stack.enter_context(cluster)
        except BrokerUnavailable as missing:
            pytest.skip(str(missing))
        yield cluster


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SlowStore]:
    with SlowStore(tmp_path / "store") as store:
        yield store


def pod(
    cluster: Cluster, store: SlowStore, config: dict[str, Any] | None = None, **variables: str
) -> Container:
    """The chart's pod with these settings of the worker, moved onto this machine."""
    startup = {"budgetSeconds": START_S}  # time runs faster here, and the worker does not
    container = worker_container(render({"config": config or {}, "probes": {"startup": startup}}))
    port = free_port()
    here = {
        "ENTITYCLIP_KAFKA__BOOTSTRAP_SERVERS": cluster.broker.bootstrap,
        "ENTITYCLIP_STORE": store.url,
        "ENTITYCLIP_METRICS__ADDRESS": "127.0.0.1",
        "ENTITYCLIP_METRICS__PORT": str(port),
        "ENTITYCLIP_ENCODE__PRECISION": "fp32",  # nothing is tried, which makes each start quicker
        "OMP_NUM_THREADS": "1",
    }
    return replace(
        container,
        environment={**container.environment, **here, **variables},
        probes={name: replace(probe, port=port) for name, probe in container.probes.items()},
    )


def posts(name: str, count: int) -> list[dict[str, Any]]:
    return [{"id": f"{name}-{number}", "text": f"Mayor {number} of Lyon speaks."} for number in range(count)]


def all_done(cluster: Cluster) -> None:
    """Every record of the topic was answered once, and is committed."""
    outcomes = cluster.outcomes()
    assert len(outcomes) - repeats(outcomes) == len(cluster.records(POSTS))
    assert repeats(outcomes) == 0
    assert sum(cluster.committed().values()) == len(outcomes)
    assert cluster.records(DEAD) == []

"""The chart's probes and its grace period, with the real worker: slow start, hang, SIGTERM under load."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.charts import render
from tests.deploy.hanging_worker import HANG, ONCE_VARIABLE, TRIAL_VARIABLE
from tests.deploy.kubelet import Kubelet
from tests.deploy.pods import Container, worker_container
from tests.deploy.slow_store import FOR_EVER_S, SlowStore
from tests.fault.cluster import DEAD, POSTS, Cluster, repeats, until
from tests.kafka.broker import BrokerUnavailable, jars_folder
from tests.ports import free_port
from worker.errors import ExitCode

HANGING_WORKER = (sys.executable, "-m", "tests.deploy.hanging_worker")
START_S = 1800
READY_S = 90.0  # that a start may take on a machine that is busy with other things


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    try:
        jars_folder()
    except BrokerUnavailable as missing:
        pytest.skip(str(missing))
    with Cluster(tmp_path_factory.mktemp("cluster"), redis=False) as cluster:
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


def test_sigterm_under_load_finishes_within_the_grace_period(
    cluster: Cluster, store: SlowStore, tmp_path: Path
) -> None:
    assert cluster.llm is not None
    cluster.llm.behave("slow", seconds=1.0)
    llm = {"base_url": cluster.llm.url, "concurrency": 8}
    loaded = pod(cluster, store, {"llm": llm, "drain_deadline_s": 4})
    with Kubelet(loaded, tmp_path / "log", seconds_each=0.05) as kubelet:
        kubelet.wait_for("ready", READY_S)
        cluster.produce(posts("load", 100), spread=True)
        until(lambda: cluster.llm and cluster.llm.count > 8, 60, "no load")
        end = kubelet.stop()
        assert (end.status, end.sent) == (0, "SIGTERM")
        assert "draining" in kubelet.wait_for("unready", 0).detail
    cluster.llm.behave("ok")
    outcomes = cluster.outcomes()
    assert repeats(outcomes) == 0
    assert 0 < sum(cluster.committed().values()) == len(outcomes) < len(cluster.records(POSTS))


def test_a_start_that_takes_longer_than_liveness_allows_is_waited_for(
    cluster: Cluster, store: SlowStore, tmp_path: Path
) -> None:
    store.answer_s = 0.15  # and the worker asks it some 25 times
    with Kubelet(pod(cluster, store), tmp_path / "log", seconds_each=0.1) as kubelet:
        ready = kubelet.wait_for("ready", READY_S)
        liveness = kubelet.container.probes["liveness"]
        assert ready.at_s > liveness.period_s * liveness.failure_threshold * 0.1
        assert kubelet.kinds == ["started", "ready"]
        cluster.wait_for_outcomes(len(cluster.records(POSTS)), READY_S)  # with what the stop before left
        assert kubelet.stop().status == 0
    all_done(cluster)


def test_a_hanging_encoder_ends_in_a_restart_that_loses_nothing(
    cluster: Cluster, store: SlowStore, tmp_path: Path
) -> None:
    config = {"health": {"stalled_s": 2, "dead_s": 5}, "drain_deadline_s": 2}
    hung = {ONCE_VARIABLE: str(tmp_path / "hung")}
    hanging = pod(cluster, store, config, **hung)
    with Kubelet(hanging, tmp_path / "log", seconds_each=0.1, entry=HANGING_WORKER) as kubelet:
        kubelet.wait_for("ready", READY_S)
        cluster.produce([*posts("hang", 6), {"id": "hang", "text": HANG}])
        assert "encode has been inside one call" in kubelet.wait_for("unready", 30).detail
        killed = kubelet.wait_for("killed by liveness", 30)
        assert kubelet.kinds.index("unready") < kubelet.kinds.index(killed.kind)
        kubelet.wait_for("ready", READY_S, times=2)
        cluster.wait_for_outcomes(len(cluster.records(POSTS)), 60)
        (end,) = kubelet.ends
        assert (end.status, end.sent) == (ExitCode.INTERNAL, "SIGTERM")  # within the grace period
        assert kubelet.stop().status == 0
    all_done(cluster)


@pytest.mark.slow
def test_a_start_that_never_ends_is_ended_by_the_startup_probe(
    cluster: Cluster, store: SlowStore, tmp_path: Path
) -> None:
    store.answer_s = FOR_EVER_S
    patient = pod(cluster, store, {"store_timeout_s": 3600})
    with Kubelet(patient, tmp_path / "log", seconds_each=8 / START_S) as kubelet:
        kubelet.wait_for("started", READY_S, times=2)
        assert kubelet.kinds == ["started", "killed by startup", "ended", "started"]
        (end,) = kubelet.ends
        assert (end.status, end.sent) == (0, "SIGTERM")


# -- the nasty ones: minutes, by hand -------------------------------------------------------------


@contextmanager
def kafka_frozen(cluster: Cluster, store: SlowStore) -> Iterator[None]:
    cluster.broker.freeze()
    try:
        yield
    finally:
        cluster.broker.thaw()


@contextmanager
def store_silent(cluster: Cluster, store: SlowStore) -> Iterator[None]:
    store.answer_s = FOR_EVER_S
    try:
        yield
    finally:
        store.answer_s = 0.0


@contextmanager
def llm_silent(cluster: Cluster, store: SlowStore) -> Iterator[None]:
    assert cluster.llm is not None
    cluster.llm.behave("hang")
    try:
        yield
    finally:
        cluster.llm.behave("ok")


@contextmanager
def kafka_and_llm_silent(cluster: Cluster, store: SlowStore) -> Iterator[None]:
    with kafka_frozen(cluster, store), llm_silent(cluster, store):
        yield


AWAY = [kafka_frozen, store_silent, llm_silent, kafka_and_llm_silent]


@pytest.mark.chaos
@pytest.mark.parametrize("away", AWAY)
def test_sigterm_while_a_dependency_does_not_answer_needs_no_sigkill(
    away: Callable[[Cluster, SlowStore], AbstractContextManager[None]],
    cluster: Cluster,
    store: SlowStore,
    tmp_path: Path,
) -> None:
    assert cluster.llm is not None
    served = pod(cluster, store, {"llm": {"base_url": cluster.llm.url}})
    with Kubelet(served, tmp_path / "log", seconds_each=0.05) as kubelet:
        kubelet.wait_for("ready", READY_S)
        cluster.llm.behave("slow", seconds=1.0)  # so that there is work when it goes away
        asked = cluster.llm.count
        cluster.produce(posts(away.__name__, 150), spread=True)
        until(lambda: cluster.llm and cluster.llm.count > asked + 8, 60, "no load")
        with away(cluster, store):
            time.sleep(3)
            end = kubelet.stop()
        print(f"{away.__name__}: {end}")
        assert end.sent == "SIGTERM"
        assert end.status in (0, ExitCode.UNAVAILABLE)  # 69: the last commit was not recorded
    with Kubelet(pod(cluster, store), tmp_path / "log", seconds_each=0.05) as kubelet:
        cluster.wait_for_outcomes(len(cluster.records(POSTS)), READY_S)
        assert kubelet.stop().status == 0
    assert cluster.records(DEAD) == []


@pytest.mark.chaos
@pytest.mark.parametrize("away", [kafka_frozen, store_silent])
def test_sigterm_while_it_loads_needs_no_sigkill(
    away: Callable[[Cluster, SlowStore], AbstractContextManager[None]],
    cluster: Cluster,
    store: SlowStore,
    tmp_path: Path,
) -> None:
    patient = pod(cluster, store, {"store_timeout_s": 3600})
    with away(cluster, store), Kubelet(patient, tmp_path / "log", seconds_each=0.05) as kubelet:
        time.sleep(8)
        end = kubelet.stop()
    assert (end.status, end.sent) == (0, "SIGTERM")
    assert "ready" not in kubelet.kinds


@pytest.mark.chaos
def test_a_second_sigterm_ends_it_at_once(cluster: Cluster, store: SlowStore, tmp_path: Path) -> None:
    assert cluster.llm is not None
    served = pod(cluster, store, {"llm": {"base_url": cluster.llm.url}})
    with Kubelet(served, tmp_path / "log", seconds_each=0.05) as kubelet, llm_silent(cluster, store):
        kubelet.wait_for("ready", READY_S)
        cluster.produce(posts("twice", 50), spread=True)
        time.sleep(2)
        kubelet.delete()
        kubelet.wait_for("deleted", 5)
        os.kill(kubelet.pid, signal.SIGTERM)
        kubelet.wait_for("ended", 60)
        (end,) = kubelet.ends
    assert (end.status, end.sent) == (0, "SIGTERM")
    with Kubelet(pod(cluster, store), tmp_path / "log", seconds_each=0.05) as kubelet:
        cluster.wait_for_outcomes(len(cluster.records(POSTS)), READY_S)
    assert cluster.records(DEAD) == []


@pytest.mark.chaos
def test_a_process_that_sigterm_cannot_end_is_killed_and_loses_nothing(
    cluster: Cluster, store: SlowStore, tmp_path: Path
) -> None:
    stuck = pod(cluster, store, {"drain_deadline_s": 0})
    with Kubelet(stuck, tmp_path / "log", seconds_each=0.1, grace_each=0.2) as kubelet:
        kubelet.wait_for("ready", READY_S)
        cluster.produce(posts("stuck", 50), spread=True)
        os.kill(kubelet.pid, signal.SIGSTOP)
        kubelet.wait_for("killed by liveness", 60)
        kubelet.wait_for("ready", READY_S, times=2)
        assert kubelet.ends[0].sent == "SIGKILL"
        cluster.wait_for_outcomes(len(cluster.records(POSTS)), READY_S)
    assert cluster.records(DEAD) == []


@pytest.mark.chaos
def test_a_post_that_hangs_every_worker_becomes_a_dead_letter(tmp_path: Path) -> None:
    config = {"health": {"stalled_s": 1, "dead_s": 3}, "drain_deadline_s": 1}
    with (
        Cluster(tmp_path / "cluster", llm=False) as cluster,
        SlowStore(tmp_path / "store") as store,
    ):
        assert cluster.redis is not None
        shared = {"ENTITYCLIP_REDIS__URL": cluster.redis.url, TRIAL_VARIABLE: "10"}
        hanging = pod(cluster, store, config, **shared)
        with Kubelet(hanging, tmp_path / "log", seconds_each=0.1, entry=HANGING_WORKER) as kubelet:
            cluster.produce([*posts("poison", 6), {"id": "poison", "text": HANG}])
            cluster.wait_for_outcomes(7, 300)
            print(f"{kubelet.kinds.count('killed by liveness')} kills")
        assert [dict(letter.headers)["reason"] for letter in cluster.records(DEAD)] == [b"killed_worker"]

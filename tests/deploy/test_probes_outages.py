"""The same pod while what it depends on is silent, and in other ways that a stop can go wrong."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.deploy.hanging_worker import HANG
from tests.deploy.installation import HANGING_WORKER, READY_S, pod, posts
from tests.deploy.kubelet import Kubelet
from tests.deploy.slow_store import FOR_EVER_S, SlowStore
from tests.fault.cluster import DEAD, POSTS, Cluster, until
from worker.errors import ExitCode

pytestmark = pytest.mark.chaos


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


@contextmanager
def all_silent(cluster: Cluster, store: SlowStore) -> Iterator[None]:
    with kafka_and_llm_silent(cluster, store), store_silent(cluster, store):
        yield


AWAY = [kafka_frozen, store_silent, llm_silent, kafka_and_llm_silent, all_silent]


@pytest.mark.parametrize("away", AWAY)
def test_sigterm_while_a_dependency_does_not_answer_needs_no_sigkill(
    away: Callable[[Cluster, SlowStore], AbstractContextManager[None]],
    cluster: Cluster,
    store: SlowStore,
    tmp_path: Path,
) -> None:
    assert cluster.llm is not None
    served = pod(cluster, store, {"llm": {"base_url": cluster.llm.url, "model": "explainer"}})
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
        kubelet.wait_for("ready", READY_S)
        cluster.wait_for_outcomes(len(cluster.records(POSTS)), READY_S)
        assert kubelet.stop().status == 0
    assert cluster.records(DEAD) == []


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


def test_a_second_sigterm_ends_it_at_once(cluster: Cluster, store: SlowStore, tmp_path: Path) -> None:
    assert cluster.llm is not None
    served = pod(cluster, store, {"llm": {"base_url": cluster.llm.url, "model": "explainer"}})
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


def test_a_post_that_hangs_every_worker_becomes_a_dead_letter(tmp_path: Path) -> None:
    config = {"health": {"stalled_s": 2, "dead_s": 6}, "drain_deadline_s": 1}
    with (
        Cluster(tmp_path / "cluster", llm=False) as cluster,
        SlowStore(tmp_path / "store") as store,
    ):
        assert cluster.redis is not None
        shared = {"ENTITYCLIP_REDIS__URL": cluster.redis.url}
        hanging = pod(cluster, store, config, **shared)
        with Kubelet(hanging, tmp_path / "log", seconds_each=0.1, entry=HANGING_WORKER) as kubelet:
            cluster.produce([*posts("poison", 6), {"id": "poison", "text": HANG}])
            cluster.wait_for_outcomes(7, 300)
            print(f"{kubelet.kinds.count('killed by liveness')} kills")
        assert [dict(letter.headers)["reason"] for letter in cluster.records(DEAD)] == [b"killed_worker"]


def test_a_frozen_broker_makes_an_idle_worker_unready_and_kills_nobody(
    cluster: Cluster, store: SlowStore, tmp_path: Path
) -> None:
    idle = pod(cluster, store, {"health": {"stalled_s": 2}})
    with Kubelet(idle, tmp_path / "log", seconds_each=0.1) as kubelet:
        kubelet.wait_for("ready", READY_S)
        with kafka_frozen(cluster, store):
            assert "nobody has told" in kubelet.wait_for("unready", 60).detail
        kubelet.wait_for("ready", 60, times=2)
        assert kubelet.kinds == ["started", "ready", "unready", "ready"]

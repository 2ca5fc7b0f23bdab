"""The chart's probes and its grace period, with the real worker: slow start, hang, SIGTERM under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.hanging_worker import HANG, ONCE_VARIABLE
from tests.deploy.installation import HANGING_WORKER, READY_S, START_S, all_done, pod, posts
from tests.deploy.kubelet import Kubelet
from tests.deploy.slow_store import FOR_EVER_S, SlowStore
from tests.fault.cluster import POSTS, Cluster, repeats, until
from worker.errors import ExitCode


def test_sigterm_under_load_finishes_within_the_grace_period(
    cluster: Cluster, store: SlowStore, tmp_path: Path
) -> None:
    assert cluster.llm is not None
    cluster.llm.behave("slow", seconds=1.0)
    llm = {"base_url": cluster.llm.url, "model": "explainer", "concurrency": 8}
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

"""Each dependency is taken away for a minute in mid-stream: nothing is lost, nothing blamed, it goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fault.cluster import DEAD, Cluster, Worker, until
from tests.fault.planted import Pair, planted_pairs
from tests.fault.streams import texts, with_pairs
from worker.store.files import StoreFiles
from worker.store.process import read_address

OUTAGE_S, WORKERS, PAIRS = 60.0, 2, 20
BEFORE, DURING, AFTER = 300, 600, 300

pytestmark = pytest.mark.chaos


@contextmanager
def broker_away(cluster: Cluster) -> Iterator[None]:
    cluster.broker.stop()
    yield
    cluster.broker.start()


@contextmanager
def redis_away(cluster: Cluster) -> Iterator[None]:
    assert cluster.redis is not None
    cluster.redis.kill()
    yield
    cluster.redis.start()


@contextmanager
def store_frozen(cluster: Cluster) -> Iterator[None]:
    pid = store_pid(cluster)
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


@contextmanager
def store_frozen_and_killed(cluster: Cluster) -> Iterator[None]:
    pid = store_pid(cluster)
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGKILL)


def llm(mode: str, **options: object) -> Callable[[Cluster], object]:
    @contextmanager
    def away(cluster: Cluster) -> Iterator[None]:
        assert cluster.llm is not None
        cluster.llm.behave(mode, **options)
        yield
        cluster.llm.behave("ok")

    return away


OUTAGES: dict[str, tuple[Callable[[Cluster], object], str]] = {
    "broker stopped": (broker_away, "entityclip_client_rebuilds_total"),
    "redis killed": (redis_away, "entityclip_redis_failures_total"),
    "store frozen": (store_frozen, 'entityclip_stage_retries_total{stage="index"}'),
    "store frozen, then killed": (store_frozen_and_killed, 'entityclip_stage_retries_total{stage="index"}'),
    "llm hangs": (llm("hang"), 'entityclip_llm_calls_total{result="timeout"}'),
    "llm 429": (
        llm("status", status=429, retry_after="5"),
        'entityclip_llm_calls_total{result="rate_limited"}',
    ),
    "llm 500": (llm("status", status=500), 'entityclip_llm_calls_total{result="failed"}'),
    "llm drips": (llm("drip"), 'entityclip_llm_calls_total{result="timeout"}'),
    "llm talks garbage": (llm("garbage"), 'entityclip_llm_calls_total{result="invalid"}'),
    "llm gives no choices": (llm("choices_null"), 'entityclip_llm_calls_total{result="invalid"}'),
}


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return planted_pairs(PAIRS)


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_of_a_minute(outage: str, pairs: list[Pair], real_data: Path, tmp_path: Path) -> None:
    take_away, metric = OUTAGES[outage]
    stream = with_pairs(texts(real_data, BEFORE + DURING + AFTER - 2 * PAIRS), pairs)
    settings = "llm.deadline_s = 3\nllm.call_timeout_s = 1.5\nstore_timeout_s = 5"
    with Cluster(tmp_path, settings=settings) as cluster:
        workers = [cluster.start_worker() for _ in range(WORKERS)]
        for worker in workers:
            worker.wait_ready()
        cluster.produce(stream[:BEFORE], spread=True)
        cluster.wait_for_outcomes(BEFORE, timeout_s=120)
        cluster.produce(stream[BEFORE : BEFORE + DURING], spread=True)
        before, rebalances = total(workers, metric), total(workers, "entityclip_rebalances_total")
        with take_away(cluster):  # type: ignore[attr-defined]
            time.sleep(OUTAGE_S)
        back = time.monotonic()
        cluster.produce(stream[BEFORE + DURING :], spread=True)
        cluster.wait_for_outcomes(len(stream), timeout_s=180, poll_s=0.2)
        recovered_s = time.monotonic() - back
        until(lambda: all(worker.is_ready() for worker in workers), 60, "not ready again")
        moved = total(workers, metric) - before
        rebalanced = total(workers, "entityclip_rebalances_total") - rebalances
        found = cluster.match_ids()
        print(f"{outage}: {metric} +{moved:.0f}; rebalances {rebalanced:.0f}; ", end="")
        print(f"all {len(stream)} outcomes {recovered_s:.1f} s after it came back")
        assert moved > 0
        assert cluster.records(DEAD) == []
        assert {pair.match_id for pair in pairs} <= set(found)


def store_pid(cluster: Cluster) -> int:
    """The process of the embedded store."""
    address = read_address(StoreFiles(cluster.store))
    assert address is not None
    return address.pid


def total(workers: list[Worker], name: str) -> float:
    """A counter over all workers."""
    return sum(worker.metrics().get(name, 0.0) for worker in workers)

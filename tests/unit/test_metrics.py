"""The metrics: every series is there from the start."""

from __future__ import annotations

from worker.errors import Reason
from worker.observe.metrics import OUTCOMES, Metrics
from worker.stages.chain import STAGES
from worker.version import worker_version


def test_every_label_value_is_there_from_the_start() -> None:
    registry = Metrics(STAGES).registry
    for reason in Reason:
        assert registry.get_sample_value("entityclip_dead_letters_total", {"reason": reason.value}) == 0
    for outcome in OUTCOMES:
        assert registry.get_sample_value("entityclip_outcomes_total", {"outcome": outcome}) == 0
    for stage in STAGES:
        for name in ("stage_seconds_count", "stage_busy_ratio", "stage_batch_limit_posts"):
            assert registry.get_sample_value(f"entityclip_{name}", {"stage": stage}) == 0
    assert registry.get_sample_value("entityclip_device_busy_seconds_total") == 0


def test_device_seconds_are_read_where_they_are_counted() -> None:
    metrics, seconds = Metrics(), [1.5]
    metrics.watch_device(lambda: seconds[0])
    seconds[0] = 2.5
    assert metrics.registry.get_sample_value("entityclip_device_busy_seconds_total") == 2.5


def test_calls_of_the_store_are_counted_by_name_and_others_together() -> None:
    metrics = Metrics()
    metrics.store_called("upsert", 0.2, False)
    metrics.store_called("collection_exists", 0.1, True)
    value = metrics.registry.get_sample_value
    assert value("entityclip_store_seconds_sum", {"call": "upsert"}) == 0.2
    assert value("entityclip_store_failures_total", {"call": "upsert"}) == 0
    assert value("entityclip_store_failures_total", {"call": "other"}) == 1


def test_the_process_tells_its_memory_and_its_version() -> None:
    metrics = Metrics()
    assert (metrics.registry.get_sample_value("process_resident_memory_bytes") or 0) > 1 << 20
    assert metrics.registry.get_sample_value("entityclip_build_info", {"version": worker_version()}) == 1

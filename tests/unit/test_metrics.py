"""The metrics: every series is there from the start."""

from __future__ import annotations

from worker.errors import Reason
from worker.observe.metrics import OUTCOMES, Metrics
from worker.stages.chain import STAGES


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

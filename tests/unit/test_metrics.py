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
        assert registry.get_sample_value("entityclip_stage_seconds_count", {"stage": stage}) == 0

"""What the pipeline tells about itself while its source is away, and how it ends while a stage hangs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence

import pytest

from tests.fakes import POSTS, MemorySource, passing_steps, record
from tests.integration.test_pipeline import running, settings, until
from worker.errors import Crash
from worker.flow.pipeline import Pipeline
from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.sections import HealthConfig
from worker.types import Encoded, Prepared

FOR_EVER = 10**9


def health(*, stalled_s: float = 60.0, dead_s: float = 600.0) -> Health:
    return Health(HealthConfig(stalled_s=stalled_s, dead_s=dead_s))


def hanging_at(offset: int, release: threading.Event) -> Pipeline:
    """A pipeline over ten records, whose encoder does not come back from one of them."""

    def encode(items: Sequence[Prepared]) -> list[Encoded]:
        if any(item.record.offset == offset for item in items):
            release.wait()
        return [Encoded(item, ()) for item in items]

    source = MemorySource([record(number) for number in range(10)], a_poll=1, endless=True)
    state = health(stalled_s=0.1, dead_s=0.2)
    return Pipeline(
        source, passing_steps(encode=encode), settings=settings(drain_deadline_s=0.1), health=state
    )


def test_a_source_that_is_away_is_a_reason_not_to_be_ready_and_none_to_be_killed() -> None:
    source, state = MemorySource([], endless=True), health(stalled_s=0.2)
    source.poll_failures = FOR_EVER
    with running(Pipeline(source, passing_steps(), settings=settings(), health=state)):
        until(lambda: any("poll has waited" in reason for reason in state.ready()[1]))
        assert "the broker is away" in state.ready()[1][0]
        assert state.alive()[0]


def test_a_source_that_is_back_makes_it_ready_again() -> None:
    source, state = MemorySource([], endless=True), health(stalled_s=0.2)
    source.poll_failures = FOR_EVER
    with running(Pipeline(source, passing_steps(), settings=settings(), health=state)):
        until(lambda: any("poll has waited" in reason for reason in state.ready()[1]))
        source.poll_failures = 0
        until(lambda: state.ready() == (True, []))


def test_a_source_that_is_silent_is_one_that_is_away() -> None:
    source, state, metrics = MemorySource([], endless=True), health(stalled_s=0.2), Metrics()
    source.silence = "nobody answers"
    away = functools.partial(metrics.registry.get_sample_value, "entityclip_source_away")
    with running(Pipeline(source, passing_steps(), settings=settings(), health=state, metrics=metrics)):
        until(lambda: any("nobody answers" in reason for reason in state.ready()[1]))
        assert away() == 1
        source.silence = ""
        until(lambda: state.ready() == (True, []))
        assert away() == 0


def test_a_stop_while_a_stage_hangs_is_no_clean_end() -> None:
    """Otherwise the post that it hangs at comes again beside others, and hangs every process after this."""
    release = threading.Event()
    pipeline = hanging_at(3, release)
    state, source = pipeline._health, pipeline._source
    assert isinstance(source, MemorySource)
    with running(pipeline) as end:
        until(lambda: not state.alive()[0])
        pipeline.stop()
        with pytest.raises(Crash, match="hung: encode has been inside one call"):
            end()
        release.set()
    assert source.committed.get(POSTS, 0) <= 3
    assert source.note(POSTS)  # what was in flight runs alone after the next start


def test_a_stop_before_a_stage_is_given_up_is_a_clean_end() -> None:
    release = threading.Event()
    pipeline = hanging_at(FOR_EVER, release)
    with running(pipeline) as end:
        until(lambda: pipeline._health.ready()[0])
        pipeline.stop()
        assert end().stopped

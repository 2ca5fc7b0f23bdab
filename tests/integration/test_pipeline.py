"""The pipeline's promises, with a source in memory and steps of the test's own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.fakes import POSTS, MemorySource, passing_steps, prepared, record
from worker.errors import ConfigError, FatalError, Reason, TransientError
from worker.flow.intake import Decoded
from worker.flow.pipeline import Pipeline, Settings, Summary
from worker.observe.metrics import Metrics
from worker.posts import PostLimits
from worker.signals import stop_on_signal
from worker.stages.chain import STAGES
from worker.stages.stage import Batching
from worker.transport.base import Record
from worker.types import DeadLettered, Encoded, Gathered, Outcome, Prepared, TakeDown, Unmatched

QUICK = Settings(commit_interval_s=0.0, encode=Batching(8, 0.001), drain_deadline_s=2.0)


def settings(**changes: object) -> Settings:
    fields = {name: getattr(QUICK, name) for name in Settings.__slots__}
    return Settings(**(fields | changes))


@contextmanager
def running(pipeline: Pipeline) -> Iterator[Callable[[], Summary]]:
    """Run on another thread; the function given waits for the end and returns or raises what `run` did."""
    result: list[Summary | BaseException] = []

    def run() -> None:
        try:
            result.append(pipeline.run())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def end() -> Summary:
        thread.join(30)
        assert not thread.is_alive(), "run() hangs"
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]

    try:
        yield end
    finally:
        pipeline.stop()
        pipeline.stop()
        thread.join(30)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.005)


def test_every_record_has_one_outcome_and_is_committed() -> None:
    records = [
        record(offset * 3, f"post{offset % 17}") for offset in range(200)
    ]  # gaps, and posts that come again
    records[40] = Record(POSTS, 120, b"x", b"not json")
    source = MemorySource(records)
    outcomes: list[Outcome] = []
    summary = Pipeline(source, passing_steps(), settings=QUICK, on_outcome=outcomes.append).run()
    assert sorted(outcome.record.offset for outcome in outcomes) == [item.offset for item in records]
    assert source.committed == {POSTS: 199 * 3 + 1}
    assert (summary.posts, summary.unmatched, summary.dead_lettered) == (200, 199, {Reason.INVALID_JSON: 1})
    assert not summary.stopped
    assert set(summary.busy_s) == set(STAGES)


def test_nothing_is_committed_before_it_is_acknowledged() -> None:
    source = MemorySource([record(offset) for offset in range(50)])
    acknowledged: set[int] = set()
    slow_one = threading.Event()

    def emit(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        acknowledged.update(outcome.record.offset for outcome in outcomes)
        return outcomes

    def prepare(items: Sequence[Gathered]) -> list[Prepared | DeadLettered]:
        if items[0].record.offset == 20:
            slow_one.wait(20)
        return [prepared(item.post.id, windows=("a",), source_record=item.record) for item in items]

    pipeline = Pipeline(source, passing_steps(prepare=prepare, emit=emit), settings=QUICK)
    with running(pipeline) as end:
        until(lambda: len(acknowledged) == 49)
        until(lambda: bool(source.commits))
        time.sleep(0.2)
        assert source.committed == {POSTS: 20}  # the finished ones behind it wait
        slow_one.set()
        end()
    assert source.committed == {POSTS: 50}


def test_records_of_one_post_run_one_after_the_other_in_order() -> None:
    inside: set[str] = set()
    order: list[int] = []

    def prepare(items: Sequence[Gathered]) -> list[Prepared | DeadLettered]:
        (item,) = items
        assert item.post.id not in inside
        inside.add(item.post.id)
        order.append(item.record.offset)
        return [prepared(item.post.id, windows=("a",), source_record=item.record)]

    def emit(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        for outcome in outcomes:
            assert isinstance(outcome, Unmatched)
            inside.remove(outcome.post_id)
        return outcomes

    records = [record(offset, f"post{offset % 3}") for offset in range(60)]
    Pipeline(
        MemorySource(records), passing_steps(prepare=prepare, emit=emit), settings=settings(prepare_threads=4)
    ).run()
    assert [[offset for offset in order if offset % 3 == n] for n in range(3)] == [
        list(range(n, 60, 3)) for n in range(3)
    ]


def test_post_and_its_take_down_in_one_poll_end_with_no_points() -> None:
    stored: set[str] = set()

    def index(items: Sequence[Encoded | TakeDown]) -> list[Encoded | Unmatched | DeadLettered]:
        for item in items:
            if isinstance(item, TakeDown):
                stored.discard(item.post_id)
            else:
                stored.add(item.prepared.post.id)
        return [
            item if isinstance(item, Encoded) else Unmatched(item.record, item.post_id, 0) for item in items
        ]

    records = [
        record(0, "gone"),
        record(1, "stays"),
        Record(POSTS, 2, b"gone", None),
        Record(POSTS, 3, None, None),
    ]
    outcomes: list[Outcome] = []
    source = MemorySource(records)
    Pipeline(source, passing_steps(index=index), settings=QUICK, on_outcome=outcomes.append).run()
    assert stored == {"stays"}
    assert [type(outcome) for outcome in sorted(outcomes, key=lambda item: item.record.offset)] == [
        Unmatched,
        Unmatched,
        Unmatched,
        DeadLettered,
    ]


@pytest.mark.parametrize("stage", ["prepare", "encode", "index", "emit"])
def test_stage_that_raises_ends_the_run_with_its_name_and_commits_no_more(stage: str) -> None:
    def explode(items: Sequence[object]) -> list[object]:
        raise KeyError("a defect")

    source = MemorySource([record(offset) for offset in range(50)], endless=True)
    pipeline = Pipeline(source, passing_steps(**{stage: explode}), settings=QUICK)  # type: ignore[arg-type]
    with (
        running(pipeline) as end,
        pytest.raises(FatalError, match=f"the {stage} stage failed: KeyError: 'a defect'"),
    ):
        end()
    assert source.commits == []


def test_stage_that_loses_a_post_ends_the_run() -> None:
    source = MemorySource([record(offset) for offset in range(5)], endless=True)
    pipeline = Pipeline(source, passing_steps(encode=lambda items: []), settings=QUICK)
    with running(pipeline) as end, pytest.raises(FatalError, match="the encode stage failed: ValueError"):
        end()


def test_fatal_error_of_a_step_is_raised_as_it_is() -> None:
    def refuse(items: Sequence[object]) -> list[Outcome]:
        raise FatalError("the store belongs to another model")

    source = MemorySource([record(0)])
    with pytest.raises(FatalError, match=r"^the index stage failed: the store belongs to another model$"):
        Pipeline(source, passing_steps(index=refuse), settings=QUICK).run()  # type: ignore[arg-type]


def test_dependency_that_is_away_for_a_while_loses_nothing() -> None:
    failures = iter(range(3))

    def emit(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        if next(failures, None) is not None:
            raise TransientError("the sink is away")
        return outcomes

    source = MemorySource([record(offset) for offset in range(30)])
    source.poll_failures, source.commit_failures = 2, 0
    metrics = Metrics(STAGES)
    summary = Pipeline(source, passing_steps(emit=emit), settings=QUICK, metrics=metrics).run()
    assert summary.posts == 30
    assert source.committed == {POSTS: 30}
    assert metrics.registry.get_sample_value("entityclip_stage_retries_total", {"stage": "emit"}) == 3


def test_last_commit_is_tried_until_it_is_recorded() -> None:
    source = MemorySource([record(0)])
    source.commit_failures = 2
    Pipeline(source, passing_steps(), settings=settings(commit_interval_s=60.0)).run()
    assert source.committed == {POSTS: 1}


def test_commit_that_is_never_recorded_is_an_error() -> None:
    source = MemorySource([record(0)])
    source.commit_failures = 10**6
    with pytest.raises(TransientError, match="coordinator"):
        Pipeline(source, passing_steps(), settings=settings(drain_deadline_s=0.2)).run()


def test_full_budget_pauses_the_source_which_is_polled_all_the_same() -> None:
    gate = threading.Event()
    prepared_posts: list[int] = []

    def encode(items: Sequence[Prepared]) -> list[Encoded | DeadLettered]:
        gate.wait(20)
        prepared_posts.append(len(items))
        return [Encoded(item, ()) for item in items]

    source = MemorySource([record(offset) for offset in range(500)], a_poll=10)
    metrics = Metrics(STAGES)
    pipeline = Pipeline(
        source, passing_steps(encode=encode), settings=settings(in_flight_posts=40), metrics=metrics
    )
    with running(pipeline) as end:
        until(lambda: source.polls_while_paused > 3)
        assert source.delivered == 50  # what is in flight, and the one poll that did not fit
        assert metrics.registry.get_sample_value("entityclip_in_flight_posts") == 40
        assert metrics.registry.get_sample_value("entityclip_source_paused") == 1
        gate.set()
        summary = end()
    assert summary.posts == 500
    assert max(prepared_posts) <= 8


def test_budget_in_bytes_bounds_what_is_in_flight() -> None:
    gate = threading.Event()

    def encode(items: Sequence[Prepared]) -> list[Encoded | DeadLettered]:
        gate.wait(20)
        return [Encoded(item, ()) for item in items]

    source = MemorySource([record(offset) for offset in range(300)], a_poll=5)
    pipeline = Pipeline(source, passing_steps(encode=encode), settings=settings(in_flight_bytes=50_000))
    with running(pipeline) as end:
        until(lambda: source.polls_while_paused > 3)
        assert source.delivered <= 20
        gate.set()
        assert end().posts == 300


def test_one_slow_record_bounds_what_runs_ahead_of_it() -> None:
    gate = threading.Event()

    def prepare(items: Sequence[Gathered]) -> list[Prepared | DeadLettered]:
        if items[0].record.offset == 0:
            gate.wait(20)
        return [prepared(item.post.id, windows=("a",), source_record=item.record) for item in items]

    source = MemorySource([record(offset) for offset in range(2000)], a_poll=10)
    pipeline = Pipeline(source, passing_steps(prepare=prepare), settings=settings(uncommitted_posts=100))
    with running(pipeline) as end:
        until(lambda: source.polls_while_paused > 3)
        assert source.delivered == 100
        gate.set()
        assert end().posts == 2000


def test_while_it_drains_the_source_is_polled_and_delivers_nothing() -> None:
    source = MemorySource([record(offset) for offset in range(1000)], a_poll=4, endless=True)
    gate = threading.Event()

    def wait(items: Sequence[Outcome]) -> Sequence[Outcome]:
        gate.wait(20)
        return items

    pipeline = Pipeline(source, passing_steps(emit=wait), settings=settings(in_flight_posts=8))
    with running(pipeline) as end:
        until(lambda: source.paused)
        pipeline.stop()
        polls, delivered = source.polls_while_paused, source.delivered
        until(lambda: source.polls_while_paused > polls + 3)
        gate.set()
        end()
    assert source.delivered == delivered


def test_stop_finishes_what_is_in_flight_and_commits_it() -> None:
    source = MemorySource([record(offset) for offset in range(100_000)], endless=True)
    outcomes: list[Outcome] = []

    def slowly(items: Sequence[Outcome]) -> Sequence[Outcome]:
        time.sleep(0.002 * len(items))
        return items

    pipeline = Pipeline(source, passing_steps(emit=slowly), settings=QUICK, on_outcome=outcomes.append)
    with running(pipeline) as end:
        until(lambda: len(outcomes) > 100)
        pipeline.stop()
        summary = end()
    assert summary.stopped
    assert summary.posts == len(outcomes) < 100_000
    finished = {outcome.record.offset for outcome in outcomes}
    assert source.committed[POSTS] == next(offset for offset in range(100_001) if offset not in finished)


def test_stop_gives_up_at_the_deadline_what_cannot_be_finished() -> None:
    def away(items: Sequence[Outcome]) -> Sequence[Outcome]:
        raise TransientError("the sink is away")

    source = MemorySource([record(offset) for offset in range(10)], endless=True)
    pipeline = Pipeline(source, passing_steps(emit=away), settings=settings(drain_deadline_s=0.3))
    with running(pipeline) as end:
        until(lambda: source.delivered == 10)
        pipeline.stop()
        summary = end()
    assert (summary.posts, summary.stopped, source.commits) == (0, True, [])


def test_second_stop_abandons_at_once() -> None:
    gate = threading.Event()

    def stuck(items: Sequence[Prepared]) -> list[Encoded | DeadLettered]:
        gate.wait(20)
        return [Encoded(item, ()) for item in items]

    source = MemorySource([record(offset) for offset in range(10)], endless=True)
    pipeline = Pipeline(source, passing_steps(encode=stuck), settings=settings(drain_deadline_s=600.0))
    with running(pipeline) as end:
        until(lambda: source.delivered == 10)
        pipeline.stop()
        pipeline.stop()
        assert end().posts == 0
        gate.set()
    assert source.commits == []


def test_work_of_a_revoked_partition_is_not_committed() -> None:
    gate = threading.Event()

    def encode(items: Sequence[Prepared]) -> list[Encoded | DeadLettered]:
        gate.wait(20)
        return [Encoded(item, ()) for item in items]

    source = MemorySource([record(offset) for offset in range(10)])
    with running(Pipeline(source, passing_steps(encode=encode), settings=QUICK)) as end:
        until(lambda: source.delivered == 10)
        source.epochs[POSTS] = 1
        gate.set()
        end()
    assert source.commits == []


def test_many_records_of_a_revoked_partition_are_passed_over() -> None:
    source = MemorySource([record(offset) for offset in range(3000)], a_poll=3000)
    source.epochs[POSTS] = 1
    assert Pipeline(source, passing_steps(), settings=QUICK).run().posts == 0
    assert source.commits == []


def test_record_over_the_cap_is_refused_by_the_limits_given() -> None:
    source = MemorySource([record(0), record(1, "x" * 200)])
    limits = settings(posts=PostLimits(record_bytes=100))
    summary = Pipeline(source, passing_steps(), settings=limits).run()
    assert (summary.unmatched, summary.dead_lettered) == (1, {Reason.TEXT_TOO_LARGE: 1})


def test_signal_stops_the_run_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    source = MemorySource([record(0)], endless=True)
    pipeline = Pipeline(
        source, passing_steps(), settings=QUICK, on_outcome=lambda _: os.kill(os.getpid(), signal.SIGINT)
    )
    with stop_on_signal(pipeline):
        summary = pipeline.run()
    assert summary.stopped
    assert source.committed == {POSTS: 1}
    assert signal.getsignal(signal.SIGINT) is before


def test_metrics_count_what_happened() -> None:
    metrics = Metrics(STAGES)
    metrics.serves("model1")
    source = MemorySource([record(0), Record(POSTS, 1, None, b"{}")])
    Pipeline(source, passing_steps(), settings=QUICK, metrics=metrics).run()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"entityclip_{name}", labels)

    assert value("posts_total") == 2
    assert value("outcomes_total", outcome="unmatched") == 1
    assert value("dead_letters_total", reason="invalid_schema") == 1
    assert value("dead_letters_total", reason="empty_post") == 0  # there from the start
    assert value("model_info", model_id="model1") == 1
    assert value("commits_total") == 1


@pytest.mark.parametrize(
    ("cause", "error", "message"),
    [
        (KeyError("a defect"), FatalError, r"^the gather stage failed: KeyError: 'a defect'$"),
        (ConfigError("a bad setting"), ConfigError, "^a bad setting$"),
    ],
)
def test_failure_inside_a_task_group_is_told_by_its_cause(
    cause: Exception, error: type[Exception], message: str
) -> None:
    async def gather(work: Decoded) -> Gathered:
        raise ExceptionGroup("unhandled errors in a TaskGroup", [cause])

    source = MemorySource([record(0)], endless=True)
    with (
        running(Pipeline(source, passing_steps(gather=gather), settings=QUICK)) as end,
        pytest.raises(error, match=message),
    ):
        end()


def test_second_stop_does_not_wait_for_a_broker_that_is_away() -> None:
    source = MemorySource([record(offset) for offset in range(10)], endless=True)
    source.commit_failures = 10**6
    outcomes: list[Outcome] = []
    pipeline = Pipeline(
        source, passing_steps(), settings=settings(drain_deadline_s=600.0), on_outcome=outcomes.append
    )
    with running(pipeline) as end:
        until(lambda: len(outcomes) == 10)
        pipeline.stop()
        until(lambda: source.commit_failures < 10**6 - 2)  # it tries again and again
        pipeline.stop()
        with pytest.raises(TransientError, match="coordinator"):
            end()


def test_last_commit_has_what_the_drain_left_of_the_deadline() -> None:
    """Together they must fit into the time that whoever sent the signal gives."""
    source = MemorySource([record(offset) for offset in range(10)], endless=True)
    source.commit_failures = 10**6
    gate = threading.Event()

    def encode(items: Sequence[Prepared]) -> list[Encoded | DeadLettered]:
        if items[0].record.offset > 0:
            gate.wait(20)
        return [Encoded(item, ()) for item in items]

    one_by_one = settings(drain_deadline_s=1.0, encode=Batching(1), commit_interval_s=60.0)
    pipeline = Pipeline(source, passing_steps(encode=encode), settings=one_by_one)
    with running(pipeline) as end:
        until(lambda: source.delivered == 10)
        pipeline.stop()
        with pytest.raises(TransientError, match="coordinator"):
            end()
        gate.set()
    assert 10**6 - source.commit_failures <= 2


def test_records_that_waited_when_their_partition_was_taken_away_count_as_dropped() -> None:
    source = MemorySource([record(offset) for offset in range(30)], a_poll=30)
    source.epochs[POSTS] = 1
    metrics = Metrics(STAGES)
    Pipeline(source, passing_steps(), settings=QUICK, metrics=metrics).run()
    assert metrics.registry.get_sample_value("entityclip_posts_total") == 30
    assert metrics.registry.get_sample_value("entityclip_posts_dropped_total") == 30

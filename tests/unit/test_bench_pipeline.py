"""The pieces of `bench pipeline`: posts, pace, stages alone, advice."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.fakes import passing_steps, record
from worker.bench.machine import Machine
from worker.bench.pipeline_advice import Load, advice
from worker.bench.pipeline_posts import PacedSource, drawn_posts, own_posts
from worker.bench.pipeline_report import Findings, Whole, pipeline_report
from worker.bench.pipeline_stages import Alone, decoded, each_alone, one_by_one
from worker.errors import ConfigError, Reason
from worker.flow.figures import Summary
from worker.flow.intake import Decoded
from worker.flow.pipeline import Settings
from worker.stages.chain import STAGES
from worker.stages.stage import Batching
from worker.types import DeadLettered, Encoded, Gathered, Prepared

RATES = dict.fromkeys(STAGES, 100.0)
QUIET = dict.fromkeys(STAGES, 0.1)


def test_drawn_posts_have_a_picture_and_a_caption_of_their_own_and_no_explanation(tmp_path: Path) -> None:
    posts = [json.loads(line) for line in drawn_posts(tmp_path, 18, (90, 60)).read_text().splitlines()]
    paths = [tmp_path / post["images"][0]["path"] for post in posts]
    assert len({post["text"] for post in posts}) == 18
    assert len({path.read_bytes() for path in paths}) == 18
    assert not any("explanation" in post for post in posts)
    with Image.open(paths[0]) as picture:
        assert picture.size == (90, 60)


def test_own_posts_begin_again_under_new_ids_and_texts(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(
        '{"id": "a", "image": "x.jpg", "text": "One.", "explanation": "Red."}\n'
        '{"id": "b", "text": "", "images": []}\n'
    )
    (tmp_path / "work").mkdir()
    posts = [json.loads(line) for line in own_posts(data, tmp_path / "work", 3).read_text().splitlines()]
    assert [post["id"] for post in posts] == ["0-a", "1-b", "2-a"]
    assert posts[2] == {"id": "2-a", "text": "One. (1)", "images": [{"path": "x.jpg"}]}


@pytest.mark.parametrize("content", ["", "no json\n", '{"text": "no id"}\n', None])
def test_data_that_holds_no_posts_is_a_configuration_error(tmp_path: Path, content: str | None) -> None:
    data = tmp_path / "rows.jsonl"
    if content is not None:
        data.write_text(content)
    with pytest.raises(ConfigError):
        own_posts(data, tmp_path, 3)


def test_paced_source_delivers_one_record_after_the_other_when_it_is_due() -> None:
    source = PacedSource([record(n) for n in range(3)], per_s=200.0)
    delivered: dict[int, float] = {}
    while not source.exhausted():
        delivered |= {one.offset: time.perf_counter() for one in source.poll(0.001)}
    assert list(delivered) == [0, 1, 2]
    assert all(delivered[offset] >= due_s for offset, due_s in source.due_s.items())
    assert source.due_s[2] - source.due_s[0] == pytest.approx(2 / 200.0)


def test_a_record_that_is_taken_late_was_due_in_time() -> None:
    source = PacedSource([record(n) for n in range(2)], per_s=1000.0)
    source.poll(0.01)
    time.sleep(0.05)
    source.poll(0.01)
    assert source.due_s[1] - source.due_s[0] == pytest.approx(1 / 1000.0)


def test_every_stage_alone_gets_what_the_one_before_let_through() -> None:
    async def gather(item: Decoded) -> Gathered | DeadLettered:
        if item.post.id == "post1":
            return DeadLettered(item.record, Reason.IMAGE_REFUSED, "", "gather")
        return await _gathered(item)

    posts = decoded([record(n) for n in range(5)], Settings())
    alone = each_alone(passing_steps(gather=gather), posts, Settings(encode=Batching(2)))
    assert [(one.name, one.posts) for one in alone] == [
        (name, 5 if name == "gather" else 4) for name in STAGES
    ]
    assert all(one.wall_s > 0 for one in alone)


def test_a_stage_that_fails_alone_says_so() -> None:
    def encode(items: Sequence[Prepared]) -> list[Encoded | DeadLettered]:
        raise ValueError("no such tower")

    with pytest.raises(ValueError, match="no such tower"):
        each_alone(passing_steps(encode=encode), decoded([record(0)], Settings()), Settings())


def test_the_loop_without_overlap_takes_one_post_at_a_time() -> None:
    sizes = []

    def encode(items: Sequence[Prepared]) -> list[Encoded | DeadLettered]:
        sizes.append(len(items))
        return [Encoded(item, ()) for item in items]

    seconds = one_by_one(passing_steps(encode=encode), decoded([record(n) for n in range(3)], Settings()))
    assert len(seconds) == 3
    assert sizes == [1, 1, 1]


@pytest.mark.parametrize("stage", STAGES)
def test_advice_names_the_stage_that_is_busy(stage: str) -> None:
    assert advice(Load({**QUIET, stage: 0.94}, RATES, 0.5)).startswith(f"{stage} is busy 94%: ")


def test_advice_for_the_llm_is_to_raise_its_concurrency() -> None:
    assert "llm.concurrency" in advice(Load({**QUIET, "gather": 0.99}, RATES, 0.5))


def test_of_two_busy_stages_the_slower_one_is_the_bottleneck() -> None:
    load = Load({**QUIET, "index": 0.97, "encode": 0.9}, {**RATES, "encode": 20.0}, 0.9)
    assert advice(load).startswith("encode is busy")


def test_cores_are_named_where_no_stage_is_busy_by_itself() -> None:
    assert advice(Load({**QUIET, "encode": 0.6}, RATES, 0.97)).startswith("the cores are busy 97%")


def test_posts_that_come_too_slowly_are_named_where_nothing_is_busy() -> None:
    assert advice(Load(QUIET, RATES, 0.2)).startswith("nothing is busy")


def test_report_sets_the_whole_against_the_slowest_stage_and_the_loop_without_overlap() -> None:
    summary = Summary(100, 0, 100, {}, 0, 2.0, dict.fromkeys(STAGES, 1.0), stopped=False)
    alone = [Alone(name, 100, 2.5 if name == "encode" else 1.0, 0.5) for name in STAGES]
    found = Findings([alone], [Whole(summary, 3.0)], [0.5, 0.4, 0.6], [n / 100 for n in range(101)], 25.0)
    machine = Machine("cpu", 2, 1 << 30, "3.11", "2", 2, True, "cpu")
    report = pipeline_report(found, "command", machine, {})
    assert [round(ratio.value.median, 6) for ratio in report.ratios] == [1.25, 0.75, 25.0]
    assert "encode" in report.ratios[0].what
    latencies = {row.name: row.values[""] for row in report.sections[-1].rows}
    assert latencies == pytest.approx({"p50": 500, "p90": 900, "p99": 990})


async def _gathered(item: Decoded) -> Gathered | DeadLettered:
    async with passing_steps().gather() as gather:
        return await gather(item)

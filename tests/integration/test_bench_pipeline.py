"""`bench pipeline` on the real worker, in small."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from worker.bench.llm_server import answering_after
from worker.bench.pipeline import PipelineOptions, bench_pipeline
from worker.explain.answer import parse_answer
from worker.stages.chain import STAGES


def test_the_endpoint_answers_many_calls_at_once_each_after_the_time_it_says() -> None:
    async def ask(url: str) -> tuple[float, str]:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            begun_s = time.perf_counter()
            calls = [client.post(f"{url}/chat/completions", json={"messages": []}) for _ in range(16)]
            answers = await asyncio.gather(*calls)
            return time.perf_counter() - begun_s, answers[-1].json()["choices"][0]["message"]["content"]

    with answering_after(0.5) as url:
        seconds, content = asyncio.run(ask(url))
    assert seconds >= 0.5
    assert parse_answer(content, plain=False).known


@pytest.mark.slow
def test_every_part_of_the_report_is_filled() -> None:
    options = PipelineOptions(posts=12, picture_size=(120, 80), llm_latency_ms=20, naive_posts=2, rounds=1)
    report = bench_pipeline(options, "entityclip bench pipeline")
    sections = {section.title.split(",")[0]: section for section in report.sections}
    assert {row.name for row in sections["Busy"].rows} == set(STAGES)
    assert [ratio.value.median > 0 for ratio in report.ratios] == [True] * 3
    assert {row.name for row in sections["From post to acknowledged outcome"].rows} == {"p50", "p90", "p99"}
    assert report.notes[0]

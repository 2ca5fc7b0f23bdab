"""The tests' own LLM endpoint, as another process sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Ada Lovelace in London."}]}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.llm_server", "--port", "0", "--mode", "status", "--status", "503"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def test_mode_is_changed_and_requests_are_counted_over_http(url: str) -> None:
    root = url.removesuffix("/v1")

    def ask() -> httpx2.Response:
        return httpx2.post(f"{url}/chat/completions", json=REQUEST)

    assert ask().status_code == 503
    assert httpx2.post(f"{root}/mode", json={"mode": "ok"}).is_success
    answers: list[dict[str, Any]] = [ask().json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert "Ada Lovelace" in json.dumps(answers[0]) or "London" in json.dumps(answers[0])
    assert httpx2.get(f"{root}/stats").json() == {"count": 3, "by_mode": {"status": 1, "ok": 2}}
    assert [seen["body"] for seen in httpx2.get(f"{root}/requests").json()] == [REQUEST] * 3


def test_mode_that_does_not_exist_is_refused(url: str) -> None:
    root = url.removesuffix("/v1")
    answer = httpx2.post(f"{root}/mode", json={"mode": "dance"})
    assert answer.status_code == 400
    assert "dance" in answer.text

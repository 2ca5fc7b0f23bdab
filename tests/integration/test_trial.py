"""One record through a whole pipeline in another process, and what its end tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from worker.config import Config
from worker.flow import trial
from worker.transport.base import Partition, Record


def attempt(post: object, tmp_path: Path, checkpoint: Path) -> str:
    config = Config(source="kafka:posts", store=str(tmp_path / "store"), model=str(checkpoint))
    record = Record(Partition("posts", 3), 7, b"k", json.dumps(post).encode())
    return trial.try_records(config, None)(record)


def test_a_good_record_lives(tmp_path: Path, random_checkpoint: Path) -> None:
    assert attempt({"id": "p", "text": "Oslo"}, tmp_path, random_checkpoint) == ""


def test_a_bad_post_is_no_killer(tmp_path: Path, random_checkpoint: Path) -> None:
    assert attempt({"id": "p"}, tmp_path, random_checkpoint) == ""


def test_a_dependency_that_is_away_condemns_nobody(tmp_path: Path) -> None:
    assert attempt({"id": "p", "text": "Oslo"}, tmp_path, tmp_path / "no checkpoint") == ""


@pytest.mark.parametrize(
    ("text", "how"), [("kill this process", "signal 11"), ("raise what nobody foresaw", "70")]
)
def test_a_killer_dies_and_it_is_said_how(
    text: str, how: str, tmp_path: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "ENTRY", "tests.fault.deadly_worker")
    assert how in attempt({"id": "p", "text": text}, tmp_path, random_checkpoint)

"""`entityclip demo --send` against a real Apache Kafka."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping

import pytest
from PIL import Image

from tests.kafka.broker import Broker
from tests.kafka.helpers import new_topic, settings
from worker.cli.main import run_command
from worker.demo.send import due
from worker.errors import ExitCode
from worker.transport.base import Record
from worker.transport.kafka.clients import read_topic

_POSTS, _BROKEN = 62, 5


@pytest.fixture
def topic(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> str:
    """A topic's name; the environment names the broker."""
    monkeypatch.setenv("ENTITYCLIP_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap)
    return new_topic()


def test_every_post_of_the_stream_is_in_the_topic_under_its_id_and_carries_its_picture(
    kafka: Broker, topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["demo", "--send", f"kafka:{topic}", "--seed", "5"]) == ExitCode.DONE
    (line,) = capsys.readouterr().out.splitlines()
    assert line == (
        f"{_POSTS} posts of seed 5 sent to kafka:{topic} at {kafka.bootstrap}, {_BROKEN} broken on purpose"
    )
    records = list(read_topic(settings(kafka), topic))
    posts = [json.loads(record.value or b"") for record in records if _is_good(record)]
    assert (len(records), len({record.key for record in records})) == (_POSTS, _POSTS)
    assert len(posts) == _POSTS - _BROKEN
    assert [post["id"].encode() for post in posts] == [record.key for record in records if _is_good(record)]
    sizes = {_size(image) for post in posts for image in post.get("images", ())}
    assert sizes == {(320, 320)}


def test_each_round_has_posts_of_its_own(kafka: Broker, topic: str) -> None:
    sent = ["demo", "--send", f"kafka:{topic}", "--rounds", "2", "--rate", "1000"]
    assert run_command(sent) == ExitCode.DONE
    keys = {record.key for record in read_topic(settings(kafka), topic)}
    assert len(keys) == 2 * _POSTS


def test_sending_for_ever_ends_in_order_with_sigterm(kafka: Broker, topic: str) -> None:
    command = [sys.executable, "-m", "worker.cli.main", "demo", "--send", f"kafka:{topic}", "--rounds", "0"]
    with subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read().splitlines()
        assert process.wait(30) == ExitCode.DONE
    sent = sum(int(line.split()[0]) for line in (first, *rest))
    assert len(list(read_topic(settings(kafka), topic))) == sent


@pytest.mark.parametrize(
    ("rate", "seconds", "messages"),
    [(None, 0.0, 62), (2.0, 0.0, 1), (2.0, 0.4, 1), (2.0, 3.0, 7), (0.1, 9.0, 1), (2.0, 1000.0, 62)],
)
def test_the_rate_says_how_many_are_out(rate: float | None, seconds: float, messages: int) -> None:
    assert due(62, rate, seconds) == messages


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--send", "posts"], ExitCode.CONFIG, "write file:PATH or kafka:TOPIC"),
        (["--send", "file:posts.jsonl"], ExitCode.CONFIG, "write kafka:TOPIC"),
        (["--send", "kafka:no such topic"], ExitCode.CONFIG, "names no topic"),
        (["--send", "kafka:t", "--store", "s"], ExitCode.USAGE, "--store does not go with --send"),
        (["--send", "kafka:t", "--posts", "p"], ExitCode.USAGE, "--posts does not go with --send"),
        (["--send", "kafka:t", "--output", "o"], ExitCode.USAGE, "--output does not go with --send"),
        (["--send", "kafka:t", "--rate", "0"], ExitCode.USAGE, "above 0"),
        (["--send", "kafka:t", "--rate", "nan"], ExitCode.USAGE, "above 0"),
        (["--rounds", "2"], ExitCode.USAGE, "go with --send"),
        (["--rate", "2"], ExitCode.USAGE, "go with --send"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_one_line(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["demo", *arguments]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def _is_good(record: Record) -> bool:
    """Whether it is none of the broken posts, whose ids end in a word."""
    return re.fullmatch(rb"demo-5-\d{3}", record.key or b"") is not None


def _size(image: Mapping[str, str]) -> tuple[int, int]:
    with Image.open(io.BytesIO(base64.b64decode(image["data"], validate=True))) as picture:
        return picture.size

"""Dead letters: the bytes unchanged, the place and the reason beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.dead_letters import (
    DeadLetterLine,
    as_line,
    dead_letter_message,
    key_of_line,
    read_dead_letters,
    worker_version,
)
from worker.errors import ConfigError, Reason
from worker.transport.base import Partition, Record
from worker.transport.spec import open_dead_letter_sink
from worker.types import DeadLettered

RECORD = Record(Partition("posts.jsonl", 0), 3, None, b"not json", (("trace", b"abc"),))
LETTER = DeadLettered(RECORD, Reason.INVALID_JSON, "line 1", "decode", attempts=2)


def with_value(value: bytes | None) -> DeadLettered:
    return replace(LETTER, record=replace(RECORD, value=value))


def write(path: Path, *letters: DeadLettered) -> list[DeadLetterLine]:
    sink = open_dead_letter_sink(f"file:{path}")
    sink.write([dead_letter_message(letter) for letter in letters])
    sink.close()
    return list(read_dead_letters(path))


def test_the_message_carries_raw_bytes_and_says_why_in_headers() -> None:
    message = dead_letter_message(LETTER)
    assert message.key == b"posts.jsonl-0-3"
    assert message.value == b"not json"
    assert dict(message.headers) == {
        "trace": b"abc",
        "reason": b"invalid_json",
        "detail": b"line 1",
        "stage": b"decode",
        "attempts": b"2",
        "source_topic": b"posts.jsonl",
        "source_partition": b"0",
        "source_offset": b"3",
        "worker_version": worker_version().encode(),
    }


def test_a_letter_is_read_back_from_a_file(tmp_path: Path) -> None:
    (line,) = write(tmp_path / "dead.jsonl", LETTER)
    assert line == DeadLetterLine(
        key="posts.jsonl-0-3",
        reason="invalid_json",
        detail="line 1",
        stage="decode",
        attempts=2,
        topic="posts.jsonl",
        partition=0,
        offset=3,
        worker_version=worker_version(),
        value="not json",
        headers={"trace": "abc"},
    )


@settings(deadline=None)  # the machine may be busy
@given(st.binary())
def test_any_bytes_come_back_unchanged(value: bytes) -> None:
    line = as_line(dead_letter_message(with_value(value)))
    assert b"\n" not in line
    assert key_of_line(line) == b"posts.jsonl-0-3"
    assert _decode(line).raw() == value


def _decode(line: bytes) -> DeadLetterLine:
    return msgspec.json.decode(line, type=DeadLetterLine)


def test_a_header_of_the_record_cannot_pose_as_ours() -> None:
    forged = replace(RECORD, headers=(("reason", b"empty_post"), ("source_offset", b"x")))
    line = _decode(as_line(dead_letter_message(replace(LETTER, record=forged))))
    assert (line.reason, line.offset) == ("invalid_json", 3)


def test_the_same_letter_again_is_not_appended(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    write(path, LETTER, LETTER)
    write(path, LETTER)
    assert len(path.read_bytes().splitlines()) == 1


def test_of_one_key_the_last_letter_counts(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    other = replace(LETTER, reason=Reason.EMPTY_POST)
    write(path, LETTER, replace(LETTER, record=replace(RECORD, offset=4)))
    letters = write(path, other)
    assert [(letter.offset, letter.reason) for letter in letters] == [(3, "empty_post"), (4, "invalid_json")]
    assert [letter.reason for letter in write(path, LETTER)] == ["invalid_json", "invalid_json"]


def test_a_letter_that_is_just_being_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    write(path, LETTER)
    with path.open("ab") as file:
        file.write(b'{"key": "posts.js')
    assert len(list(read_dead_letters(path))) == 1


@pytest.mark.parametrize("content", [b"hello\n", b'{"key": "a"}\n', b"\n", None])
def test_a_file_of_something_else_is_one_line_of_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "dead.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_dead_letters(path)
    assert len(str(caught.value).splitlines()) == 1

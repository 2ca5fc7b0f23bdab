"""Dead letters: the bytes unchanged, the place and the reason beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.dead_letters import (
    DeadLetterLine,
    HeaderLine,
    as_line,
    dead_letter_message,
    key_of_line,
    letter_of,
    message_bytes,
    read_dead_letters,
)
from worker.dead_letters.reads import Selection
from worker.endpoints import open_dead_letter_file
from worker.errors import ConfigError, Reason
from worker.transport.base import Headers, Partition, Record
from worker.types import DeadLettered
from worker.version import worker_version

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
RECORD = Record(Partition("posts.jsonl", 0), 3, None, b"not json", (("trace", b"abc"),))
FULL = replace(RECORD, key=b"k", timestamp=NOON)
LETTER = DeadLettered(RECORD, Reason.INVALID_JSON, "line 1", "decode", attempts=2)

headers = st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=50)), max_size=5).map(tuple)
times = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))
records = st.builds(
    Record,
    st.builds(Partition, st.from_regex(r"\A[A-Za-z0-9._-]{1,249}\Z"), st.integers(0, 10_000)),
    st.integers(0, 1 << 62),
    st.none() | st.binary(max_size=100),
    st.none() | st.binary(max_size=300),
    headers,
    timestamp=st.none() | times,
)
letters = st.builds(DeadLettered, records, st.sampled_from(Reason), st.text(), st.just("decode"))


def of(record: Record) -> DeadLettered:
    return replace(LETTER, record=record)


def write(path: Path, *letters: DeadLettered) -> list[DeadLetterLine]:
    sink = open_dead_letter_file(path)
    sink.write([dead_letter_message(letter) for letter in letters])
    sink.close()
    return list(read_dead_letters(path))


def decoded(line: bytes) -> DeadLetterLine:
    return msgspec.json.decode(line, type=DeadLetterLine)


def test_the_message_carries_raw_bytes_and_says_why_in_headers() -> None:
    message = dead_letter_message(of(FULL))
    assert message.key == b"posts.jsonl-0-3"
    assert message.value == b"not json"
    assert message.headers == (
        ("trace", b"abc"),
        ("reason", b"invalid_json"),
        ("detail", b"line 1"),
        ("stage", b"decode"),
        ("attempts", b"2"),
        ("source_topic", b"posts.jsonl"),
        ("source_partition", b"0"),
        ("source_offset", b"3"),
        ("source_timestamp", b"2026-11-21T12:00:00+00:00"),
        ("source_key", b"k"),
        ("worker_version", worker_version().encode()),
    )


def test_what_a_record_does_not_have_is_no_header() -> None:
    names = {name for name, _ in dead_letter_message(LETTER).headers}
    assert names.isdisjoint({"source_key", "source_timestamp", "tombstone", "pointer"})


def test_a_letter_is_read_back_from_a_file(tmp_path: Path) -> None:
    (line,) = write(tmp_path / "dead.jsonl", of(FULL))
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
        record_key="k",
        record_timestamp=NOON,
        headers=[HeaderLine("trace", "abc")],
    )


@settings(deadline=None)  # the machine may be busy
@given(records)
def test_any_record_comes_back_unchanged_from_a_message_and_a_line(record: Record) -> None:
    message = dead_letter_message(of(record))
    line = as_line(message)
    assert b"\n" not in line
    assert key_of_line(line) == message.key
    assert letter_of(message).record() == decoded(line).record() == record


@settings(deadline=None)
@given(records)
def test_any_line_obeys_the_schema(record: Record) -> None:
    schema = json.loads((Path(__file__).parents[2] / "worker/schemas/dead_letter.json").read_bytes())
    jsonschema.Draft202012Validator(schema).validate(json.loads(as_line(dead_letter_message(of(record)))))


def test_a_take_down_is_told_from_an_empty_value() -> None:
    empty, tombstone = (
        letter_of(dead_letter_message(of(replace(RECORD, value=value)))) for value in (b"", None)
    )
    assert (empty.record().value, tombstone.record().value) == (b"", None)


def test_headers_keep_their_order_and_repeats() -> None:
    own: Headers = (("b", b"1"), ("a", b"\xff"), ("b", b"2"))
    line = decoded(as_line(dead_letter_message(of(replace(RECORD, headers=own)))))
    assert line.record().headers == own


def test_headers_of_old_lines_are_read() -> None:
    line = json.loads(as_line(dead_letter_message(LETTER))) | {"headers": {"trace": "abc"}}
    assert decoded(json.dumps(line).encode()).record().headers == (("trace", b"abc"),)


@pytest.mark.parametrize("name", ["reason", "source_offset", "pointer", "tombstone", "source_key"])
def test_a_header_of_the_record_cannot_pose_as_ours(name: str) -> None:
    forged = replace(RECORD, headers=((name, b"x"), ("reason", b"empty_post")))
    letter = letter_of(dead_letter_message(of(forged)))
    assert (letter.reason, letter.offset, letter.is_pointer) == ("invalid_json", 3, False)
    assert letter.record() == forged


def test_a_record_over_the_limit_is_a_pointer_with_its_size_and_hash() -> None:
    large = replace(FULL, value=b"x" * 5000)
    message = dead_letter_message(of(large), limit_bytes=5000)
    assert message.value == b""
    found = dict(message.headers)
    assert found["pointer"] == b"posts.jsonl-0-3"
    assert found["value_bytes"] == b"5000"
    assert found["value_sha256"] == sha256(b"x" * 5000).hexdigest().encode()
    assert (found["trace"], found["source_key"]) == (b"abc", b"k")


def test_a_record_just_below_the_limit_is_copied() -> None:
    whole = dead_letter_message(of(FULL))
    assert dead_letter_message(of(FULL), limit_bytes=message_bytes(whole)) == whole
    assert dead_letter_message(of(FULL), limit_bytes=message_bytes(whole) - 1).value == b""


@settings(deadline=None)
@given(letters, st.integers(0, 20_000), st.integers(0, 20_000))
def test_no_letter_is_larger_than_the_limit(letter: DeadLettered, header: int, key: int) -> None:
    record = replace(letter.record, key=b"k" * key, headers=(*letter.record.headers, ("h", b"x" * header)))
    message = dead_letter_message(replace(letter, record=record), limit_bytes=4096)
    assert message_bytes(message) <= 4096
    assert letter_of(message).offset == record.offset


def test_the_size_of_a_message_is_at_least_what_the_client_reckons() -> None:
    from kafka.record.default_records import DefaultRecordBatchBuilder

    message = dead_letter_message(of(replace(FULL, value=b"x" * 100_000)))
    reckoned = DefaultRecordBatchBuilder.estimate_size_in_bytes(message.key, message.value, message.headers)
    assert reckoned <= message_bytes(message) <= reckoned + 200


def test_a_pointer_knows_its_record_by_size_and_hash() -> None:
    large = replace(FULL, value=b"x" * 5000)
    letter = letter_of(dead_letter_message(of(large), limit_bytes=5000))
    assert letter.is_pointer
    assert letter.is_of(large)
    assert not letter.is_of(replace(large, value=b"y" * 5000))
    assert not letter.is_of(replace(large, value=None))


def test_a_message_of_something_else_is_refused() -> None:
    message = replace(dead_letter_message(LETTER), headers=(("trace", b"abc"),))
    with pytest.raises(ValueError, match="no header 'reason'"):
        letter_of(message)


def test_the_same_letter_again_is_not_appended(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    write(path, LETTER, LETTER)
    write(path, LETTER)
    assert len(path.read_bytes().splitlines()) == 1


def test_of_one_key_the_last_letter_counts(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    other = replace(LETTER, reason=Reason.EMPTY_POST)
    write(path, LETTER, of(replace(RECORD, offset=4)))
    letters = write(path, other)
    assert {letter.offset: letter.reason for letter in letters} == {3: "empty_post", 4: "invalid_json"}
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


LINE = letter_of(dead_letter_message(of(FULL)), written_at=NOON + timedelta(hours=1))


@pytest.mark.parametrize(
    "selection",
    [
        Selection(),
        Selection(reasons=frozenset({"invalid_json", "empty_post"})),
        Selection(stage="decode"),
        Selection(source_topic="posts.jsonl"),
        Selection(key="k"),
        Selection(offsets=(3, 3)),
        Selection(since=NOON + timedelta(minutes=1)),
        Selection(until=NOON + timedelta(minutes=61)),
    ],
)
def test_a_selection_takes_a_letter_that_agrees_with_it(selection: Selection) -> None:
    assert selection.takes(LINE)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(reasons=frozenset({"empty_post"})),
        Selection(stage="encode"),
        Selection(source_topic="posts"),
        Selection(key="K"),
        Selection(offsets=(4, 9)),
        Selection(since=NOON + timedelta(minutes=61)),
        Selection(until=NOON + timedelta(minutes=60)),
        Selection(stage="decode", key="other"),
    ],
)
def test_a_selection_leaves_a_letter_that_disagrees_in_one_thing(selection: Selection) -> None:
    assert not selection.takes(LINE)


def test_a_letter_of_a_file_has_the_time_of_its_record() -> None:
    in_file = letter_of(dead_letter_message(of(FULL)))
    assert Selection(since=NOON).takes(in_file)
    assert not Selection(until=NOON).takes(in_file)


def test_a_letter_without_any_time_is_not_meant_by_one() -> None:
    assert not Selection(since=NOON).takes(letter_of(dead_letter_message(LETTER)))

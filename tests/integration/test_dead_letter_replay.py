"""`entityclip dead-letters list|replay` over files, and over topics of a real Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.kafka.broker import Broker
from worker.cli.main import run_command
from worker.dead_letters import dead_letter_message
from worker.endpoints import open_dead_letter_file
from worker.errors import Reason
from worker.observe.metrics import Metrics
from worker.sections import KafkaConfig
from worker.transport.base import Headers, Message, Partition, Record
from worker.types import DeadLettered

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def letter(
    value: bytes | None,
    *,
    offset: int = 0,
    topic: str = "posts.jsonl",
    key: bytes | None = None,
    headers: Headers = (),
    reason: Reason = Reason.INVALID_JSON,
    timestamp: datetime | None = None,
) -> DeadLettered:
    record = Record(Partition(topic, 0), offset, key, value, headers, timestamp=timestamp)
    return DeadLettered(record, reason, "why", "decode")


@dataclass
class Cli:
    """Runs a command in this process."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """The output, errors included; checks the exit code."""
        found = run_command(["dead-letters", *arguments])
        captured = self.capsys.readouterr()
        assert found == code, captured
        return captured.out + captured.err


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    return tmp_path / "dead.jsonl"


def keep(path: Path, *letters: DeadLettered) -> None:
    sink = open_dead_letter_file(path)
    sink.write([dead_letter_message(each) for each in letters])
    sink.close()


def test_list_counts_the_letters_by_reason(cli: Cli, dead: Path) -> None:
    keep(dead, letter(b"a"), letter(b"b", offset=1), letter(b"c", offset=2, reason=Reason.EMPTY_POST))
    shown = cli("list", str(dead))
    assert shown.index("invalid_json") < shown.index("empty_post")
    assert "3 of 3" in shown


def test_list_shows_only_what_is_asked_for(cli: Cli, dead: Path) -> None:
    keep(dead, *(letter(f"value {number}".encode(), offset=number) for number in range(5)))
    shown = cli("list", str(dead), "--offsets", "1-2")
    assert "2 of 2" in shown
    assert [number for number in range(5) if f"value {number}" in shown] == [1, 2]


def test_list_takes_several_reasons(cli: Cli, dead: Path) -> None:
    reasons = (Reason.INVALID_JSON, Reason.EMPTY_POST, Reason.IMAGE_FORMAT)
    keep(dead, *(letter(b"x", offset=number, reason=reason) for number, reason in enumerate(reasons)))
    shown = cli("list", str(dead), "--reason", "empty_post", "--reason", "image_format")
    assert "2 of 2" in shown
    assert "invalid_json" not in shown


def test_list_counts_beyond_what_it_shows(cli: Cli, dead: Path) -> None:
    keep(dead, *(letter(b"x", offset=number) for number in range(5)))
    assert "2 of 5" in cli("list", f"file:{dead}", "--limit", "2")


def test_list_tells_a_take_down(cli: Cli, dead: Path) -> None:
    keep(dead, letter(None))
    assert "(a take-down)" in cli("list", str(dead))


def test_lines_are_replayed_as_they_were(cli: Cli, dead: Path, tmp_path: Path) -> None:
    values = [b'{"id": "a"}', b"not json", b"\xff\xfe"]
    keep(dead, *(letter(value, offset=number) for number, value in enumerate(values)))
    again = tmp_path / "again.jsonl"
    assert "3 replayed" in cli("replay", str(dead), "--to", f"file:{again}")
    assert again.read_bytes() == b"\n".join(values) + b"\n"


def test_a_replay_is_appended_below_a_whole_line(cli: Cli, dead: Path, tmp_path: Path) -> None:
    keep(dead, letter(b"second"))
    again = tmp_path / "again.jsonl"
    again.write_bytes(b"first, torn")
    cli("replay", str(dead), "--to", f"file:{again}")
    assert again.read_bytes() == b"first, torn\nsecond\n"


def test_json_on_several_lines_is_joined_to_one(cli: Cli, dead: Path, tmp_path: Path) -> None:
    keep(dead, letter(b'{\n  "id": "a",\n  "n": 1.50\n}\n'))
    again = tmp_path / "again.jsonl"
    cli("replay", str(dead), "--to", f"file:{again}")
    assert again.read_bytes() == b'{"id":"a","n":1.50}\n'


@pytest.mark.parametrize("value", [None, b"", b"two\nlines"])
def test_what_is_no_line_is_counted_and_the_rest_replayed(
    cli: Cli, dead: Path, tmp_path: Path, value: bytes | None
) -> None:
    keep(dead, letter(value), letter(b"good", offset=1))
    again = tmp_path / "again.jsonl"
    shown = cli("replay", str(dead), "--to", f"file:{again}", code=1)
    assert "1 replayed" in shown
    assert "1 not replayed: not one line" in shown
    assert again.read_bytes() == b"good\n"


def test_a_dry_run_writes_nothing(cli: Cli, dead: Path, tmp_path: Path) -> None:
    keep(dead, letter(b"x"))
    again = tmp_path / "again.jsonl"
    assert "1 would be replayed" in cli("replay", str(dead), "--to", f"file:{again}", "--dry-run")
    assert not again.exists()


def test_a_limit_is_kept(cli: Cli, dead: Path, tmp_path: Path) -> None:
    keep(dead, *(letter(b"x", offset=number) for number in range(5)))
    again = tmp_path / "again.jsonl"
    cli("replay", str(dead), "--to", f"file:{again}", "--limit", "2")
    assert again.read_bytes() == b"x\nx\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["replay", "{dead}"], 2),
        (["replay", "{dead}", "--to", "file:{dead}"], 2),
        (["replay", "{dead}", "--to", "s3:bucket"], 78),
        (["list", "{dead}", "--offsets", "7-"], 2),
        (["list", "{dead}", "--since", "yesterday"], 2),
        (["list", "{dead}", "--reason", "no_such_reason"], 2),
        (["list", "{dead}.none"], 78),
        (["list", "kafka:no/topic"], 78),
    ],
)
def test_wrong_input_is_one_line(cli: Cli, dead: Path, arguments: Sequence[str], code: int) -> None:
    keep(dead, letter(b"x"))
    shown = cli(*(argument.format(dead=dead) for argument in arguments), code=code)
    assert len(shown.splitlines()) == 1


@dataclass
class Topics:
    """Two topics of the broker's, with one partition: posts, and their dead letters."""

    config: KafkaConfig
    posts: str
    dead: str

    def produce(self, topic: str, *messages: Message) -> None:
        from worker.transport.kafka.sink import KafkaSink

        sink = KafkaSink(self.config, topic, Metrics())
        sink.write(messages)
        sink.close()

    def read(self, topic: str) -> list[Record]:
        from worker.transport.kafka.clients import read_topic

        return list(read_topic(self.config, topic))

    def refuse(
        self, *records: Record, limit_bytes: int | None = None, reason: Reason = Reason.EMPTY_POST
    ) -> None:
        """Write a letter for each."""
        letters = [DeadLettered(record, reason, "why", "decode") for record in records]
        self.produce(self.dead, *(dead_letter_message(each, limit_bytes=limit_bytes) for each in letters))

    def replayed(self, before: Sequence[Record]) -> list[Record]:
        """What stands in the posts' topic now and did not before."""
        return self.read(self.posts)[len(before) :]


@pytest.fixture
def topics(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> Topics:
    name = uuid.uuid4().hex[:8]
    monkeypatch.setenv("ENTITYCLIP_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap)
    monkeypatch.setenv("ENTITYCLIP_KAFKA__PARTITIONS", "1")
    config = KafkaConfig(bootstrap_servers=kafka.bootstrap, partitions=1)
    return Topics(config, f"posts-{name}", f"posts-{name}.dead")


@pytest.fixture
def refused(topics: Topics) -> list[Record]:
    """Three records of the posts' topic that were refused."""
    topics.produce(
        topics.posts,
        Message(b"a", b'{"id": "a"}', (("trace", b"\xff"), ("x", b"1"), ("trace", b"2"))),
        Message(b"\xfe", b"\xff"),
        Message(b"c", b""),
    )
    records = topics.read(topics.posts)
    topics.refuse(*records)
    return records


def test_records_go_back_to_their_topic_as_they_were(cli: Cli, topics: Topics, refused: list[Record]) -> None:
    shown = cli("replay", f"kafka:{topics.dead}")
    assert f"3 replayed to kafka:{topics.posts}" in shown
    again = topics.replayed(refused)
    assert [(each.key, each.value) for each in again] == [(each.key, each.value) for each in refused]
    assert [each.headers for each in again] == [
        (*each.headers, ("replayed_from", f"{topics.posts}-0-{each.offset}".encode())) for each in refused
    ]


def test_a_record_that_was_replayed_before_names_its_last_letter(
    cli: Cli, topics: Topics, refused: list[Record]
) -> None:
    cli("replay", f"kafka:{topics.dead}", "--offsets", "0")
    (again,) = topics.replayed(refused)
    topics.refuse(again)
    cli("replay", f"kafka:{topics.dead}", "--offsets", "3")
    (_, last) = topics.replayed(refused)
    assert last.headers == (*refused[0].headers, ("replayed_from", f"{topics.posts}-0-3".encode()))


def test_records_can_go_to_another_topic(cli: Cli, topics: Topics, refused: list[Record]) -> None:
    other = f"{topics.posts}.other"
    cli("replay", f"kafka:{topics.dead}", "--to", f"kafka:{other}")
    assert [each.value for each in topics.read(other)] == [each.value for each in refused]
    assert topics.replayed(refused) == []


def test_take_downs_and_records_without_a_key_come_back_as_they_were(cli: Cli, topics: Topics) -> None:
    source = Partition(topics.posts, 0)
    tombstone = Record(source, 5, b"\xff", None, timestamp=NOON)
    keyless = Record(source, 6, None, b"x", timestamp=NOON)
    topics.refuse(tombstone, keyless)
    cli("replay", f"kafka:{topics.dead}")
    assert [(each.key, each.value) for each in topics.replayed([])] == [(b"\xff", None), (None, b"x")]


def test_a_take_down_without_a_key_cannot_be_replayed(cli: Cli, topics: Topics) -> None:
    topics.refuse(Record(Partition(topics.posts, 0), 5, None, None, timestamp=NOON))
    assert "1 not replayed: a take-down without a key" in cli("replay", f"kafka:{topics.dead}", code=1)


@pytest.fixture
def large(topics: Topics) -> Record:
    """A record that is too large to be copied into its letter."""
    topics.produce(topics.posts, Message(b"a", b"x" * 50_000, (("trace", b"1"),)), Message(b"b", b"y"))
    records = topics.read(topics.posts)
    topics.refuse(records[0], limit_bytes=10_000)
    return records[0]


def test_a_large_record_is_replayed_from_its_topic(cli: Cli, topics: Topics, large: Record) -> None:
    assert topics.read(topics.dead)[0].value == b""
    assert "1 replayed" in cli("replay", f"kafka:{topics.dead}")
    again = topics.read(topics.posts)[-1]
    assert (again.key, again.value) == (large.key, large.value)
    assert again.headers[0] == ("trace", b"1")


def test_a_large_record_is_listed_by_its_size(cli: Cli, topics: Topics, large: Record) -> None:
    assert "(50000 bytes, in the topic itself)" in cli("list", f"kafka:{topics.dead}")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda record: replace(record, offset=99), "no longer in its topic"),
        (lambda record: replace(record, offset=1), "another record has its place"),
        (lambda record: replace(record, partition=Partition("of-no-test", 0)), "its topic cannot be read"),
    ],
)
def test_a_large_record_that_is_not_there_any_more_is_counted(
    cli: Cli, topics: Topics, large: Record, change: Callable[[Record], Record], why: str
) -> None:
    topics.refuse(change(large), limit_bytes=10_000)
    shown = cli("replay", f"kafka:{topics.dead}", code=1)
    assert "1 replayed" in shown
    assert why in shown


def test_a_record_too_large_for_the_topic_is_counted(
    cli: Cli, topics: Topics, refused: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    large = Record(Partition(topics.posts, 0), 9, b"k", b"x" * 5000, timestamp=NOON)
    topics.refuse(large)
    monkeypatch.setenv("ENTITYCLIP_KAFKA__REQUEST_BYTES", "2048")
    shown = cli("replay", f"kafka:{topics.dead}", code=1)
    assert "3 replayed" in shown
    assert "1 not replayed: too large for the topic" in shown


def test_a_letter_from_a_file_needs_a_destination(cli: Cli, topics: Topics) -> None:
    topics.refuse(Record(Partition("/data/posts.jsonl", 0), 0, None, b"x"))
    assert "say where to with --to" in cli("replay", f"kafka:{topics.dead}", code=1)


def test_of_several_letters_of_one_record_the_last_one_counts(
    cli: Cli, topics: Topics, refused: list[Record]
) -> None:
    topics.refuse(refused[0], reason=Reason.IMAGE_FORMAT)
    shown = cli("list", f"kafka:{topics.dead}")
    assert "3 of 3" in shown
    assert "image_format" in shown


def test_a_deleted_letter_is_none(cli: Cli, topics: Topics, refused: list[Record]) -> None:
    from worker.dead_letters.targets import TopicTarget
    from worker.transport.spec import Spec

    key = f"{topics.posts}-0-0".encode()
    with TopicTarget(topics.config) as target:
        target.write(Spec("kafka", topics.dead), [replace(refused[0], key=key, value=None)])
    assert "2 of 2" in cli("list", f"kafka:{topics.dead}")


def test_letters_are_chosen_by_the_time_when_they_were_written(
    cli: Cli, topics: Topics, refused: list[Record]
) -> None:
    assert "3 of 3" in cli("list", f"kafka:{topics.dead}", "--since", "1h")
    assert "no dead letters" in cli("list", f"kafka:{topics.dead}", "--until", "1h")


def test_letters_are_chosen_by_key_and_topic(cli: Cli, topics: Topics, refused: list[Record]) -> None:
    where = f"kafka:{topics.dead}"
    assert "1 of 1" in cli("list", where, "--key", "a", "--source-topic", topics.posts)
    assert "no dead letters" in cli("list", where, "--source-topic", "other")


def test_a_topic_of_something_else_is_one_line(cli: Cli, topics: Topics, refused: list[Record]) -> None:
    assert f"{topics.posts}-0-0 is no dead letter" in cli("list", f"kafka:{topics.posts}", code=78)


def test_a_missing_topic_is_one_line(cli: Cli, topics: Topics) -> None:
    shown = cli("list", "kafka:missing", code=78)
    assert "no topic missing" in shown
    assert len(shown.splitlines()) == 1

"""File sources: what is delivered, and where an interrupted run goes on."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from worker.errors import ConfigError, FatalError, InvalidPost, Reason, TransientError
from worker.posts import PostLimits, decode_post
from worker.transport.base import Record
from worker.transport.files import FileSource
from worker.transport.lines import LineReader
from worker.transport.spec import SOURCE, Spec, parse_spec

CAP = 1 << 20


def opened(path: Path, offsets: Path | None = None, cap: int = CAP, own: Sequence[Path] = ()) -> FileSource:
    return FileSource(str(path), offsets, cap, own)


def drain(source: FileSource) -> list[Record]:
    records: list[Record] = []
    while not source.exhausted():
        records += source.poll(0.1)
    return records


def everything(path: Path, cap: int = CAP) -> list[Record]:
    source = opened(path, cap=cap)
    records = drain(source)
    source.close()
    return records


def posts(path: Path) -> list[dict[str, object]]:
    return [json.loads(record.value or b"") for record in everything(path)]


def commit_first(source: FileSource, records: list[Record], count: int) -> None:
    source.commit({record.partition: record.offset + 1 for record in records[:count]})


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """300 lines; line 100 and the one after it are blank."""
    path = tmp_path / "posts.jsonl"
    lines = [b'{"id": "%d"}' % number for number in range(300)]
    lines[100] = lines[101] = b""
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.fixture
def offsets(tmp_path: Path) -> Path:
    return tmp_path / "state" / "offsets.json"


def ids(records: list[Record]) -> list[int]:
    return [int(json.loads(record.value or b"")["id"]) for record in records]


def test_the_offset_is_the_line_number_and_blank_lines_are_skipped(numbers: Path) -> None:
    records = everything(numbers)
    expected = [*range(100), *range(102, 300)]
    assert ids(records) == expected
    assert [record.offset for record in records] == expected
    assert {(record.partition.topic, record.partition.number) for record in records} == {(str(numbers), 0)}


def test_a_last_line_without_its_end_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b'{"id": "0"}\r\n  \r\n{"id": "2"}')
    assert [record.value for record in everything(path)] == [b'{"id": "0"}', b'{"id": "2"}']


def test_bytes_that_are_no_utf8_are_delivered_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b"\xff\xfe\n")
    assert [record.value for record in everything(path)] == [b"\xff\xfe"]


@pytest.mark.parametrize("length", [1001, 300_000, 2_000_000])
def test_a_line_over_the_cap_is_cut_and_the_next_one_is_whole(tmp_path: Path, length: int) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b'{"id": "0"}\n' + b"x" * length + b'\n{"id": "2"}\n')
    records = everything(path, cap=1000)
    assert [len(record.value or b"") for record in records] == [11, 1001, 11]
    assert [record.offset for record in records] == [0, 1, 2]
    with pytest.raises(InvalidPost) as caught:
        decode_post(records[1], PostLimits(record_bytes=1000))
    assert caught.value.reason is Reason.TEXT_TOO_LARGE


def test_an_empty_file_is_exhausted_after_one_poll(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.touch()
    assert everything(path) == []


def test_a_paused_source_delivers_nothing(numbers: Path) -> None:
    source = opened(numbers)
    source.pause()
    assert source.poll(0.0) == []
    source.resume()
    assert len(source.poll(1.0)) > 0
    source.close()


@pytest.mark.parametrize("done", [1, 99, 100, 101, 250])
def test_an_interrupted_run_is_resumed(numbers: Path, offsets: Path, done: int) -> None:
    first = opened(numbers, offsets)
    records = drain(first)
    commit_first(first, records, done)
    first.close()
    second = opened(numbers, offsets)
    assert second.resumed_from == records[done - 1].offset + 1
    assert drain(second) == records[done:]
    second.close()


def test_a_commit_may_jump_over_blank_lines(numbers: Path, offsets: Path) -> None:
    first = opened(numbers, offsets)
    records = drain(first)
    first.commit({records[0].partition: 102})
    first.close()
    second = opened(numbers, offsets)
    assert drain(second) == records[100:]
    second.close()


def test_a_resumed_run_can_be_interrupted_again(numbers: Path, offsets: Path) -> None:
    left = everything(numbers)
    for _ in range(3):
        source = opened(numbers, offsets)
        assert drain(source) == left
        commit_first(source, left, 50)
        source.close()
        left = left[50:]


def test_a_finished_file_starts_anew(numbers: Path, offsets: Path) -> None:
    first = opened(numbers, offsets)
    records = drain(first)
    commit_first(first, records, len(records))
    first.close()
    second = opened(numbers, offsets)
    assert second.resumed_from == 0
    assert drain(second) == records
    second.close()


def test_nothing_is_skipped_without_a_commit(numbers: Path, offsets: Path) -> None:
    first = opened(numbers, offsets)
    records = drain(first)
    first.close()
    second = opened(numbers, offsets)
    assert drain(second) == records
    second.close()


@pytest.mark.parametrize("change", ["beginning", "shorter", "shifted"])
def test_another_content_under_the_same_name_starts_anew(tmp_path: Path, offsets: Path, change: str) -> None:
    path = tmp_path / "posts.jsonl"
    lines = [b'{"id": "%d"}' % number for number in range(1000)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    first = opened(path, offsets)
    commit_first(first, drain(first), 900)
    first.close()
    if change == "beginning":
        lines[0] = b'{"id": "7"}'
    lines = lines[:600] if change == "shorter" else lines
    lines[500] += b" " if change == "shifted" else b""
    path.write_bytes(b"\n".join(lines) + b"\n")
    second = opened(path, offsets)
    assert second.resumed_from == 0
    assert len(drain(second)) == len(lines)
    second.close()


def test_a_file_that_grew_is_resumed(tmp_path: Path, offsets: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b"".join(b'{"id": "%d"}\n' % number for number in range(1000)))
    first = opened(path, offsets)
    commit_first(first, drain(first), 900)
    first.close()
    with path.open("ab") as file:
        file.write(b'{"id": "1000"}\n')
    second = opened(path, offsets)
    assert ids(drain(second)) == list(range(900, 1001))
    second.close()


def test_two_sources_share_one_offsets_file(numbers: Path, tmp_path: Path, offsets: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_bytes(numbers.read_bytes())
    for path, done in ((numbers, 10), (other, 20)):
        source = opened(path, offsets)
        commit_first(source, drain(source), done)
        source.close()
    assert [opened(path, offsets).resumed_from for path in (numbers, other)] == [10, 20]


def test_offsets_that_cannot_be_read_are_a_configuration_error(numbers: Path, tmp_path: Path) -> None:
    broken = tmp_path / "offsets.json"
    broken.write_text("[]")
    with pytest.raises(ConfigError, match="remove the file to start anew"):
        opened(numbers, broken)


def test_offsets_that_cannot_be_written_are_transient(numbers: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    source = opened(numbers)
    source._offsets = tmp_path / "folder.json"
    records = drain(source)
    (tmp_path / f"folder.json.{os.getpid()}.part").mkdir()  # in the way of the new file
    with pytest.raises(TransientError, match="cannot be written"):
        source.commit({records[0].partition: 1})
    source.close()


@pytest.mark.parametrize("spec", ["posts.jsonl", "kafka:", "kafka:a/b", "kafka:..", "file:", "", "s3:b"])
def test_an_unknown_kind_of_source_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="source"):
        parse_spec(spec, SOURCE)


def test_a_topic_is_named_by_its_kind() -> None:
    assert parse_spec("kafka:news.posts", SOURCE) == Spec("kafka", "news.posts")


def test_standard_output_is_no_sink() -> None:
    with pytest.raises(ConfigError, match="must be a file"):
        parse_spec("file:-", "sink")


def test_a_missing_file_is_one_line_of_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file") as caught:
        opened(tmp_path / "none.jsonl")
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard input becomes a pipe; gives the end to write to."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file:
        monkeypatch.setattr("sys.stdin", file)
        yield writing


def test_standard_input_is_read_as_it_comes(pipe: int, offsets: Path) -> None:
    source = FileSource("-", offsets, CAP)
    assert source.media_root is None
    assert source.poll(0.01) == []
    os.write(pipe, b'{"id": "0"}\n{"id"')
    assert ids(list(source.poll(5))) == [0]
    assert not source.exhausted()
    os.write(pipe, b': "1"}')
    os.close(pipe)
    records = drain(source)
    assert ids(records) == [1]
    source.commit({records[0].partition: 2})
    source.close()
    assert not offsets.exists()


def test_a_poll_ends_in_time_though_bytes_keep_coming(pipe: int) -> None:
    source = FileSource("-", None, CAP)
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.01):
            os.write(pipe, b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        assert source.poll(0.05) == []  # would never return if each byte began the waiting anew
    finally:
        stop.set()
        thread.join()
    os.close(pipe)
    source.close()


def test_a_named_pipe_without_a_writer_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "posts.fifo"
    os.mkfifo(path)
    source = opened(path)
    polls: list[Sequence[Record]] = []
    polling = threading.Thread(target=lambda: polls.append(source.poll(0.01)), daemon=True)
    polling.start()
    polling.join(10)
    assert polls == [[]]
    assert not source.exhausted()
    with path.open("wb") as file:
        file.write(b'{"id": "0"}\n')
        file.flush()
        assert ids(list(source.poll(5))) == [0]
    assert drain(source) == []
    source.close()


def test_a_named_pipe_keeps_no_note_for_the_next_run(tmp_path: Path, offsets: Path) -> None:
    """What comes through it then are other records, which must not answer for these."""
    path = tmp_path / "posts.fifo"
    os.mkfifo(path)
    killed = opened(path, offsets)
    (partition,) = killed._readers
    killed.mark({partition: "in flight"})
    assert opened(path, offsets).note(partition) == ""


def test_a_source_that_breaks_off_is_fatal(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_text("{}")
    reader = LineReader(path, CAP)
    path.unlink()
    with pytest.raises(FatalError, match="broke off"):
        reader.read(0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    files = {
        "b.jpg": b"B",
        "b.txt": "\ufeffCaption é\n".encode(),
        "a/deep.PNG": b"D",
        "a/deep.TXT": b"Deep",
        "c.webp": b"C",
        "note.txt": b"A lone text",
        "readme.md": b"ignored",
        ".hidden.jpg": b"ignored",
        ".git/x.jpg": b"ignored",
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_a_folder_becomes_posts_in_a_fixed_order(folder: Path) -> None:
    assert posts(folder) == [
        {"id": "a/deep.PNG", "images": [{"path": "a/deep.PNG"}], "text": "Deep"},
        {"id": "b.jpg", "images": [{"path": "b.jpg"}], "text": "Caption é"},
        {"id": "c.webp", "images": [{"path": "c.webp"}]},
        {"id": "note.txt", "text": "A lone text"},
    ]


def test_pictures_beside_a_jsonl_file_are_only_what_its_posts_name(folder: Path) -> None:
    line = {"id": "j", "images": [{"path": "c.webp"}], "text": "C"}
    (folder / "captions.jsonl").write_text(json.dumps(line) + "\n")
    assert posts(folder) == [line]


def test_what_the_run_itself_writes_into_a_folder_is_none_of_its_posts(folder: Path) -> None:
    before = posts(folder)
    (folder / "matches.jsonl").write_text('{"match_id": "m"}\n')
    (folder / "media" / "ab").mkdir(parents=True)
    (folder / "media" / "ab" / "abc.jpg").write_bytes(b"thumbnail")
    own = [folder / "matches.jsonl", folder / "media", folder.parent, folder]  # those around it say nothing
    source = opened(folder, own=own)
    assert [json.loads(record.value or b"") for record in drain(source)] == before
    source.close()


def test_a_file_that_the_run_itself_writes_is_no_source(numbers: Path) -> None:
    with pytest.raises(ConfigError, match="where this run writes"):
        opened(numbers, own=[numbers])


def test_long_captions_are_delivered_a_few_at_a_time(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.txt").write_text("x" * (1 << 20))
    source = opened(tmp_path, cap=2 << 20)
    polls = []
    while not source.exhausted():
        polls.append(source.poll(0.1))
    source.close()
    assert sum(map(len, polls)) == 40
    assert max(sum(len(record.value or b"") for record in records) for records in polls) < 10 << 20


def test_every_post_of_a_folder_is_valid(folder: Path) -> None:
    assert [decode_post(record).id for record in everything(folder)][-1] == "note.txt"


def test_links_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "secret.jsonl").write_text('{"id": "secret"}\n')
    (folder / "c.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "d.jsonl").symlink_to(tmp_path / "secret.jsonl")
    assert "secret" not in json.dumps(posts(folder))


def test_a_caption_over_the_cap_is_refused_by_decoding(folder: Path) -> None:
    (folder / "note.txt").write_bytes(b"x" * 5000)
    record = everything(folder, cap=1000)[3]
    with pytest.raises(InvalidPost) as caught:
        decode_post(record, PostLimits(record_bytes=1000))
    assert caught.value.reason is Reason.TEXT_TOO_LARGE


def test_a_file_name_that_is_no_text_is_refused_by_decoding(folder: Path) -> None:
    os.rename(folder / "c.webp", os.fsencode(folder) + b"/\xff.webp")
    refused = []
    for record in everything(folder):
        try:
            decode_post(record)
        except InvalidPost as error:
            refused.append(error.reason)
    assert refused == [Reason.INVALID_SCHEMA]


def test_a_folder_is_resumed_in_each_of_its_parts(folder: Path, offsets: Path) -> None:
    for name in ("a.jsonl", "b/c.jsonl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"".join(b'{"id": "%d"}\n' % number for number in range(4)))
    records = everything(folder)
    assert len(records) == 8
    for done in range(1, len(records)):
        first = opened(folder, offsets)
        assert drain(first) == records
        commit_first(first, records, done)
        first.close()
        second = opened(folder, offsets)
        assert second.resumed_from == done
        left = drain(second)
        assert left == records[done:]
        commit_first(second, left, len(left))
        second.close()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_files_that_were_read_are_not_held_open(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number:03}.jsonl").write_bytes(b'{"id": "%d"}\n' % number)
    source = opened(tmp_path)
    before = open_files()
    assert ids(drain(source)) == list(range(300))
    assert open_files() == before
    source.close()


def test_a_folder_of_nothing_is_one_line_of_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no pictures"):
        opened(tmp_path)


def test_image_paths_are_looked_up_beside_the_file(numbers: Path, folder: Path) -> None:
    assert opened(numbers).media_root == numbers.parent
    assert opened(folder).media_root == folder

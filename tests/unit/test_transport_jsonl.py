"""The JSONL sink: durable, exclusive, and nothing twice."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

from worker.errors import ConfigError, TransientError
from worker.transport.base import Message
from worker.transport.jsonl import JsonlSink


def message(key: str, word: str = "w") -> Message:
    return Message(key.encode(), msgspec.json.encode({"key": key, "word": word}))


def key_of(line: bytes) -> bytes:
    return msgspec.json.decode(line, type=dict[str, str])["key"].encode()


def words(path: Path) -> list[str]:
    lines = path.read_bytes().splitlines()
    return [msgspec.json.decode(line, type=dict[str, str])["word"] for line in lines]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "out.jsonl"


def written(path: Path, *batches: list[Message], replace: bool = False) -> None:
    sink = JsonlSink(path, key_of=key_of, replace=replace)
    for batch in batches:
        sink.write(batch)
    sink.close()


def test_a_batch_is_in_the_file_when_write_returns(path: Path) -> None:
    sink = JsonlSink(path)
    sink.write([message("a", "x"), message("b", "y")])
    assert words(path) == ["x", "y"]
    sink.close()


def test_without_keys_every_message_is_written(path: Path) -> None:
    sink = JsonlSink(path)
    sink.write([message("a"), message("a")])
    sink.write([message("a")])
    assert words(path) == ["w", "w", "w"]
    assert sink.known([b"a"]) == set()
    sink.close()


def test_a_key_is_written_once_within_a_batch_and_over_runs(path: Path) -> None:
    written(path, [message("a", "first"), message("a", "second")], [message("a", "third")])
    written(path, [message("a", "fourth"), message("b", "fifth")])
    assert words(path) == ["first", "fifth"]


def test_seen_knows_what_earlier_runs_wrote(path: Path) -> None:
    written(path, [message("a")])
    sink = JsonlSink(path, key_of=key_of)
    assert sink.known([b"a", b"b"]) == {b"a"}
    sink.close()


def test_a_replacing_sink_writes_only_what_changed(path: Path) -> None:
    batches = [[message("a", "x")], [message("a", "x")], [message("a", "y")], [message("a", "x")]]
    written(path, *batches, replace=True)
    assert words(path) == ["x", "y", "x"]
    written(path, [message("a", "x")], replace=True)
    assert words(path) == ["x", "y", "x"]


def test_a_second_writer_is_refused(path: Path) -> None:
    first = JsonlSink(path)
    with pytest.raises(ConfigError, match="being written by another process"):
        JsonlSink(path)
    first.close()
    JsonlSink(path).close()


@pytest.mark.parametrize("torn", [b"{", b'{"key":"b","wo'])
@pytest.mark.parametrize("before", [0, 1])
def test_a_torn_last_line_is_cut(path: Path, torn: bytes, before: int) -> None:
    written(path, [message(str(number)) for number in range(before)])
    with path.open("ab") as file:
        file.write(torn)
    written(path, [message("b")])
    assert words(path) == ["w"] * (before + 1)


def test_a_whole_last_line_without_its_end_is_kept(path: Path) -> None:
    written(path, [message("a", "x")])
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    written(path, [message("a", "again"), message("b", "y")])
    assert words(path) == ["x", "y"]


@pytest.mark.parametrize(
    "content", [b"notes", b"notes\n", b'[{"key": "a"}]\n', b'{"other": "x"}', b'{"other": "x"}\n', b"\n"]
)
def test_somebody_elses_file_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        JsonlSink(path, key_of=_strict_key)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == content


def _strict_key(line: bytes) -> bytes:
    class Line(msgspec.Struct):
        key: str

    return msgspec.json.decode(line, type=Line).key.encode()


def test_a_folder_is_no_sink(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        JsonlSink(tmp_path)


def test_a_failed_write_leaves_nothing_and_may_be_repeated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = JsonlSink(path, key_of=key_of)
    sink.write([message("a", "x")])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(TransientError, match="No space left"):
            sink.write([message("b", "y")])
        assert words(path) == ["x"]
        assert sink.known([b"b"]) == set()
    sink.write([message("b", "y")])
    assert words(path) == ["x", "y"]
    sink.close()


def test_what_was_acknowledged_survives_kill(path: Path) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from worker.transport.base import Message
        from worker.transport.jsonl import JsonlSink
        JsonlSink(Path({str(path)!r})).write([Message(b"a", b'{{"key":"a","word":"x"}}')])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=root, check=False, timeout=60)
    assert ended.returncode == -9
    written(path, [message("a"), message("b", "y")])
    assert words(path) == ["x", "y"]

"""The output of `entityclip explain`: torn lines, entries that go, and who may write it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from worker.errors import ConfigError
from worker.explain_dataset.journal import Entry, Journal
from worker.types import ExplanationStatus

GENERATED, FAILED = ExplanationStatus.GENERATED, ExplanationStatus.FAILED


def entry(id: str, status: ExplanationStatus = GENERATED) -> Entry:
    return Entry(id, f"{id}.jpg", f"look of {id} – ü" if status is GENERATED else "", status)


def not_failed(entry: Entry) -> bool:
    return entry.status is not FAILED


def written(path: Path, *entries: Entry) -> bytes:
    with Journal(path) as journal:
        journal.append(entries)
    return path.read_bytes()


def test_a_line_is_the_json_that_is_documented(tmp_path: Path) -> None:
    written(tmp_path / "o.jsonl", entry("a"))
    (line,) = (tmp_path / "o.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line) == {
        "id": "a",
        "image": "a.jpg",
        "explanation": "look of a – ü",
        "status": "generated",
    }


def test_what_stands_in_the_file_is_done(tmp_path: Path) -> None:
    before = written(tmp_path / "o.jsonl", entry("a"), entry("b"))
    with Journal(tmp_path / "o.jsonl") as journal:
        assert journal.done == {"a", "b"}
        assert journal.find({"b"}) == {"b": entry("b")}
    assert (tmp_path / "o.jsonl").read_bytes() == before


@pytest.mark.parametrize("left", range(1, 20, 3))
def test_a_torn_last_line_is_cut_off(tmp_path: Path, left: int) -> None:
    path = tmp_path / "o.jsonl"
    whole = written(path, entry("a"))
    path.write_bytes(whole + whole[:left])
    with Journal(path) as journal:
        assert journal.done == {"a"}
        journal.append([entry("b")])
    assert path.read_bytes() == whole + whole.replace(b"look of a", b"look of b").replace(b'"a', b'"b')


def test_a_line_that_lacks_only_its_end_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    whole = written(path, entry("a"))
    path.write_bytes(whole.rstrip())
    with Journal(path) as journal:
        assert journal.done == {"a"}
    assert path.read_bytes() == whole


def test_entries_that_are_not_kept_are_dropped_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    written(path, entry("a"), entry("b", FAILED), entry("c"))
    with Journal(path, not_failed) as journal:
        assert journal.done == {"a", "c"}
        journal.append([entry("b")])
        assert [each.id for each in journal.entries()] == ["a", "c", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["o.jsonl"]


def test_of_two_entries_of_one_id_the_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    path.write_bytes(written(path, entry("a")) * 2)
    with Journal(path) as journal:
        assert len(list(journal.entries())) == 1


@pytest.mark.parametrize(
    "text", ['{"id":"a","text":"A caption."}\n', '{"id":"a","text":"A caption."}', "buy milk", "\n", "[]\n"]
)
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"pairs.jsonl .*line 1 is none"):
        Journal(path)
    assert path.read_text() == text


def test_broken_lines_before_the_last_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    whole = written(path, entry("a"))
    path.write_bytes(whole[:9] + b"\n" + whole)
    with pytest.raises(ConfigError, match="line 1 is none"):
        Journal(path)


def test_a_second_run_on_the_same_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    with Journal(path), pytest.raises(ConfigError, match="is being written by another run"):
        Journal(path)


def test_a_second_run_is_refused_after_the_file_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    written(path, entry("a", FAILED))
    with Journal(path, not_failed), pytest.raises(ConfigError, match="is being written by another run"):
        Journal(path)


def test_a_link_stays_a_link_when_the_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "o.jsonl"
    link.symlink_to(tmp_path / "real" / "o.jsonl")
    written(link, entry("a", FAILED), entry("b"))
    Journal(link, not_failed).close()
    assert link.is_symlink()
    assert b'"b"' in (tmp_path / "real" / "o.jsonl").read_bytes()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"o\.jsonl cannot be written: File exists"):
        Journal(tmp_path / "file" / "o.jsonl")

"""The store of pictures: each once, and whatever a crash leaves behind is repaired."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from model.data.picture_store import JOURNAL_NAME, PictureStore, shard_name
from model.data.pictures import BoundedPicture, PictureFile


def file(name: str, size: int = 10, modified: int = 1) -> PictureFile:
    return PictureFile(name, size, modified, partial(bytes, b""))


def picture(number: int) -> BoundedPicture:
    return BoundedPicture(b"jpeg %d" % number * 10, number.to_bytes(16, "big"), (number, 2, 3))


def fill(folder: Path, numbers: range, settings: str = "as ever", shard_bytes: int = 1 << 30) -> None:
    with PictureStore(folder, settings, shard_bytes) as store:
        for number in numbers:
            if not store.holds(0, file(f"{number}.jpg")):
                store.add(0, file(f"{number}.jpg"), picture(number))


def stored(folder: Path) -> dict[str, bytes]:
    """Every picture's bytes, read back through a new store."""
    found = {}
    with PictureStore(folder, "as ever") as store:
        for number in range(30):
            if (one := store.get(0, f"{number}.jpg")) is not None:
                data = (folder / shard_name(one.shard)).read_bytes()
                found[one.name] = data[one.offset : one.offset + one.length]
    return found


def expected(numbers: range) -> dict[str, bytes]:
    return {f"{number}.jpg": picture(number).jpeg for number in numbers}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_pictures_are_read_back_after_reopening(tmp_path: Path) -> None:
    fill(tmp_path, range(20))
    assert stored(tmp_path) == expected(range(20))


def test_a_new_file_is_begun_when_one_is_full(tmp_path: Path) -> None:
    fill(tmp_path, range(20), shard_bytes=200)
    assert len(list(tmp_path.glob("pictures-*.bin"))) > 2
    assert stored(tmp_path) == expected(range(20))


def test_equal_pictures_are_stored_once(tmp_path: Path) -> None:
    with PictureStore(tmp_path, "as ever") as store:
        store.add(0, file("a.jpg"), picture(1))
        store.add(1, file("b.jpg"), picture(1))
        assert store.shard_sizes() == [len(picture(1).jpeg)]
        one, other = store.get(0, "a.jpg"), store.get(1, "b.jpg")
    assert one is not None
    assert other is not None
    assert (one.shard, one.offset) == (other.shard, other.offset)


def test_a_file_that_has_changed_since_is_not_held(tmp_path: Path) -> None:
    fill(tmp_path, range(1))
    with PictureStore(tmp_path, "as ever") as store:
        assert store.holds(0, file("0.jpg"))
        assert not store.holds(0, file("0.jpg", modified=2))
        assert not store.holds(0, file("0.jpg", size=11))
        assert not store.holds(1, file("0.jpg"))


def test_other_settings_begin_anew(tmp_path: Path) -> None:
    fill(tmp_path, range(20), shard_bytes=200)
    fill(tmp_path, range(5, 8), "other settings")
    with PictureStore(tmp_path, "other settings") as store:
        assert store.get(0, "1.jpg") is None
        assert store.shard_sizes() == [sum(len(picture(number).jpeg) for number in range(5, 8))]


@pytest.mark.parametrize("lost", [1, 7, 100, 1500])
def test_after_a_torn_journal_the_result_is_as_without_it(tmp_path: Path, lost: int) -> None:
    fill(tmp_path, range(20), shard_bytes=200)
    whole = snapshot(tmp_path)
    journal = tmp_path / JOURNAL_NAME
    journal.write_bytes(journal.read_bytes()[:-lost])
    fill(tmp_path, range(20), shard_bytes=200)
    assert snapshot(tmp_path) == whole


def test_pictures_that_did_not_reach_the_disk_are_stored_again(tmp_path: Path) -> None:
    fill(tmp_path, range(20))
    whole = snapshot(tmp_path)
    shard = tmp_path / shard_name(0)
    shard.write_bytes(shard.read_bytes()[:-150])
    assert len(stored(tmp_path)) < 20
    fill(tmp_path, range(20))
    assert snapshot(tmp_path) == whole


def test_a_journal_of_garbage_begins_anew(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    (tmp_path / JOURNAL_NAME).write_bytes(b"\0\xff garbage\n" * 5)
    assert stored(tmp_path) == {}

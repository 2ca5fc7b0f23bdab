"""Opening a prepared data set, whole or damaged."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest

from model.data.picture_store import JOURNAL_NAME, shard_name
from model.data.prepare import PrepareOptions, prepare
from model.data.prepared import open_prepared
from model.data.prepared_form import FACTS_NAME, Texts
from model.data.sample import DataError
from model.pictures.decode import decode, resize_for_model
from tests.datasets import write_n24news


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fixture = write_n24news(tmp_path / "data", 6)
    prepare(fixture.spec, tmp_path / "out", PrepareOptions(max_side=64))
    return tmp_path / "out"


def test_pixels_are_the_plain_preprocessing_of_the_stored_pictures(folder: Path) -> None:
    split = open_prepared(folder, "train")
    chosen = np.array([3, 0, 3])
    expected = [resize_for_model(decode(split.pictures.jpeg(index), target=32), 32) for index in chosen]
    assert np.array_equal(split.pixels(chosen, 32), np.stack(expected))


def test_no_pictures_are_no_pixels(folder: Path) -> None:
    assert open_prepared(folder, "train").pixels(np.array([], np.int64), 32).shape == (0, 32, 32, 3)


def test_many_threads_read_the_same_pixels(folder: Path) -> None:
    split = open_prepared(folder, "train")
    everything = np.arange(split.image_count)
    expected = split.pixels(everything, 32)
    with ThreadPoolExecutor(4) as pool:
        for pixels in pool.map(lambda _: split.pixels(everything, 32), range(8)):
            assert np.array_equal(pixels, expected)


def test_a_model_that_takes_larger_pictures_is_told_what_to_do(folder: Path) -> None:
    with pytest.raises(DataError, match=r"of 64 px .* takes 224: prepare it again with --max-side 224"):
        open_prepared(folder, "train").pixels(np.array([0]), 224)


def texts(*values: str) -> Texts:
    encoded = [value.encode() for value in values]
    ends = np.cumsum([len(value) for value in encoded], dtype=np.int64)
    return Texts(np.frombuffer(b"".join(encoded), np.uint8), ends)


def test_texts_are_a_sequence_of_str() -> None:
    values = ["", "Zürich", "", "東京 🎌", "last"]
    stored = texts(*values)
    assert list(stored) == values
    assert (stored[-1], stored[1:4:2], len(stored)) == ("last", ["Zürich", "東京 🎌"], 5)


def test_a_text_beyond_the_end_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        texts("one")[1]


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none is not there"):
        open_prepared(tmp_path / "none", "train")


def test_any_other_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no prepared data set"):
        open_prepared(tmp_path, "train")


@pytest.mark.parametrize("name", ["out", "out.part"])
def test_an_unfinished_folder_says_how_it_is_finished(tmp_path: Path, name: str) -> None:
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / JOURNAL_NAME).touch()
    with pytest.raises(DataError, match=rf"{name} is not finished: run the same entityclip prepare again"):
        open_prepared(tmp_path / name, "train")


def test_a_newer_format_is_one_line(folder: Path) -> None:
    facts = msgspec.json.decode((folder / FACTS_NAME).read_bytes())
    facts |= {"format_version": 7, "unheard_of": True}
    (folder / FACTS_NAME).write_bytes(msgspec.json.encode(facts))
    with pytest.raises(DataError, match="knows format 1, not 7"):
        open_prepared(folder, "train")


def cut(name: str, keep: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:keep])

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    "damage",
    [
        cut(FACTS_NAME, 100),
        cut(FACTS_NAME, 0),
        cut(shard_name(0), 5000),
        cut("train/image_index.npy", 150),
        cut("train/image_index.npy", 0),
        cut("train/captions.npy", 200),
        cut("train/captions-ends.npy", 140),
        cut("train/places.npy", 160),
        remove(shard_name(0)),
        remove("train/text_group.npy"),
        remove("train/ids.npy"),
    ],
)
def test_damage_is_one_line_that_names_the_file(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    with pytest.raises(DataError, match=str(folder)) as error:
        open_prepared(folder, "train")
    assert "\n" not in str(error.value)


def test_an_index_of_another_split_is_damage(folder: Path) -> None:
    (folder / "train" / "image_index.npy").write_bytes((folder / "val" / "image_index.npy").read_bytes())
    with pytest.raises(DataError, match=r"image_index\.npy is damaged"):
        open_prepared(folder, "train")


def test_a_damaged_picture_is_one_line(folder: Path) -> None:
    path = folder / shard_name(0)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(DataError, match="its picture 2 is damaged"):
        open_prepared(folder, "train").pixels(np.array([2]), 32)
